import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import HTTPTypes
import Hummingbird
import ServiceRuntime
import Synchronization

/// Counts the requests of each user, and of each address whose requests carry no valid token. Several control planes on one
/// database count together in its store.
final class RateLimiter: Sendable {
    private struct Key: Hashable {
        var who: String
        var `class`: RateLimit.Class
    }

    private struct State {
        /// Of users and of strangers apart: no number of the latter makes the former begin anew.
        var windows: [Key: RateLimit.Window] = [:]
        var strangers: [Key: RateLimit.Window] = [:]
        var refusals: [Key: (until: ContinuousClock.Instant, verdict: RateLimit.Verdict)] = [:]
    }

    private let limit: RateLimit
    /// Nil where this process is alone.
    private let shared: Store?
    private let state = Mutex(State())
    /// Beyond this many, windows that are over are thrown away.
    private static let most = 10_000

    init(_ limit: RateLimit, shared: Store?) {
        self.limit = limit
        self.shared = shared
    }

    func count(_ class: RateLimit.Class, by who: String) async -> RateLimit.Verdict? {
        guard let shared, let limit = limit.limits[`class`] else {
            return countHere(`class`, by: who, at: Timestamp.now())
        }
        let key = Key(who: who, class: `class`)
        // What was refused is refused until its window ends; the store is not asked for it.
        if var refusal = state.withLock({ $0.refusals[key] }), refusal.until > .now {
            let left = ContinuousClock.now.duration(to: refusal.until) / .seconds(1)
            refusal.verdict.retryAfter = max(1, Int(left.rounded(.up)))
            return refusal.verdict
        }
        guard let counted = try? await shared.countRequest(`class`, by: who, limit: limit) else {
            return countHere(`class`, by: who, at: Timestamp.now())
        }
        let verdict = RateLimit.verdict(on: counted.window, limit: limit, at: counted.now)
        state.withLock { state in
            if state.refusals.count >= Self.most { state.refusals = state.refusals.filter { $0.value.until > .now } }
            if !verdict.isAllowed, state.refusals.count < Self.most {
                state.refusals[key] = (.now + .seconds(verdict.resetAt - counted.now), verdict)
            }
        }
        return verdict
    }

    private func countHere(_ class: RateLimit.Class, by who: String, at now: Double) -> RateLimit.Verdict? {
        let key = Key(who: who, class: `class`)
        return state.withLock { state in
            guard `class` == .unknown else {
                Self.tidy(&state.windows, now)
                return limit.counting(`class`, in: &state.windows[key], at: now)
            }
            Self.tidy(&state.strangers, now)
            return limit.counting(`class`, in: &state.strangers[key], at: now)
        }
    }

    private static func tidy(_ windows: inout [Key: RateLimit.Window], _ now: Double) {
        guard windows.count >= most else { return }
        windows = windows.filter { now < $0.value.start + RateLimit.windowSeconds }
        // More than that many within a minute: forgetting is better than growing.
        if windows.count >= most { windows = [:] }
    }
}

extension RateLimit.Verdict {
    var headers: HTTPFields {
        var fields = HTTPFields()
        fields[Self.limitName] = String(limit)
        fields[Self.remainingName] = String(remaining)
        fields[Self.resetName] = String(Int(resetAt.rounded(.up)))
        if !isAllowed { fields[.retryAfter] = String(retryAfter) }
        return fields
    }

    // Checked once and not for each answer.
    private static let limitName = HTTPField.Name("X-RateLimit-Limit")!
    private static let remainingName = HTTPField.Name("X-RateLimit-Remaining")!
    private static let resetName = HTTPField.Name("X-RateLimit-Reset")!
}

/// After the caller is known, before anything is done for them.
struct RateLimiting: RouterMiddleware {
    typealias Context = APIContext
    let limiter: RateLimiter

    func handle(
        _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        let `class` = RateLimit.class(method: request.method.rawValue, path: request.uri.path)
        let caller = try context.caller
        // An agent's own token may do nothing here, and must not use up what its owner may. Who revokes a token may be
        // fighting the one who has it.
        let isRevocation = request.method == .delete && request.uri.path.hasPrefix("/api/tokens/")
        let who = caller.token.agent.map { "agent:\($0)" } ?? caller.user.id + (isRevocation ? " revokes" : "")
        let verdict = await limiter.count(`class`, by: who)
        if let verdict, !verdict.isAllowed { throw APIError.rateLimited(verdict) }
        var response: Response
        do {
            response = try await next(request, context)
        } catch let error as APIError {
            response = error.answer
        }
        // An answer that speaks of another limit keeps its own.
        if let verdict, response.status != .tooManyRequests { response.headers.append(contentsOf: verdict.headers) }
        return response
    }
}
