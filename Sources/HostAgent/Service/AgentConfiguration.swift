package import AgentCore
package import BerthModel
package import DockerEngine
package import ServiceRuntime
package import WebSocketTransport

/// All settings of the agent, read once. `docs/configuration.md` describes each.
package struct AgentConfiguration: Sendable {
    package var server: RemoteURL
    package var agent: AgentID
    package var tokenFile: String
    package var name: String
    package var tags: [String]
    package var engine: EngineEndpoint
    package var stateDirectory: String
    package var allowPlaintext: Bool
    package var caFile: String?
    /// Engine runtime by the name that a workload's spec uses.
    package var runtimes: [String: String]
    package var relistSeconds: Int
    package var sampleSeconds: Int
    /// How often volumes with a limit are measured.
    package var volumeSeconds: Int
    /// A start that the Engine has not answered by then hangs.
    package var startTimeoutSeconds: Int
    /// What the host's owner allows.
    package var policy: HostPolicy
    /// For containers whose sandbox has a network stack of its own; empty: the host's.
    package var nameServers: [String]
    /// Variables for the scripts of roles: mirrors, proxies, versions.
    package var setUpEnvironment: [String: String]
    /// Path of a file with `user:password` by host of a registry.
    package var registryCredentials: [String: String]
    package var pullReserveMB: Int
    /// 0: never.
    package var collectImagesAbovePercent: Int
    package var log: LogSettings

    package static let defaultPath = "/etc/berth/agent.json"
    package static let defaultStateDirectory = "/var/lib/berth"
    package static let defaultEngine = "unix:///var/run/docker.sock"

    /// Where the running agent's local socket is: all that `berth-agent status` needs to know.
    package static func stateDirectory(
        file: (name: String, text: String)?, environment: [String: String]
    ) -> String {
        var settings = SettingsReader(section: "agent", file: file, environment: environment, flags: [:])
        return settings.text("state_directory", default: environment["STATE_DIRECTORY"] ?? defaultStateDirectory)
    }

    /// - Throws: `SettingsReader.Refusal` with everything that is wrong.
    package static func load(
        file: (name: String, text: String)?, environment: [String: String], flags: [String: String] = [:]
    ) throws -> AgentConfiguration {
        var settings = SettingsReader(section: "agent", file: file, environment: environment, flags: flags)
        let server = settings.optionalText("server", expected: "a URL such as https://berth.example.com") {
            RemoteURL($0) != nil
        }.flatMap { RemoteURL($0) }
        let id = settings.optionalText("agent_id", expected: "the id that `berth-agent register` wrote") {
            AgentID($0) != nil
        }.flatMap { AgentID($0) }
        let credential = environment["CREDENTIALS_DIRECTORY"].map { "\($0)/agent-token" }
        let tokenFile =
            settings.optionalText("token_file", expected: "the path of a file with the agent's token")
            ?? credential.flatMap { DurableFile.exists($0) ? $0 : nil }
        let engine = settings.text(
            "engine", default: defaultEngine, expected: "unix:// and an absolute path of at most 107 bytes"
        ) {
            EngineEndpoint($0) != nil
        }
        let configuration = AgentConfiguration(
            server: server ?? RemoteURL(isSecure: true, host: "invalid", port: 443, target: "/"),
            agent: id ?? AgentID(validated: "invalid"),
            tokenFile: tokenFile ?? "",
            name: settings.text("name", default: "agent"),
            tags: settings.list("tags"),
            engine: EngineEndpoint(engine) ?? EngineEndpoint(defaultEngine)!,
            stateDirectory: settings.text(
                "state_directory", default: environment["STATE_DIRECTORY"] ?? defaultStateDirectory,
                // The local socket lies in it, and a socket's path has at most 107 bytes.
                expected: "an absolute path of at most 90 bytes"
            ) { $0.hasPrefix("/") && $0.utf8.count <= 90 },
            allowPlaintext: settings.flag("allow_plaintext", default: false),
            caFile: settings.optionalText("ca_file", expected: "the path of a PEM file"),
            runtimes: settings.table("runtimes", default: [RuntimeChoice.runc: "runc", RuntimeChoice.gvisor: "runsc"]),
            relistSeconds: settings.integer("relist_seconds", default: 30, in: 5...3600),
            sampleSeconds: settings.integer("sample_seconds", default: 10, in: 1...300),
            volumeSeconds: settings.integer("volume_seconds", default: 30, in: 5...86400),
            startTimeoutSeconds: settings.integer("start_timeout_seconds", default: 60, in: 5...600),
            policy: settings.section("policy") { HostPolicy(&$0) },
            nameServers: settings.list("name_servers", expected: "a list of IP addresses") { text in
                !text.isEmpty
                    && text.utf8.allSatisfy { byte in
                        byte == UInt8(ascii: ".") || byte == UInt8(ascii: ":")
                            || Character(Unicode.Scalar(byte)).isHexDigit
                    }
            },
            setUpEnvironment: settings.table("set_up_environment"),
            registryCredentials: settings.table("registry_credentials"),
            pullReserveMB: settings.integer("pull_reserve_mb", default: 512, in: 0...16_777_216),
            collectImagesAbovePercent: settings.integer("collect_images_above_percent", default: 85, in: 0...100),
            log: LogSettings(from: &settings, environment: environment))
        settings.requirePresent("server", expected: "the control plane's URL; run `berth-agent register` first")
        settings.requirePresent("agent_id", expected: "the id that `berth-agent register` wrote")
        if tokenFile == nil {
            settings.requirePresent("token_file", expected: "the path of a file with the agent's token")
        }
        if let server, !server.isSecure, !server.isLoopback, !configuration.allowPlaintext {
            settings.require(
                false, key: "server", found: "\"\(server)\"",
                expected: "https:// (a token must not travel in the clear; \"allow_plaintext\": true overrides this)")
        }
        try settings.finish()
        return configuration
    }
}

extension HostPolicy {
    fileprivate init(_ settings: inout SettingsReader) {
        self.init()
        images = settings.list("images")
        registries = settings.list("registries")
        runtimes = settings.list("runtimes")
        requiresSandbox = settings.flag("require_sandbox", default: false)
        mostMemoryMB = settings.optionalInteger("most_memory_mb", in: 16...1_048_576)
        mostCPUMillicores = settings.optionalInteger("most_cpu_millicores", in: 10...1_024_000)
        mostDiskMB = settings.optionalInteger("most_disk_mb", in: 64...16_777_216)
        mostPIDs = settings.optionalInteger("most_pids", in: 16...1_000_000)
        mostContainers = settings.optionalInteger("most_containers", in: 0...100_000)
        stopsOverfull = settings.flag("stop_overfull", default: false)
        forbiddenEnvironment = settings.list("forbidden_environment")
        ports = settings.list(
            "ports", expected: #"a list of text, each a port such as "8080" or a range such as "20000-20999""#
        ) {
            HostPolicy.portRange($0) != nil
        }.compactMap { HostPolicy.portRange($0) }
    }
}
