package import ControlPlaneCore
package import ControlPlaneStore
package import ServiceRuntime
import WebSocketTransport

/// All settings of the control plane, read once. `docs/configuration.md` describes each.
package struct ServerConfiguration: Sendable {
    package var host: String
    package var port: Int
    package var database: DatabasePlace
    /// Where the first admin token is written; printed where nil.
    package var adminTokenFile: String?
    package var certificateFile: String?
    package var keyFile: String?
    package var heartbeatSeconds: Int
    /// How long start, stop, delete and PATCH wait for the agent.
    package var confirmSeconds: Int
    /// New agent sessions that are admitted per second.
    package var sessionsPerSecond: Int
    /// Open event streams of one user at one control plane.
    package var eventStreamsPerUser: Int
    package var defaultRuntime: String
    /// Where a container's volume is mounted.
    package var volumePath: String
    /// What create takes by name.
    package var images: ImageCatalogue
    /// How much each tier may have, and how many.
    package var tiers: TierLimits
    /// Whose `X-Forwarded-For` is believed.
    package var trustedProxies: [AddressRange]
    package var rateLimit: RateLimit
    /// Whose tokens are accepted beside our own.
    var issuer: TokenIssuer.Settings?
    /// How long a deleted container can be restored.
    package var retentionDays: Int
    package var auditDays: Int
    /// How long a container of a tier with sessions may run.
    package var sessionSeconds: Int
    package var log: LogSettings

    package static let defaultPath = "/etc/berth/server.json"

    /// Nil where sessions have no end.
    func sessionSeconds(of tier: Tier) -> Int? { tier.hasSessions ? sessionSeconds : nil }

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
        let connections = settings.integer("database_connections", default: 8, in: 1...100)
        let database = settings.secretText(
            "database", default: "sqlite:\(folder)/berth.sqlite", expected: DatabasePlace.expected
        ) { DatabasePlace($0, connections: connections) != nil }
        let (host, port) = address(listen) ?? ("127.0.0.1", 8080)
        let issuer = settings.optionalText("oidc_issuer", expected: "an https:// URL; http:// only for this machine") {
            RemoteURL($0).map { $0.isSecure || $0.isLoopback } ?? false
        }
        let audience = settings.optionalText("oidc_audience", expected: "what the issuer calls this control plane")
        let tier = settings.text("oidc_tier", default: "free", expected: "guest, free, pro or enterprise") {
            Tier(rawValue: $0) != nil
        }
        let skew = settings.integer("oidc_skew_seconds", default: 60, in: 0...600)
        let images = ImageCatalogue(&settings) ?? .default
        let tiers = TierLimits(&settings)
        let configuration = ServerConfiguration(
            host: host, port: port,
            database: DatabasePlace(database, connections: connections) ?? .sqlite(path: "\(folder)/berth.sqlite"),
            adminTokenFile: settings.optionalText("admin_token_file", expected: "a path"),
            certificateFile: settings.optionalText("tls_certificate", expected: "the path of a PEM file"),
            keyFile: settings.optionalText("tls_key", expected: "the path of a PEM file"),
            heartbeatSeconds: settings.integer("heartbeat_seconds", default: 15, in: 1...60),
            confirmSeconds: settings.integer("confirm_seconds", default: 30, in: 1...100),
            sessionsPerSecond: settings.integer("agent_sessions_per_second", default: 200, in: 1...100_000),
            eventStreamsPerUser: settings.integer("event_streams_per_user", default: 2000, in: 1...100_000),
            defaultRuntime: settings.text("default_runtime", default: "gvisor", expected: "gvisor or runc") {
                ["gvisor", "runc"].contains($0)
            },
            volumePath: settings.text("volume_path", default: "/root", expected: "an absolute path inside containers") {
                $0.hasPrefix("/") && $0.count > 1
            },
            images: images, tiers: tiers,
            trustedProxies: settings.list("trusted_proxies", expected: "addresses and ranges such as 10.0.0.0/8") {
                AddressRange($0) != nil
            }.compactMap { AddressRange($0) },
            rateLimit: RateLimit([
                .create: settings.integer("creates_per_minute", default: 10, in: 0...1_000_000),
                .operation: settings.integer("operations_per_minute", default: 60, in: 0...1_000_000),
                .list: settings.integer("lists_per_minute", default: 120, in: 0...1_000_000),
                .unknown: settings.integer("unknown_per_minute", default: 60, in: 0...1_000_000),
            ]),
            issuer: issuer.map {
                .init(issuer: $0, audience: audience ?? "", tier: Tier(rawValue: tier) ?? .free, skew: Double(skew))
            },
            retentionDays: settings.integer("retention_days", default: 7, in: 0...3650),
            auditDays: settings.integer("audit_days", default: 365, in: 1...36_500),
            sessionSeconds: settings.integer("session_seconds", default: 50 * 3600, in: 1...31_536_000),
            log: LogSettings(from: &settings, environment: environment))
        settings.require(
            (configuration.certificateFile == nil) == (configuration.keyFile == nil), key: "tls_certificate, tls_key",
            found: "one of the two", expected: "both or none")
        settings.require(
            (issuer == nil) == (audience == nil), key: "oidc_issuer, oidc_audience", found: "one of the two",
            expected: "both or none")
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
