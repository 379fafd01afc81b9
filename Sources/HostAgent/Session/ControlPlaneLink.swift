import AgentCore
import AgentProtocol
import BerthModel
package import Logging
package import NIOCore
import NIOHTTP1
import NIOSSL
import ServiceRuntime
import WebSocketTransport

/// Keeps a session with the control plane, for ever: connects, runs it, waits as `ReconnectBackoff` says. Workloads never
/// wait for it.
package actor ControlPlaneLink {
    package enum Condition: Hashable, Sendable {
        case connecting
        case connected(epoch: Int)
        case waiting(reason: String)
    }

    private let configuration: AgentConfiguration
    private let loop: ReconcileLoop
    private let observer: HostObserver
    private let sampler: ActivitySampler
    private let mailbox: OutgoingMailbox
    private let store: DesiredStateStore
    private let facts: HostFacts
    private let time: MonotonicTime
    private let group: any EventLoopGroup
    private let log: Logger
    private let process: String

    private var backoff = ReconnectBackoff()
    private var lastSaid: String?
    private var writer: WebSocketConnection.Writer?
    package private(set) var condition = Condition.connecting

    package init(
        configuration: AgentConfiguration, loop: ReconcileLoop, observer: HostObserver, sampler: ActivitySampler,
        mailbox: OutgoingMailbox, store: DesiredStateStore, facts: HostFacts, time: MonotonicTime,
        group: any EventLoopGroup, log: Logger
    ) {
        self.configuration = configuration
        self.loop = loop
        self.observer = observer
        self.sampler = sampler
        self.mailbox = mailbox
        self.store = store
        self.facts = facts
        self.time = time
        self.group = group
        self.log = log
        process = String(UInt64.random(in: .min ... .max), radix: 16)
    }

    /// Ends only when cancelled.
    package func run() async throws {
        while true {
            let ending = try await oneSession()
            let delay = backoff.ended(ending, random: .random(in: 0..<1))
            try await Task.sleep(for: Duration(delay))
        }
    }

    /// Tells the control plane that this agent ends in order; bounded by what a socket takes at once.
    package func sayGoodbye() async {
        guard let writer else { return }
        let text = try? JSONCoding.encodeText(AgentMessage.goodbye(reason: "agent stopped"))
        if let text { try? await writer.send(text) }
        await writer.close(code: 1001, reason: "agent stopped")
    }

    private func oneSession() async throws -> ReconnectBackoff.Ending {
        condition = .connecting
        let started = time.now
        do {
            let connection = try await connect()
            let session = AgentSession(
                agent: configuration.agent, process: process, loop: loop, observer: observer, sampler: sampler,
                mailbox: mailbox, store: store, facts: facts, log: log
            )
            let end = try await session.run(connection) { writer, epoch in await self.opened(writer, epoch: epoch) }
            writer = nil
            if time.now - started >= ReconnectBackoff.stableAfter, await mailbox.acknowledgedInSession {
                backoff.sessionWasStable()
            }
            return ended(end)
        } catch let error as ConnectError {
            say("control plane not reachable; workloads go on", "\(error)")
            condition = .waiting(reason: "\(error)")
            switch error {
            case .refused(let status, _, _) where [401, 403, 404].contains(status): return .notAccepted
            case .refused(_, let seconds?, _): return .askedToWait(seconds: seconds)
            default: return .unreachable
            }
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            writer = nil
            say("session failed; workloads go on", "\(error)")
            condition = .waiting(reason: "\(error)")
            return .closed
        }
    }

    private func connect() async throws -> WebSocketConnection {
        let token: String
        do {
            // Read each time: a new registration is picked up without a restart.
            token = try DurableFile.readSecret(configuration.tokenFile)
        } catch {
            throw ConnectError.unreachable("\(error)")
        }
        var url = configuration.server
        url.target =
            (url.target.hasSuffix("/") ? String(url.target.dropLast()) : url.target)
            + "/ws/agent/\(configuration.agent)"
        return try await WebSocketClient.connect(
            to: url, headers: ["Authorization": "Bearer \(token)", "User-Agent": "berth-agent/\(BerthVersion.text)"],
            subprotocol: ProtocolLimits.subprotocol,
            limits: WebSocketLimits(frameBytes: ProtocolLimits.frameBytes, messageBytes: ProtocolLimits.messageBytes),
            options: try configuration.connectOptions(environment: ProgramEnvironment.variables()), group: group)
    }

    private func opened(_ writer: WebSocketConnection.Writer, epoch: Int) {
        self.writer = writer
        condition = .connected(epoch: epoch)
        lastSaid = nil
        log.info(
            "connected to the control plane", metadata: ["server": "\(configuration.server)", "epoch": "\(epoch)"])
    }

    private func ended(_ end: AgentSession.End) -> ReconnectBackoff.Ending {
        say("session ended; workloads go on", end.reason)
        condition = .waiting(reason: end.reason)
        return end.ending
    }

    /// A lost connection is said once, not with every attempt.
    private func say(_ what: Logger.Message, _ reason: String) {
        guard lastSaid != reason else { return }
        lastSaid = reason
        log.warning(what, metadata: ["server": "\(configuration.server)", "reason": "\(reason)"])
    }
}

extension AgentConfiguration {
    /// TLS trust and proxy of every connection to the control plane.
    func connectOptions(environment: [String: String]) throws -> ConnectOptions {
        try ConnectOptions.toControlPlane(server, caFile: caFile, environment: environment)
    }
}

extension ConnectOptions {
    static func toControlPlane(
        _ server: RemoteURL, caFile: String?, environment: [String: String]
    ) throws -> ConnectOptions {
        var options = ConnectOptions()
        if let caFile {
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.additionalTrustRoots = [.certificates(try NIOSSLCertificate.fromPEMFile(caFile))]
            options.tls = tls
        }
        options.proxy = proxy(for: server, environment)
        return options
    }

    private static func proxy(for server: RemoteURL, _ environment: [String: String]) -> RemoteURL? {
        guard server.isSecure, !server.isLoopback,
            let text = environment["HTTPS_PROXY"] ?? environment["https_proxy"], !text.isEmpty
        else { return nil }
        let exceptions = (environment["NO_PROXY"] ?? environment["no_proxy"] ?? "").split(separator: ",")
            .map { $0.drop { $0 == " " || $0 == "." } }
        let isExcepted = exceptions.contains { $0 == "*" || server.host == $0 || server.host.hasSuffix(".\($0)") }
        return isExcepted ? nil : RemoteURL(text)
    }
}
