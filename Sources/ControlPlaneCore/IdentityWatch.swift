package import BerthModel

/// Notices that two processes use one agent's identity, for example after a disk was copied: they take the session from
/// each other, over and over. A restarted agent is no such case: it never comes back under an earlier process's id.
package struct IdentityWatch: Sendable {
    /// So many takeovers among processes that came back, within the span.
    package static let takeovers = 3
    package static let span = Milliseconds.seconds(60)

    private struct Takeover: Sendable {
        var process: String
        var at: MonotonicInstant
    }

    private var recent: [Takeover] = []

    package init() {}

    /// Nothing that it remembers counts any more.
    package func isForgotten(at now: MonotonicInstant) -> Bool { recent.allSatisfy { now - $0.at >= Self.span } }

    /// - Parameter replacesLiveSession: whether another session of the agent was open until now.
    /// - Returns: true where this is one identity with two processes.
    package mutating func opened(process: String, replacesLiveSession: Bool, at now: MonotonicInstant) -> Bool {
        recent = recent.filter { now - $0.at < Self.span }
        let isAnother = recent.last.map { $0.process != process } ?? true
        guard isAnother else { return false }
        if !replacesLiveSession { recent = [] }
        recent.append(Takeover(process: process, at: now))
        let cameBack = recent.count > Set(recent.map(\.process)).count
        return recent.count > Self.takeovers && cameBack
    }
}
