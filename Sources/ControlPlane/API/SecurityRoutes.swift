import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Crypto
import Foundation
import Hummingbird
import ServiceRuntime

/// A user's second factor at `/api/security/mfa`, and the locks that its codes open: `/api/containers/{id}/mfa-lock` and
/// `/mfa-unlock`, for agents too.
struct SecurityRoutes: Sendable {
    let store: Store
    let containers: ContainerRoutes
    let agents: AgentRoutes
    /// Of wrong codes: a code has a million values, and three of them are good at a time.
    let limiter: RateLimiter

    init(store: Store, containers: ContainerRoutes, agents: AgentRoutes, shared: Store?) {
        self.store = store
        self.containers = containers
        self.agents = agents
        limiter = RateLimiter(RateLimit([.unknown: 5]), shared: shared)
    }

    func add(to group: RouterGroup<APIContext>) {
        group.get("security/mfa", use: status)
        group.post("security/mfa", use: begin)
        group.post("security/mfa/verify", use: verify)
        group.delete("security/mfa", use: remove)
        group.post("containers/:id/mfa-lock") { try await setLock(true, $0, $1) }
        group.post("containers/:id/mfa-unlock") { try await setLock(false, $0, $1) }
    }

    // MARK: the second factor

    @Sendable func status(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        let factor = try await store.secondFactor(of: caller.user.id)
        return .json(
            .object(["enabled": .bool(factor?.isConfirmed ?? false), "pending": .bool(factor?.isConfirmed == false)]))
    }

    /// A new secret, shown this once. It counts from its first code on.
    @Sendable func begin(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        var random = SystemRandomNumberGenerator()
        let secret = TOTP.base32((0..<20).map { _ in UInt8.random(in: .min ... .max, using: &random) })
        guard try await store.beginSecondFactor(secret, of: caller.user.id) else {
            throw APIError(
                .conflict, "mfa is set up already",
                ["message": .string("take it away first: DELETE /api/security/mfa with a code")])
        }
        let account = caller.user.name.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? caller.user.id
        return .json(
            .object([
                "secret": .string(secret),
                "otpauth_url": .string("otpauth://totp/Berth:\(account)?secret=\(secret)&issuer=Berth"),
                "message": .string("send a code to /api/security/mfa/verify; until then it does not count"),
            ]), status: .created)
    }

    @Sendable func verify(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        try await useCode(of: request, caller)
        return .json(.object(["message": .string("mfa is set up"), "enabled": .bool(true)]))
    }

    @Sendable func remove(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        let isNeeded = APIError(.conflict, "something is locked by it", ["message": .string("unlock it first")])
        // Before the code is used up for nothing.
        if try await store.locksSomething(caller.user.id) { throw isNeeded }
        try await useCode(of: request, caller)
        guard try await store.removeSecondFactor(of: caller.user.id) else { throw isNeeded }
        return .json(.object(["message": .string("mfa is taken away"), "enabled": .bool(false)]))
    }

    // MARK: locks

    private func setLock(_ isLocked: Bool, _ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        let notSetUp = APIError(
            .conflict, "mfa is not set up", ["message": .string("set it up first: POST /api/security/mfa")])
        let (id, name, what): (String, String, String)
        if let agent = try ContainerRoutes.agentID(context) {
            let record = try await agents.owned(agent, by: caller)
            if !isLocked { try await useCode(of: request, caller) }
            guard try await store.setLock(isLocked, agent: record.id) else { throw notSetUp }
            (id, name, what) = ("agent:\(record.id)", record.name, "agent")
        } else {
            let record = try await containers.find(context, caller)
            if !isLocked { try await useCode(of: request, caller) }
            guard try await store.setLock(isLocked, container: record.id) else { throw notSetUp }
            try await containers.announce(record.id)
            (id, name, what) = (record.presentedID, record.spec.name, "container")
        }
        return .json(
            .object([
                "message": .string("\(what) \(isLocked ? "locked" : "unlocked")"), "id": .string(id),
                "name": .string(name), "mfa_locked": .bool(isLocked),
            ]))
    }

    /// - Throws: 400 without a code, 403 with a wrong one or one that was used, 429 after five of these.
    private func useCode(of request: Request, _ caller: Caller) async throws {
        var body = try await BodyReader(request, mayBeEmpty: true)
        guard let code = try body.text("code") else {
            throw APIError.badField("code", "nothing", expected: "the six digits of the authenticator")
        }
        guard let factor = try await store.secondFactor(of: caller.user.id),
            let secret = TOTP.bytes(base32: factor.secret)
        else { throw APIError(.conflict, "mfa is not set up") }
        // Counted before it is looked at, so that many at once are many.
        if let verdict = await limiter.count(.unknown, by: caller.user.id + " codes"), !verdict.isAllowed {
            throw APIError.rateLimited(verdict)
        }
        let key = SymmetricKey(data: secret)
        let step = TOTP.step(of: code, at: Timestamp.now(), after: factor.lastStep) { message in
            Array(HMAC<Insecure.SHA1>.authenticationCode(for: message, using: key))
        }
        guard let step, try await store.useCode(ofStep: step, secret: factor.secret, of: caller.user.id) else {
            throw APIError(.forbidden, "invalid code", ["message": .string("wrong, too old, or used already")])
        }
    }
}
