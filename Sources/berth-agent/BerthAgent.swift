import ArgumentParser
import HostAgent
import NIOCore
import ProgramEntry
import ServiceRuntime

/// Parses, runs, and turns errors into exit codes. An error that leaves `main` would print a backtrace instead.
@main
enum BerthAgent {
    static func main() async {
        // One loop carries everything that an agent does; the default is one per core.
        NIOSingletons.groupLoopCountSuggestion = 1
        await ProgramEntry.run(AgentCommand.self)
    }
}

struct AgentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "berth-agent",
        abstract: "Runs containers on this host as its control plane wants them.",
        discussion: """
            Settings come from flags, the environment (BERTH_SERVER, BERTH_ENGINE, BERTH_STATE_DIRECTORY, …: the name of \
            the setting in capitals after BERTH_), the configuration file, and defaults, in this order. docs/configuration.md \
            describes each.

            Exit codes: 0 success, 1 failure, 2 usage, 69 something that is needed does not answer, 75 another agent holds \
            the state directory, 77 missing rights, 78 unusable configuration.
            """,
        version: AgentVersion.text,
        subcommands: [
            Register.self, Run.self, Status.self, PlanCommand.self, Explain.self, History.self, CollectImages.self,
            CheckConfig.self,
            Version.self,
        ])
}
