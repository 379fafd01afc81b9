import ArgumentParser
import BerthModel
import ControlPlane
import ControlPlaneStore
import FoundationEssentials
import Glibc
import Logging
import ServiceLifecycle
import ServiceRuntime
import UnixSignals

struct CommonOptions: ParsableArguments {
    @Option(name: .customLong("config"), help: "The configuration file.")
    var path: String = ServerConfiguration.defaultPath
    @Option(help: "The database: sqlite: and a path, or the postgresql:// address of a server.")
    var database: String?

    func load(_ flags: [String: String] = [:]) throws -> ServerConfiguration {
        var flags = flags
        if let database { flags["database"] = database }
        do {
            return try ServerConfiguration.load(
                file: try read(), environment: ProgramEnvironment.variables(), flags: flags)
        } catch let refusal as SettingsReader.Refusal {
            throw ProgramFailure(.configuration, refusal.description)
        }
    }

    /// The database that there is, as it is: a command makes none, and brings none up to date under a server.
    func openStore() async throws -> Store {
        let place = try load().database
        if case .sqlite(let path) = place, !DurableFile.exists(path) {
            throw ProgramFailure(
                .failure,
                "there is no database \(path); --database names another, berth-server migrate makes one")
        }
        let store = try await ControlPlaneService.openStore(place, migrates: false)
        do {
            try await store.requireUpToDate()
        } catch let failure as StoreFailure {
            throw ProgramFailure(.failure, "\(place): \(failure)")
        }
        return store
    }

    /// Keeps that somebody on this machine has changed something, as the API keeps who did. The change is made: where this
    /// fails it is said, and no more.
    func note(_ action: String, _ object: String, in store: Store) async {
        let variables = ProgramEnvironment.variables()
        do {
            try await store.keep(
                AuditRecord(
                    at: Timestamp.now(), userID: "", userName: variables["SUDO_USER"] ?? variables["USER"] ?? "root",
                    tokenID: "command", address: "", action: "berth-server \(action)", object: object, status: 200))
        } catch {
            ProgramEnvironment.printError("warning: done, but not in the audit: \(error)")
        }
    }

    private func read() throws -> (name: String, text: String)? {
        do {
            return (path, String(decoding: try DurableFile.read(path, limit: 1024 * 1024), as: UTF8.self))
        } catch let failure as DurableFile.Failure {
            if failure.isMissing, path == ServerConfiguration.defaultPath { return nil }
            throw ProgramFailure(.configuration, failure.description)
        }
    }
}

/// For commands that say in a line what they did.
struct JSONOption: ParsableArguments {
    @Flag(help: "Print the result as JSON.")
    var json = false

    func say(_ text: String, _ fields: [String: JSONValue]) throws {
        ProgramEnvironment.printLine(json ? try JSONCoding.encodePretty(fields) : text)
    }
}

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves until SIGTERM or SIGINT.",
        discussion: "The first start makes a user \"admin\" and a token, written to --admin-token-file or printed once."
    )

    @OptionGroup var common: CommonOptions
    @Option(help: "Address and port to listen on; port 0 takes a free one. Default 127.0.0.1:8080.")
    var listen: String?
    @Option(help: "Where the first admin token is written (mode 0600).")
    var adminTokenFile: String?

    func run() async throws {
        var flags: [String: String] = [:]
        if let listen { flags["listen"] = listen }
        if let adminTokenFile { flags["admin_token_file"] = adminTokenFile }
        let configuration = try common.load(flags)
        LogOutput.bootstrap(format: configuration.log.format, level: configuration.log.level)
        let log = Logger(label: "berth-server")
        let service = ControlPlaneService(
            configuration, store: try await ControlPlaneService.openStore(configuration.database),
            manager: ServiceManager(environment: ProgramEnvironment.variables()), log: log)
        var quiet = log
        quiet.logLevel = .error
        let group = ServiceGroup(
            configuration: .init(
                services: [.init(service: service, successTerminationBehavior: .gracefullyShutdownGroup)],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet))
        try await group.run()
    }
}

struct Migrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Brings the database up to date, as serve does at its start, and says what it is.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        let place = try common.load().database
        let steps = try await ControlPlaneService.openStore(place).migrations()
        try output.say(
            "\(place): up to date, \(steps.count) steps, the last is \"\(steps.last ?? "-")\"",
            ["database": .string("\(place)"), "steps": .array(steps.map { .string($0) })])
    }
}

struct Backup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes a consistent copy of an SQLite database; works while the server runs.",
        discussion: """
            To go back: stop the server, put the copy in the place of the database, remove the files beside it that end in \
            -wal and -shm, and start. Agents that know something newer are told the older state again.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "The copy; a file that is there already is not overwritten.")
    var file: String
    @OptionGroup var output: JSONOption

    func run() async throws {
        guard case .sqlite(let path) = try common.load().database else {
            throw ProgramFailure(
                .failure, "a copy of a PostgreSQL database is made with pg_dump, while servers run too")
        }
        // Nothing is made where there is nothing.
        guard DurableFile.exists(path) else { throw ProgramFailure(.failure, "there is no database \(path)") }
        guard !DurableFile.exists(file) else { throw ProgramFailure(.failure, "\(file) is there already") }
        // As it is: the copy before an upgrade must be one of before the upgrade.
        let store = try await ControlPlaneService.openStore(.sqlite(path: path), migrates: false)
        do {
            // It holds hashes of tokens and the second factors' secrets.
            try DurableFile.write(Data(), to: file)
            try store.backUp(to: file)
        } catch {
            unlink(file)
            throw ProgramFailure(.failure, "the copy \(file) cannot be written: \(error)")
        }
        try output.say("\(file): a copy of \(path)", ["file": .string(file), "database": .string(path)])
    }
}

struct CheckConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Says everything that is wrong with the configuration, or that it is usable.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var output: JSONOption

    func run() async throws {
        try common.load().check()
        try output.say("\(common.path): usable", ["file": .string(common.path), "usable": .bool(true)])
    }
}

struct Version: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Prints the version.")
    func run() async throws { ProgramEnvironment.printLine("berth-server \(BerthVersion.text)") }
}
