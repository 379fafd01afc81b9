package import BerthModel

/// What the Engine cannot tell: failures with their delays, and what is in flight. A value that passes grow.
package struct ReconcileMemory: Hashable, Sendable {
    package struct WorkloadMemory: Hashable, Sendable {
        /// Failures and deaths without a healthy time between them.
        package var failures = 0
        /// No step that could fail again before this moment.
        package var notBefore: MonotonicInstant?
        package var lastFailure: StepFailure?
        /// The generation that the failures belong to: a new one starts afresh.
        package var generation: Generation
        /// The death that was counted last, so that one death is counted once.
        package var countedDeath: ContainerState.Exit?
        /// Deaths that were answered by a start.
        package var restarts = 0
        /// Engine containers that were created for this generation.
        package var attempts = 0
        /// The engine container that was seen up under this generation: only its end is a death.
        package var seenRunning: EngineContainerID?

        package init(generation: Generation) { self.generation = generation }
    }

    package private(set) var workloads: [WorkloadID: WorkloadMemory] = [:]
    package private(set) var inFlight: [WorkloadID: Step] = [:]
    /// Until when a create whose answer never came may still have its effect.
    package private(set) var lateCreates: [WorkloadID: MonotonicInstant] = [:]
    private static let lateCreateWindow = Milliseconds.seconds(120)

    /// A container that ran this long was healthy: its next death is the first one again.
    package static let healthyAfter = Milliseconds.seconds(600)
    private static let longestDelay = 300_000

    package init() {}

    package func memory(of workload: DesiredWorkload) -> WorkloadMemory {
        if let known = workloads[workload.id], known.generation == workload.generation { return known }
        return WorkloadMemory(generation: workload.generation)
    }

    package func launching(_ step: Step) -> ReconcileMemory {
        var next = self
        next.inFlight[step.workload] = step
        return next
    }

    /// - Parameter random: uniform in 0 ..< 1, for the jitter.
    package func recording(_ outcome: StepOutcome, now: MonotonicInstant, random: Double) -> ReconcileMemory {
        var next = self
        let step = outcome.step
        next.inFlight[step.workload] = nil
        if case .failed(let failure) = outcome.result, failure.mayHaveHappened, case .create = step.action {
            next.lateCreates[step.workload] = now + Self.lateCreateWindow
        }
        var memory = next.workloads[step.workload] ?? WorkloadMemory(generation: step.generation)
        if memory.generation != step.generation {
            if memory.generation > step.generation { return next }
            memory = WorkloadMemory(generation: step.generation)
        }
        switch outcome.result {
        case .succeeded:
            switch step.action {
            case .start(let id):
                memory.lastFailure = nil
                // Its end is a death, even where it came before anybody saw it up.
                memory.seenRunning = id
            case .create: memory.attempts += 1
            case .pull, .stop, .remove: break
            }
        case .superseded, .cancelled:
            // Never at once again: what was overtaken is looked at first.
            memory.notBefore = now + Milliseconds(200)
        case .failed(let failure):
            memory.failures += 1
            memory.lastFailure = failure
            memory.notBefore =
                now + Self.delay(failures: memory.failures, permanent: failure.isPermanent, random: random)
        }
        next.workloads[step.workload] = memory
        return next
    }

    /// Counts the death of a main process, once, and says when the next start is due.
    func countingDeath(
        of workload: DesiredWorkload, exit: ContainerState.Exit, now: MonotonicInstant, random: Double
    ) -> ReconcileMemory {
        var memory = memory(of: workload)
        guard memory.countedDeath != exit else { return self }
        memory.countedDeath = exit
        memory.restarts += 1
        memory.failures += 1
        // The first death after a healthy time is answered at once: most are a restart that somebody wanted.
        memory.notBefore =
            memory.failures == 1
            ? now : now + Self.delay(failures: memory.failures - 1, permanent: false, random: random)
        var next = self
        next.workloads[workload.id] = memory
        return next
    }

    func seenRunning(
        _ workload: DesiredWorkload, container: EngineContainerID, upFor: Milliseconds
    ) -> ReconcileMemory {
        var memory = memory(of: workload)
        memory.seenRunning = container
        if upFor >= Self.healthyAfter {
            memory.failures = 0
            memory.lastFailure = nil
        }
        guard workloads[workload.id] != memory else { return self }
        var next = self
        next.workloads[workload.id] = memory
        return next
    }

    /// Forgets what was removed.
    package func forgetting(_ ids: some Sequence<WorkloadID>) -> ReconcileMemory {
        var next = self
        for id in ids where next.inFlight[id] == nil {
            next.workloads[id] = nil
            next.lateCreates[id] = nil
        }
        return next
    }

    /// 1 s doubling to 5 min, upper half at random; what cannot help by trying is tried every 5 min.
    private static func delay(failures: Int, permanent: Bool, random: Double) -> Milliseconds {
        let ceiling = permanent ? longestDelay : min(longestDelay, 1000 << min(max(failures - 1, 0), 12))
        return Milliseconds(ceiling / 2 + Int(Double(ceiling / 2) * random))
    }
}
