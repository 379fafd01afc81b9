import ArgumentParser
import BerthModel
import ControlPlane
import ControlPlaneCore
import ControlPlaneStore
import Logging
import ServiceLifecycle
import ServiceRuntime
import UnixSignals

struct CommonOptions: ParsableArguments {
    @Option(name: .customLong("config"), help: "The configuration file.")
    var path: String = ServerConfiguration.defaultPath
    @Option(help: "The database: sqlite: and a path.")
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

    private func read() throws -> (name: String, text: String)? {
        do {
            return (path, String(decoding: try DurableFile.read(path, limit: 1024 * 1024), as: UTF8.self))
        } catch let failure as DurableFile.Failure {
            if failure.isMissing, path == ServerConfiguration.defaultPath { return nil }
            throw ProgramFailure(.configuration, failure.description)
        }
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
            configuration, store: try ControlPlaneService.openStore(path: configuration.databasePath),
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

struct User: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Manages users.", subcommands: [Create.self])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Creates a user; works while the server runs.")

        @OptionGroup var common: CommonOptions
        @Option(help: "Unique name.")
        var name: String
        @Option(help: "guest, free, pro or enterprise.")
        var tier: String = "free"
        @Option(help: "E-mail address.")
        var email: String = ""
        @Flag(help: "Make the user an administrator.")
        var admin = false
        @Flag(help: "Print the user as JSON.")
        var json = false

        func run() async throws {
            guard let tier = Tier(rawValue: tier) else {
                let allowed = Tier.allCases.map(\.rawValue).joined(separator: ", ")
                throw ProgramFailure(.usage, "--tier: found \"\(self.tier)\", expected one of \(allowed)")
            }
            guard (1...128).contains(name.utf8.count) else {
                throw ProgramFailure(.usage, "--name: expected 1 to 128 bytes of text")
            }
            let store = try ControlPlaneService.openStore(path: try common.load().databasePath)
            let user = UserRecord(id: Secrets.newUserID(), name: name, email: email, tier: tier, isAdmin: admin)
            guard try await store.create(user, now: Timestamp.now()) == .created else {
                throw ProgramFailure(.failure, "a user named \"\(name)\" exists already")
            }
            let fields: [String: JSONValue] = [
                "id": .string(user.id), "name": .string(name), "email": .string(email), "tier": .string(tier.rawValue),
                "is_admin": .bool(admin),
            ]
            ProgramEnvironment.printLine(
                json ? try JSONCoding.encodePretty(fields) : "user \(name) created: \(user.id), tier \(tier.rawValue)")
        }
    }
}

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Manages tokens.", subcommands: [Create.self])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Creates a token and prints it, once; works while the server runs.")

        @OptionGroup var common: CommonOptions
        @Option(help: "Name of the user.")
        var user: String
        @Option(help: "read, write, agent, admin; with commas between.")
        var scopes: String = "read,write"
        @Option(help: "What it is for.")
        var name: String = "token"
        @Option(help: "Days until it expires; never if not given.")
        var expiresIn: Int?
        @Flag(help: "Print the token as JSON.")
        var json = false

        func run() async throws {
            let words = scopes.split(separator: ",").map(String.init)
            let wanted = Set(words.compactMap(Scope.init))
            guard !wanted.isEmpty, wanted.count == Set(words).count else {
                let allowed = Scope.allCases.map(\.rawValue).joined(separator: ", ")
                throw ProgramFailure(
                    .usage, "--scopes: found \"\(scopes)\", expected some of \(allowed), with commas between")
            }
            if let expiresIn, !(1...3650).contains(expiresIn) {
                throw ProgramFailure(.usage, "--expires-in: found \(expiresIn), expected 1 to 3650 days")
            }
            let store = try ControlPlaneService.openStore(path: try common.load().databasePath)
            guard let owner = try await store.user(named: user) else {
                throw ProgramFailure(.failure, "there is no user named \"\(user)\"; berth-server user create makes one")
            }
            if wanted.contains(.admin), !owner.isAdmin {
                throw ProgramFailure(
                    .failure, "\"\(user)\" is no administrator, so a token with the scope admin would be of no use")
            }
            let (token, text) = TokenIssue.token(for: owner, name: name, scopes: wanted, days: expiresIn)
            try await store.create(token, hash: Secrets.hash(text))
            let fields: [String: JSONValue] = [
                "id": .string(token.id), "token": .string(text), "user_id": .string(owner.id),
                "user": .string(owner.name),
                "scopes": .array(token.scopes.map(\.rawValue).sorted().map { .string($0) }),
                "expires_at": token.expiresAt.map { .string(Timestamp.text(seconds: $0)) } ?? .null,
            ]
            ProgramEnvironment.printLine(json ? try JSONCoding.encodePretty(fields) : text)
        }
    }
}

struct CheckConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Says everything that is wrong with the configuration, or that it is usable.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        _ = try common.load()
        ProgramEnvironment.printLine("\(common.path): usable")
    }
}

struct Version: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Prints the version.")
    func run() async throws { ProgramEnvironment.printLine("berth-server \(BerthVersion.text)") }
}
