package import BerthModel

/// When to connect again. A value: facts in, a delay out; randomness is an argument.
///
/// Uniform in 0 … min(60 s, 0.5 s · 2ⁿ). n starts again only after a session that was stable, which is 60 s connected
/// and one acknowledged status: a control plane that accepts and drops is treated like one that is down.
package struct ReconnectBackoff: Sendable, Hashable {
    /// Why the last session or attempt ended.
    package enum Ending: Hashable, Sendable {
        case unreachable
        case closed
        /// 401, 403, 404: the credential or the identity is not accepted.
        case notAccepted
        /// The peer said when to come back: `reconnect_after` or `Retry-After`.
        case askedToWait(seconds: Int)
    }

    private var attempts = 0
    private var refusals = 0
    package static let stableAfter = Milliseconds.seconds(60)

    package init() {}

    package mutating func sessionWasStable() {
        attempts = 0
        refusals = 0
    }

    /// - Parameter random: uniform in 0 ..< 1.
    package mutating func ended(_ ending: Ending, random: Double) -> Milliseconds {
        switch ending {
        case .unreachable, .closed:
            refusals = 0
            return ordinary(random)
        case .notAccepted:
            // 1 min doubling to 1 h, with up to a tenth of jitter: a deleted agent must not knock for ever.
            let base = min(3_600_000, 60_000 << min(refusals, 6))
            refusals += 1
            return Milliseconds(base + Int(Double(base) / 10 * random))
        case .askedToWait(let seconds):
            // A peer that says "0 seconds" to everybody must not be taken at its word.
            let base = min(max(seconds, 0), 86_400) * 1000
            return max(Milliseconds(base + Int(Double(base) * random)), ordinary(random))
        }
    }

    private mutating func ordinary(_ random: Double) -> Milliseconds {
        let ceiling = min(60_000, 500 << min(attempts, 10))
        attempts += 1
        return Milliseconds(Int(Double(ceiling) * random))
    }
}
