package import BerthModel

/// The status that the API shows for a container, from what is wanted and what the agent said last.
package enum PresentedStatus: String, Hashable, Sendable {
    case creating, configuring, running, stopped, error

    /// - Parameters:
    ///   - everRan: whether it was running at any time: then a restart is not a creation.
    package static func of(
        wish: DesiredWorkload.Wish, observed: WorkloadStatus?, everRan: Bool
    ) -> PresentedStatus {
        guard let observed else { return wish == .stopped ? .stopped : .creating }
        switch observed.phase {
        case .configuring: return .configuring
        // While its replacement is prepared, the old container serves on.
        case _ where observed.startedAt != nil && wish != .removed: return .running
        case .running: return .running
        case .stopped, .removed: return .stopped
        case .failed: return .error
        // It runs until the agent has seen that it does not, also where it cannot be looked at meanwhile.
        case .stopping: return wish == .removed ? .stopped : .running
        case .backoff: return .error
        case .waiting where observed.reason != nil && observed.reason != "engine_does_not_answer":
            return everRan ? .error : .creating
        case .waiting, .pulling, .creating, .starting, .unrecognised: return everRan ? .configuring : .creating
        }
    }

    /// True where the agent has answered `generation`, well or badly: nothing is gained by waiting on.
    package static func isSettled(_ status: WorkloadStatus?, at generation: Generation) -> Bool {
        guard let status, status.generation >= generation else { return false }
        switch status.phase {
        case .failed: return true
        // What is still set up serves already.
        case .running, .configuring, .stopped, .removed:
            return status.observedGeneration >= generation || status.reason == "rolled_back"
        // Of a container that cannot be seen nothing is known.
        case .waiting: return status.reason != nil && status.reason != "engine_does_not_answer"
        case .backoff, .pulling, .creating, .starting, .stopping, .unrecognised: return false
        }
    }
}
