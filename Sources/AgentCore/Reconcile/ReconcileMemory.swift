package import BerthModel

/// What the Engine cannot tell: failures with their delays, and what is in flight. A value that passes grow.
package struct ReconcileMemory: Hashable, Sendable {
    package struct WorkloadMemory: Hashable, Sendable {
        /// The generation that all below but `observedGeneration` belongs to: a new one starts afresh.
        package var generation: Generation
        /// The last generation that was carried out.
        package var observedGeneration: Generation = 0
        /// Failures and deaths without a healthy time between them.
        package var failures = 0
        /// Of these, starts that failed and deaths: what a limit of restarts counts.
        package var falls = 0
        /// Stops, and removals beside a container that serves, wait for their own failures and for no others: a workload
        /// in a crash loop is stopped at once, and rubbish that cannot be removed keeps nobody down.
        package var stopping = Gate()
        package var tidying = Gate()
        /// No step that could fail again before this moment.
        package var notBefore: MonotonicInstant?
        package var lastFailure: StepFailure?
        /// The death that was counted last, so that one death is counted once.
        package var countedDeath: ContainerState.Exit?
        /// Deaths that were answered by a start.
        package var restarts = 0
        /// Engine containers that were created for this generation.
        package var attempts = 0
        /// The engine container that was started or seen up under this generation: only its end is a death.
        package var seenRunning: EngineContainerID?
        /// The engine container whose start was answered, until it is seen up or ended: a start can be without effect.
        package var startedLast: EngineContainerID?
        /// A container of this generation was up for long enough: what it replaced is not needed as a way back.
        package var isProven = false
        /// Starts of this generation that failed and deaths before it had proved itself: after one, the rollback rule.
        package var failedStarts = 0
        /// The container whose start did not answer in time.
        package var hungStart: EngineContainerID?
        /// The runtime would not change a container that runs, whatever it is known to do: it is stopped for it.
        package var refusesLiveChange = false
        /// When limits and when the network were last put right: what does not stay right is not done over and over.
        package var lastUpdate: MonotonicInstant?
        package var lastConnect: MonotonicInstant?
        /// A look came after `lastUpdate`.
        package var updateWasSeen = false

        /// What this agent stops or has stopped: its end is no death, and no end of a job.
        package var ownStop: EngineContainerID?
        package var ownExit: ContainerState.Exit?
        /// Limits that the Engine made of the wanted ones although it took the change: this kernel can do no better.
        package var toleratedLimits: EngineLimits?

        /// The image that this generation's containers are made of, whatever its tag means by now.
        package var pinned: PinnedImage?
        /// An image was pulled for this generation.
        package var hasPulled = false

        package struct PinnedImage: Hashable, Sendable, Codable {
            package var imageID: String
            package var digest: String?
            /// It was pulled once more by its digest. Where the id is not there even then, the Engine counts otherwise by
            /// now, and what the digest gives must do.
            package var wasPulledAgain: Bool?

            package init(imageID: String, digest: String?) {
                self.imageID = imageID
                self.digest = digest
            }
        }

        package struct Gate: Hashable, Sendable {
            package var failures = 0
            package var notBefore: MonotonicInstant?
            package init() {}
        }

        package init(generation: Generation, observedGeneration: Generation = 0) {
            self.generation = generation
            self.observedGeneration = observedGeneration
        }
    }

    /// How the set-up of one engine container ended.
    package struct SetUpRecord: Hashable, Sendable, Codable {
        package var setUp: Fingerprint
        /// With another generation, what failed is tried once more.
        package var generation: Generation
        /// Nil where it went well.
        package var error: String?
    }

    package var workloads: [WorkloadID: WorkloadMemory] = [:]
    /// By the container in which it ran: it goes with it, whatever becomes of generations.
    package var setUps: [EngineContainerID: SetUpRecord] = [:]
    package private(set) var inFlight: [WorkloadID: Step] = [:]
    package private(set) var inFlightSince: [WorkloadID: MonotonicInstant] = [:]
    /// Until when a create whose answer never came may still have its effect.
    package var lateCreates: [WorkloadID: MonotonicInstant] = [:]
    private static let lateCreateWindow = Milliseconds.seconds(120)

    /// A container that ran this long was healthy: its next death is the first one again.
    package static let healthyAfter = Milliseconds.seconds(600)
    static let longestDelay = 300_000

    package init() {}

    package func memory(of workload: DesiredWorkload) -> WorkloadMemory {
        let known = workloads[workload.id]
        if let known, known.generation == workload.generation { return known }
        return WorkloadMemory(generation: workload.generation, observedGeneration: known?.observedGeneration ?? 0)
    }

    package func launching(_ step: Step, at now: MonotonicInstant) -> ReconcileMemory {
        var next = self
        next.inFlight[step.workload] = step
        next.inFlightSince[step.workload] = now
        if case .stop(let id, _) = step.action {
            var memory = next.workloads[step.workload] ?? WorkloadMemory(generation: step.generation)
            if memory.generation < step.generation {
                memory = WorkloadMemory(
                    generation: step.generation, observedGeneration: memory.observedGeneration)
            }
            memory.ownStop = id
            next.workloads[step.workload] = memory
        }
        return next
    }

    /// - Parameter random: uniform in 0 ..< 1, for the jitter.
    package func recording(_ outcome: StepOutcome, now: MonotonicInstant, random: Double) -> ReconcileMemory {
        var next = self
        let step = outcome.step
        next.inFlight[step.workload] = nil
        next.inFlightSince[step.workload] = nil
        if case .failed(let failure) = outcome.result, failure.mayHaveHappened, case .create = step.action {
            next.lateCreates[step.workload] = now + Self.lateCreateWindow
        }
        // Of the container, which may be the wanted one of later generations too.
        if let ended = step.endedSetUp(outcome.result) { next.setUps[ended.container] = ended.record }
        var memory = next.workloads[step.workload] ?? WorkloadMemory(generation: step.generation)
        if memory.generation != step.generation {
            if memory.generation > step.generation { return next }
            memory = WorkloadMemory(generation: step.generation, observedGeneration: memory.observedGeneration)
        }
        switch outcome.result {
        case .succeeded where step.isSetUp: break
        case .succeeded: memory.succeeded(step.action, now: now)
        case .failed(let failure) where step.isSetUp && failure.isPermanent: break
        case .superseded, .cancelled:
            // Never at once again: what was overtaken is looked at first.
            memory.wait(until: now + Milliseconds(200), for: step.action)
        case .failed(let failure):
            memory.failed(step.action, failure, now: now) { failures in
                Self.delay(failures: failures, permanent: failure.isPermanent, random: random)
            }
        }
        next.workloads[step.workload] = memory
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

    /// Keeps which generations a plan found carried out.
    package func keeping(_ statuses: [WorkloadStatus]) -> ReconcileMemory {
        var next = self
        for status in statuses where status.observedGeneration > 0 {
            var memory = next.workloads[status.workload] ?? WorkloadMemory(generation: status.generation)
            guard status.observedGeneration > memory.observedGeneration else { continue }
            if memory.generation < status.generation {
                memory = WorkloadMemory(
                    generation: status.generation, observedGeneration: memory.observedGeneration)
            }
            memory.observedGeneration = status.observedGeneration
            next.workloads[status.workload] = memory
        }
        return next
    }

    /// 1 s doubling to 5 min, upper half at random; what cannot help by trying is tried every 5 min.
    static func delay(failures: Int, permanent: Bool, random: Double) -> Milliseconds {
        let ceiling = permanent ? longestDelay : min(longestDelay, 1000 << min(max(failures - 1, 0), 12))
        return Milliseconds(ceiling / 2 + Int(Double(ceiling / 2) * random))
    }
}

extension ReconcileMemory.WorkloadMemory {
    /// Until when a step of this kind is not tried.
    package func notBefore(_ action: Step.Action) -> MonotonicInstant? {
        switch action {
        case .stop, .endProcesses: stopping.notBefore
        case .remove, .removeVolume: tidying.notBefore
        case .pull, .create, .start, .update, .connect, .setUp: notBefore
        }
    }

    fileprivate mutating func wait(until moment: MonotonicInstant, for action: Step.Action) {
        switch action {
        case .stop, .endProcesses: stopping.notBefore = moment
        case .remove, .removeVolume: tidying.notBefore = moment
        case .pull, .create, .start, .update, .connect, .setUp: notBefore = moment
        }
    }

    fileprivate mutating func succeeded(_ action: Step.Action, now: MonotonicInstant) {
        switch action {
        case .start(let id):
            lastFailure = nil
            // Its end is a death, even where it came before anybody saw it up.
            seenRunning = id
            startedLast = id
            ownStop = nil
            ownExit = nil
        case .stop(let id, _):
            stopping = Gate()
            // What was stopped on purpose did not die.
            if seenRunning == id { seenRunning = nil }
            if startedLast == id { startedLast = nil }
        case .create(let order):
            attempts += 1
            // A look may have come before this answer: it knows the image, and not its digest.
            if pinned?.digest == nil { pinned = PinnedImage(imageID: order.imageID, digest: order.imageDigest) }
        case .update:
            lastUpdate = now
            updateWasSeen = false
        case .connect: lastConnect = now
        case .endProcesses(let id):
            stopping = Gate()
            if hungStart == id { hungStart = nil }
        case .remove, .removeVolume: tidying = Gate()
        case .pull(let image):
            hasPulled = true
            if image == pinned?.digest { pinned?.wasPulledAgain = true }
        case .setUp: break
        }
    }

    fileprivate mutating func failed(
        _ action: Step.Action, _ failure: StepFailure, now: MonotonicInstant, delay: (Int) -> Milliseconds
    ) {
        switch action {
        case .update where !refusesLiveChange && !failure.timedOut:
            // Not a failure yet, whatever became of it: it is tried once more while the container is stopped.
            refusesLiveChange = true
            return
        case .stop, .endProcesses:
            stopping.failures += 1
            stopping.notBefore = now + delay(stopping.failures)
            lastFailure = failure
            return
        case .remove, .removeVolume:
            tidying.failures += 1
            tidying.notBefore = now + delay(tidying.failures)
            lastFailure = failure
            return
        case .start(let id):
            falls += 1
            if failure.timedOut { hungStart = id }
            // An Engine that went away in the middle says nothing about the container.
            if failure.timedOut || !failure.mayHaveHappened { failedStarts += 1 }
        default: break
        }
        failures += 1
        lastFailure = failure
        notBefore = now + delay(failures)
    }
}

extension Step {
    fileprivate var isSetUp: Bool { if case .setUp = action { true } else { false } }

    /// Nil where it was no set-up, or one that is to be tried again.
    fileprivate func endedSetUp(
        _ result: StepOutcome.Result
    ) -> (container: EngineContainerID, record: ReconcileMemory.SetUpRecord)? {
        guard case .setUp(let id, let setUp) = action else { return nil }
        let error: String?
        switch result {
        case .succeeded: error = nil
        case .failed(let failure) where failure.isPermanent: error = failure.message
        case .failed, .superseded, .cancelled: return nil
        }
        return (id, .init(setUp: setUp.fingerprint, generation: generation, error: error))
    }
}
