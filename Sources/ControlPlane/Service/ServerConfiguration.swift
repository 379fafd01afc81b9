package import ServiceRuntime

/// All settings of the control plane, read once. `docs/configuration.md` describes each.
package struct ServerConfiguration: Sendable {
    package var host: String
    package var port: Int
    package var databasePath: String
    /// Where the first admin token is written; printed where nil.
    package var adminTokenFile: String?
    package var certificateFile: String?
    package var keyFile: String?
    package var heartbeatSeconds: Int
    /// How long start, stop, delete and PATCH wait for the agent.
    package var confirmSeconds: Int
    /// New agent sessions that are admitted per second.
    package var sessionsPerSecond: Int
    package var defaultRuntime: String
    /// Where a container's volume is mounted.
    package var volumePath: String
    package var log: LogSettings

    package static let defaultPath = "/etc/berth/server.json"

    /// - Throws: `SettingsReader.Refusal` with everything that is wrong.
    package static func load(
        file: (name: String, text: String)?, environment: [String: String], flags: [String: String] = [:]
    ) throws -> ServerConfiguration {
        var settings = SettingsReader(section: "server", file: file, environment: environment, flags: flags)
        let listen = settings.text(
            "listen", default: "127.0.0.1:8080", expected: "an address and a port such as 127.0.0.1:8080"
        ) {
            address($0) != nil
        }
        let folder = environment["STATE_DIRECTORY"] ?? "/var/lib/berth-server"
        let database = settings.text(
            "database", default: "sqlite:\(folder)/berth.sqlite", expected: "sqlite: and a path"
        ) { $0.hasPrefix("sqlite:") && $0.count > "sqlite:".count }
        let (host, port) = address(listen) ?? ("127.0.0.1", 8080)
        let configuration = ServerConfiguration(
            host: host, port: port, databasePath: String(database.dropFirst("sqlite:".count)),
            adminTokenFile: settings.optionalText("admin_token_file", expected: "a path"),
            certificateFile: settings.optionalText("tls_certificate", expected: "the path of a PEM file"),
            keyFile: settings.optionalText("tls_key", expected: "the path of a PEM file"),
            heartbeatSeconds: settings.integer("heartbeat_seconds", default: 15, in: 1...60),
            confirmSeconds: settings.integer("confirm_seconds", default: 30, in: 1...300),
            sessionsPerSecond: settings.integer("agent_sessions_per_second", default: 200, in: 1...100_000),
            defaultRuntime: settings.text("default_runtime", default: "gvisor", expected: "gvisor or runc") {
                ["gvisor", "runc"].contains($0)
            },
            volumePath: settings.text("volume_path", default: "/root", expected: "an absolute path inside containers") {
                $0.hasPrefix("/") && $0.count > 1
            },
            log: LogSettings(from: &settings, environment: environment))
        settings.require(
            (configuration.certificateFile == nil) == (configuration.keyFile == nil), key: "tls_certificate, tls_key",
            found: "one of the two", expected: "both or none")
        try settings.finish()
        return configuration
    }

    /// Host and port of `host:port`, `[::1]:port`; port 0 takes a free one.
    static func address(_ text: String) -> (String, Int)? {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (0...65535).contains(port)
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        return host.isEmpty ? nil : (String(host), port)
    }
}
