import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import HTTPTypes
import NIOCore
import NIOHTTP1
import ServiceRuntime
import WebSocketTransport

/// Decides about every request that wants to become a WebSocket.
struct SocketGate: Sendable {
    /// What an accepted socket is for.
    enum Purpose: Sendable {
        case agent(AgentID)
        /// Of the reference product.
        case terminalAgent(AgentID)
        case events(Caller, text: String, after: Int?)

        /// Of what the other end may send.
        fileprivate var limits: WebSocketLimits {
            switch self {
            case .agent: .init(frameBytes: ProtocolLimits.frameBytes, messageBytes: ProtocolLimits.messageBytes)
            case .terminalAgent: .init(frameBytes: ProtocolLimits.frameBytes, messageBytes: ProtocolLimits.frameBytes)
            case .events: EventStream.limits
            }
        }
    }

    let store: Store
    let authenticator: Authenticator
    let admission: SessionAdmission
    let limiter: RateLimiter
    let trustedProxies: [AddressRange]
    let hub: EventHub
    /// Open event streams of one user.
    let mostStreams: Int

    func decide(_ head: HTTPRequestHead, from peer: String) async -> UpgradeDecision<Purpose> {
        let path = String(head.uri.prefix { $0 != "?" })
        do {
            let isEvents = path == "/ws/events" || path == "/api/containers/events"
            let agentID = Self.agentID(path)
            guard isEvents || agentID != nil else { return .plainHTTP }
            guard let (text, caller) = try await authenticate(head) else { return await unauthorized(head, peer) }
            if let agentID { return try await agent(agentID, caller, head) }
            return try await events(text, caller, head)
        } catch let error as APIError {
            return .refusing(error)
        } catch {
            return .refusing(.storeUnavailable)
        }
    }

    /// Counted by address, as every request without a valid token.
    private func unauthorized(_ head: HTTPRequestHead, _ peer: String) async -> UpgradeDecision<Purpose> {
        let address = AddressRange.client(
            peer: peer, forwarded: head.headers["X-Forwarded-For"], trusted: trustedProxies)
        if let verdict = await limiter.count(.unknown, by: AddressRange.counted(address)), !verdict.isAllowed {
            return .refusing(.rateLimited(verdict))
        }
        return .refusing(.unauthorized)
    }

    private func events(
        _ text: String, _ caller: Caller, _ head: HTTPRequestHead
    ) async throws -> UpgradeDecision<Purpose> {
        try caller.require(.read)
        // Its first frame is the whole list.
        if let verdict = await limiter.count(.list, by: caller.user.id), !verdict.isAllowed {
            return .refusing(.rateLimited(verdict))
        }
        guard await hub.count(of: caller.user.id) < mostStreams else {
            return .refusing(
                APIError(.tooManyRequests, "too many event streams", ["limit": .integer(mostStreams)], retryAfter: 30))
        }
        let after = head.uri.split(separator: "?", maxSplits: 1).dropFirst().first?
            .split(separator: "&").first { $0.hasPrefix("after=") }.flatMap { Int($0.dropFirst("after=".count)) }
        // A client that offers subprotocols wants one of them back.
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        let chosen = offered.first { !$0.hasPrefix("rexec.token.") }.map(String.init)
        return .accepting(.events(caller, text: text, after: after), subprotocol: chosen)
    }

    private func agent(
        _ id: AgentID?, _ caller: Caller, _ head: HTTPRequestHead
    ) async throws -> UpgradeDecision<Purpose> {
        // Another user's agent does not exist.
        guard let id, let agent = try await store.agent(id), agent.userID == caller.user.id else {
            return .refusing(.agentNotFound)
        }
        guard caller.token.scopes.contains(.agent), caller.token.agent == id else {
            return .refusing(APIError(.forbidden, "the token is not this agent's"))
        }
        guard agent.frozenAt == nil else {
            return .refusing(
                APIError(
                    .conflict,
                    "two programs use this agent's identity; register one of them anew, then start the agent entry",
                    retryAfter: 300))
        }
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        let speaksOurs = offered.contains { $0 == ProtocolLimits.subprotocol }
        // One of a later version must not be taken for one that speaks none.
        if !speaksOurs, offered.contains(where: { $0.hasPrefix(ProtocolLimits.subprotocolFamily) }) {
            return .refusing(APIError(.upgradeRequired, "offer the subprotocol \(ProtocolLimits.subprotocol)"))
        }
        guard await admission.admit() else {
            return .refusing(APIError(.serviceUnavailable, "too many agents connect at once", retryAfter: 2))
        }
        if speaksOurs { return .accepting(.agent(id), subprotocol: ProtocolLimits.subprotocol) }
        let chosen = offered.first { !$0.hasPrefix("rexec.token.") }.map(String.init)
        return .accepting(.terminalAgent(id), subprotocol: chosen)
    }

    private func authenticate(_ head: HTTPRequestHead) async throws -> (String, Caller)? {
        guard let text = BearerToken.text(of: head) else { return nil }
        return try await authenticator.caller(text).map { (text, $0) }
    }

    /// Nil where the path is none of an agent's socket; a nil id inside where it names no possible one.
    private static func agentID(_ path: String) -> AgentID?? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        switch Array(parts) {
        case let parts where parts.count == 3 && parts[0] == "ws" && parts[1] == "agent":
            return .some(AgentID(String(parts[2])))
        case let parts where parts.count == 4 && parts[0] == "api" && parts[1] == "agents" && parts[3] == "ws":
            return .some(AgentID(String(parts[2])))
        default: return nil
        }
    }
}

extension UpgradeDecision<SocketGate.Purpose> {
    fileprivate static func accepting(_ purpose: SocketGate.Purpose, subprotocol: String?) -> Self {
        .accept(subprotocol: subprotocol, purpose.limits, purpose)
    }

    /// In the words and with the headers of every other refusal.
    fileprivate static func refusing(_ error: APIError) -> Self {
        var headers = HTTPHeaders()
        for field in error.headers { headers.add(name: field.name.canonicalName, value: field.value) }
        return .refuse(
            status: .init(statusCode: error.status.code, reasonPhrase: error.status.reasonPhrase), headers: headers,
            body: JSONValue.object(error.fields).jsonText)
    }
}

/// Admits so many new agent sessions a second: after a restart they come back in turn, not all at once.
actor SessionAdmission {
    private let perSecond: Double
    private var tokens: Double
    private var last = ContinuousClock.now

    init(perSecond: Int) {
        self.perSecond = Double(perSecond)
        tokens = Double(perSecond)
    }

    func admit() -> Bool {
        let now = ContinuousClock.now
        let passed = last.duration(to: now).components
        last = now
        tokens = min(perSecond, tokens + (Double(passed.seconds) + Double(passed.attoseconds) / 1e18) * perSecond)
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }
}
