package import BerthModel

/// Maps an agent's progress onto the 0 to 100 of the API. Never goes back within one generation, and says 100 once.
package struct ProgressScale: Hashable, Sendable {
    package struct Shown: Hashable, Sendable, Codable {
        package var stage: String
        package var percent: Int
        package var message: String
    }

    /// What was shown last, for clients that ask instead of listening.
    package private(set) var latest: Shown?
    private var generation: Generation = 0
    private var best = -1

    package init() {}

    /// - Returns: what to tell clients; nil where it would be a step back or nothing new.
    package mutating func heard(_ progress: WorkloadProgress) -> Shown? {
        let (range, message): (ClosedRange<Int>, String)
        switch progress.stage {
        case .pulling: (range, message) = (10...60, "Pulling image...")
        case .creating: (range, message) = (60...75, "Creating container...")
        case .starting: (range, message) = (75...85, "Starting container...")
        case .configuring:
            (range, message) = (
                85...99,
                progress.message.map { String($0.prefix(200)) } ?? "Configuring environment..."
            )
        }
        var percent = range.lowerBound
        if progress.totalBytes > 0 {
            let done = Double(min(max(progress.doneBytes, 0), progress.totalBytes)) / Double(progress.totalBytes)
            percent += Int(done * Double(range.upperBound - range.lowerBound))
        }
        return advance(progress.generation, to: percent, stage: progress.stage.rawValue, message)
    }

    package mutating func validating(_ generation: Generation) -> Shown? {
        advance(generation, to: 5, stage: "validating", "Request accepted")
    }

    /// The container accepts work.
    package mutating func ready(_ generation: Generation) -> Shown? {
        advance(generation, to: 100, stage: "ready", "Container is ready")
    }

    /// Another control plane has shown this.
    package mutating func adopt(_ shown: Shown, _ generation: Generation) {
        _ = advance(generation, to: shown.percent, stage: shown.stage, shown.message)
    }

    private static let stages = ["validating", "pulling", "creating", "starting", "configuring", "ready"]

    /// Of one that is unknown here, as a later version may have, the lowest.
    private static func rank(_ stage: String?) -> Int { stages.firstIndex { $0 == stage } ?? -1 }

    private mutating func advance(_ generation: Generation, to percent: Int, stage: String, _ message: String) -> Shown?
    {
        guard generation >= self.generation else { return nil }
        if generation > self.generation {
            self.generation = generation
            best = -1
        }
        // One stage begins where the one before ends.
        let isNextStage = percent == best && Self.rank(stage) > Self.rank(latest?.stage)
        guard percent > best || isNextStage else { return nil }
        best = percent
        latest = Shown(stage: stage, percent: percent, message: message)
        return latest
    }
}
