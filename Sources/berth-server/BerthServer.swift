import ArgumentParser
import BerthModel
import ProgramEntry

/// Parses, runs, and turns errors into exit codes.
@main
enum BerthServer {
    static func main() async { await ProgramEntry.run(ServerCommand.self) }
}

struct ServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "berth-server",
        abstract: "The control plane: serves the Container API and the agents that run the containers.",
        discussion: """
            Settings come from flags, the environment (BERTH_LISTEN, BERTH_DATABASE, …: the name of the setting in capitals \
            after BERTH_), the configuration file, and defaults, in this order. docs/configuration.md describes each.

            Exit codes: 0 success, 1 failure, 2 usage, 69 address or database cannot be used, 77 missing rights, 78 unusable \
            configuration.
            """,
        version: BerthVersion.text,
        subcommands: [Serve.self, Migrate.self, Backup.self, User.self, Token.self, CheckConfig.self, Version.self])
}
