import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
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
    }

    let store: Store
    let authenticator: Authenticator
    let admission: SessionAdmission
    let limiter: RateLimiter
    let trustedProxies: [AddressRange]

    func decide(_ head: HTTPRequestHead, from peer: String) async -> UpgradeDecision<Purpose> {
        let path = String(head.uri.prefix { $0 != "?" })
        do {
            let isEvents = path == "/ws/events" || path == "/api/containers/events"
            let agentID = Self.agentID(path)
            guard isEvents || agentID != nil else { return .plainHTTP }
            guard let (text, caller) = try await authenticate(head) else { return await unauthorized(head, peer) }
            if let agentID { return try await agent(agentID, caller, head) }
            return try await events(text, caller, head)
        } catch {
            return Self.refusal(.serviceUnavailable, "the store does not answer", retryAfter: 5)
        }
    }

    /// Counted by address, as every request without a valid token.
    private func unauthorized(_ head: HTTPRequestHead, _ peer: String) async -> UpgradeDecision<Purpose> {
        let address = AddressRange.client(
            peer: peer, forwarded: head.headers["X-Forwarded-For"], trusted: trustedProxies)
        if let verdict = await limiter.count(.unknown, by: AddressRange.counted(address)), !verdict.isAllowed {
            return Self.refusal(.tooManyRequests, "rate limit exceeded", retryAfter: verdict.retryAfter)
        }
        return Self.refusal(.unauthorized, "unauthorized")
    }

    private func events(
        _ text: String, _ caller: Caller, _ head: HTTPRequestHead
    ) async throws -> UpgradeDecision<Purpose> {
        // An agent's own token speaks for its agent alone.
        guard caller.token.agent == nil else { return Self.refusal(.unauthorized, "unauthorized") }
        guard (try? caller.require(.read)) != nil else { return Self.refusal(.forbidden, "insufficient permissions") }
        // Its first frame is the whole list.
        if let verdict = await limiter.count(.list, by: caller.user.id), !verdict.isAllowed {
            return Self.refusal(.tooManyRequests, "rate limit exceeded", retryAfter: verdict.retryAfter)
        }
        let after = head.uri.split(separator: "?", maxSplits: 1).dropFirst().first?
            .split(separator: "&").first { $0.hasPrefix("after=") }.flatMap { Int($0.dropFirst("after=".count)) }
        // A client that offers subprotocols wants one of them back.
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        let chosen = offered.first { !$0.hasPrefix("rexec.token.") }.map(String.init)
        return .accept(subprotocol: chosen, .events(caller, text: text, after: after))
    }

    private func agent(
        _ id: AgentID?, _ caller: Caller, _ head: HTTPRequestHead
    ) async throws -> UpgradeDecision<Purpose> {
        // Another user's agent does not exist.
        guard let id, let agent = try await store.agent(id), agent.userID == caller.user.id else {
            return Self.refusal(.notFound, "agent not found")
        }
        guard caller.token.scopes.contains(.agent), caller.token.agent == id else {
            return Self.refusal(.forbidden, "the token is not this agent's")
        }
        guard agent.frozenAt == nil else {
            return Self.refusal(
                .conflict,
                "two programs use this agent's identity; register one of them anew, then start the agent entry",
                retryAfter: 300)
        }
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        let speaksOurs = offered.contains { $0 == ProtocolLimits.subprotocol }
        // One of a later version must not be taken for one that speaks none.
        if !speaksOurs, offered.contains(where: { $0.hasPrefix(ProtocolLimits.subprotocolFamily) }) {
            return Self.refusal(.upgradeRequired, "offer the subprotocol \(ProtocolLimits.subprotocol)")
        }
        guard await admission.admit() else {
            return Self.refusal(.serviceUnavailable, "too many agents connect at once", retryAfter: 2)
        }
        if speaksOurs { return .accept(subprotocol: ProtocolLimits.subprotocol, .agent(id)) }
        let chosen = offered.first { !$0.hasPrefix("rexec.token.") }.map(String.init)
        return .accept(subprotocol: chosen, .terminalAgent(id))
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

    private static func refusal(
        _ status: HTTPResponseStatus, _ message: String, retryAfter: Int? = nil
    ) -> UpgradeDecision<Purpose> {
        let headers: HTTPHeaders = retryAfter.map { ["Retry-After": String($0)] } ?? [:]
        let body = (try? JSONCoding.encodeText(["error": message])) ?? "{}"
        return .refuse(status: status, headers: headers, body: body)
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
