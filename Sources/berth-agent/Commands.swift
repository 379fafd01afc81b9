import ArgumentParser
import BerthModel
import FoundationEssentials
import Glibc
import HostAgent
import Logging
import NIOPosix
import ServiceLifecycle
import ServiceRuntime
import UnixSignals
import WebSocketTransport

enum AgentVersion {
    static let text = BerthVersion.text
}

struct ConfigOption: ParsableArguments {
    @Option(name: .customLong("config"), help: "The configuration file.")
    var path: String = AgentConfiguration.defaultPath

    /// Nil where the default file is not there; a file that was named must be.
    func read() throws -> (name: String, text: String)? {
        do {
            return (path, String(decoding: try DurableFile.read(path, limit: 1024 * 1024), as: UTF8.self))
        } catch let failure as DurableFile.Failure {
            if failure.isMissing, path == AgentConfiguration.defaultPath { return nil }
            throw ProgramFailure(
                .configuration, "\(failure)\(failure.isMissing ? "; berth-agent register writes one" : "")")
        }
    }

    func load() throws -> AgentConfiguration {
        do {
            return try AgentConfiguration.load(file: try read(), environment: ProgramEnvironment.variables())
        } catch let refusal as SettingsReader.Refusal {
            throw ProgramFailure(.configuration, refusal.description)
        }
    }
}

struct Register: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes this host known to a control plane and writes the configuration (mode 0600).",
        discussion: """
            The token is a user's, with the scope "agent"; it is read from --token-file or the variable \
            BERTH_TOKEN and is not kept. The agent gets a token of its own.
            """)

    @Option(help: "URL of the control plane, for example https://berth.example.com.")
    var server: String
    @Option(help: "File with a user's token.")
    var tokenFile: String?
    @Option(help: "Name of this host in the listing; the host name if not given.")
    var name: String?
    @Option(help: "Tags, with commas between.")
    var tags: String?
    @Option(help: "The configuration file to write.")
    var config: String = AgentConfiguration.defaultPath
    @Option(help: "PEM file of the authority that signed the control plane's certificate.")
    var caFile: String?
    @Flag(help: "Allow http:// to another machine: tokens then travel in the clear.")
    var allowPlaintext = false
    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() async throws {
        let environment = ProgramEnvironment.variables()
        guard let url = RemoteURL(server) else {
            throw ProgramFailure(
                .usage, "--server: found \"\(server)\", expected a URL such as https://berth.example.com")
        }
        let token: String
        if let tokenFile {
            do {
                token = try DurableFile.readSecret(tokenFile)
            } catch {
                throw ProgramFailure(.usage, "--token-file: \(error)")
            }
        } else if let variable = environment["BERTH_TOKEN"], !variable.isEmpty {
            token = variable
        } else {
            throw ProgramFailure(.usage, "give a user's token by --token-file or BERTH_TOKEN")
        }
        var hostName = utsname()
        uname(&hostName)
        let node = withUnsafeBytes(of: hostName.nodename) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let registration = Registration(
            server: url, userToken: token, name: name ?? environment["BERTH_NAME"] ?? node,
            tags: (tags ?? environment["BERTH_TAGS"] ?? "").split(separator: ",").map(String.init),
            configurationPath: try absolute(config), engine: environment["BERTH_ENGINE"],
            stateDirectory: environment["BERTH_STATE_DIRECTORY"], caFile: caFile ?? environment["BERTH_CA_FILE"],
            allowPlaintext: allowPlaintext)
        let registered = try await registration.run(
            environment: environment, group: .singletonMultiThreadedEventLoopGroup)
        if json {
            ProgramEnvironment.printLine(try JSONCoding.encodePretty(registered))
        } else {
            ProgramEnvironment.printLine("registered as agent:\(registered.id) (\(registered.name))")
            ProgramEnvironment.printLine("configuration: \(registered.config)")
            ProgramEnvironment.printLine("next: berth-agent run --config \(registered.config)")
        }
    }

    private func absolute(_ path: String) throws -> String {
        guard !path.hasPrefix("/") else { return path }
        guard let folder = getcwd(nil, 0) else { throw ProgramFailure(.failure, "the working folder cannot be read") }
        defer { free(folder) }
        return String(cString: folder) + "/" + path
    }
}

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs the agent until SIGTERM or SIGINT. Stopping it stops no workload.")

    @OptionGroup var config: ConfigOption

    func run() async throws {
        let configuration = try config.load()
        LogOutput.bootstrap(format: configuration.log.format, level: configuration.log.level)
        let log = Logger(label: "berth-agent")
        let service = try AgentService(
            configuration, manager: ServiceManager(environment: ProgramEnvironment.variables()),
            group: .singletonMultiThreadedEventLoopGroup, log: log)
        var quiet = log
        quiet.logLevel = .error
        let services = ServiceGroup(
            configuration: .init(
                services: [.init(service: service, successTerminationBehavior: .gracefullyShutdownGroup)],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet))
        try await services.run()
    }
}

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what the running agent sees: connection, Engine, workloads.",
        discussion: "Asks over the Unix socket in the state directory; needs neither the control plane nor the Engine.")

    @OptionGroup var config: ConfigOption
    @Flag(help: "Print the report as JSON.")
    var json = false

    func run() async throws {
        let directory = AgentConfiguration.stateDirectory(
            file: try config.read(), environment: ProgramEnvironment.variables())
        let answer = try await LocalSocket.ask(
            "status", path: LocalSocket.path(stateDirectory: directory),
            group: .singletonMultiThreadedEventLoopGroup)
        let report = try JSONCoding.decode(AgentReport.self, from: answer)
        ProgramEnvironment.printLine(json ? try JSONCoding.encodePretty(report) : report.text)
    }
}

struct CheckConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config",
        abstract: "Says everything that is wrong with the configuration, or that it is usable.")

    @OptionGroup var config: ConfigOption

    func run() async throws {
        _ = try config.load()
        ProgramEnvironment.printLine("\(config.path): usable")
    }
}

struct Version: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Prints the version.")
    func run() async throws { ProgramEnvironment.printLine("berth-agent \(AgentVersion.text)") }
}
