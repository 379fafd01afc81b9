package import BerthModel

/// What of the memory is worth a place on disk: without it a crash loop would start afresh with every start of the agent,
/// and a job that ended would run again. Delays are kept as what remains of them: the clock that decides is a new one in
/// every process, and nobody can set it back.
package struct StoredMemory: Hashable, Sendable, Codable {
    package struct Entry: Hashable, Sendable, Codable {
        package var workload: WorkloadID
        package var generation: Generation
        package var observedGeneration: Generation
        package var failures: Int
        package var falls: Int
        package var retryIn: Milliseconds?
        package var lastFailure: StepFailure?
        package var countedDeath: ContainerState.Exit?
        package var restarts: Int
        package var attempts: Int
        package var seenRunning: EngineContainerID?
        package var isProven: Bool
        package var failedStarts: Int
        package var hungStart: EngineContainerID?
        package var refusesLiveChange: Bool
        package var ownStop: EngineContainerID?
        package var ownExit: ContainerState.Exit?
        package var toleratedLimits: EngineLimits?
        package var lateCreateFor: Milliseconds?
        package var pinned: ReconcileMemory.WorkloadMemory.PinnedImage?
    }

    /// How the set-up of one engine container ended. Without it a set-up would run again: slower, and no worse.
    package struct EndedSetUp: Hashable, Sendable, Codable {
        package var container: EngineContainerID
        package var record: ReconcileMemory.SetUpRecord
    }

    package var entries: [Entry]
    package var setUps: [EndedSetUp]

    package init(entries: [Entry], setUps: [EndedSetUp] = []) {
        self.entries = entries
        self.setUps = setUps
    }

    package static let nothing = StoredMemory(entries: [])
}

extension ReconcileMemory {
    package func stored(at now: MonotonicInstant) -> StoredMemory {
        StoredMemory(
            entries: workloads.keys.sorted().compactMap { id in
                guard let memory = workloads[id] else { return nil }
                return StoredMemory.Entry(
                    workload: id, generation: memory.generation, observedGeneration: memory.observedGeneration,
                    failures: memory.failures, falls: memory.falls,
                    retryIn: memory.notBefore.flatMap { $0 > now ? $0 - now : nil },
                    lastFailure: memory.lastFailure, countedDeath: memory.countedDeath, restarts: memory.restarts,
                    attempts: memory.attempts, seenRunning: memory.seenRunning, isProven: memory.isProven,
                    failedStarts: memory.failedStarts, hungStart: memory.hungStart,
                    refusesLiveChange: memory.refusesLiveChange, ownStop: memory.ownStop, ownExit: memory.ownExit,
                    toleratedLimits: memory.toleratedLimits,
                    lateCreateFor: lateCreates[id].flatMap { $0 > now ? $0 - now : nil }, pinned: memory.pinned)
            },
            setUps: setUps.keys.sorted().compactMap { id in
                setUps[id].map { StoredMemory.EndedSetUp(container: id, record: $0) }
            })
    }

    /// Numbers that cannot be right are put right: the file may be anybody's.
    package init(_ stored: StoredMemory, now: MonotonicInstant) {
        self.init()
        for ended in stored.setUps { setUps[ended.container] = ended.record }
        for entry in stored.entries {
            var memory = WorkloadMemory(
                generation: max(0, entry.generation),
                observedGeneration: min(max(0, entry.observedGeneration), max(0, entry.generation)))
            memory.failures = max(0, entry.failures)
            memory.falls = max(0, entry.falls)
            memory.ownStop = entry.ownStop
            memory.ownExit = entry.ownExit
            memory.toleratedLimits = entry.toleratedLimits
            memory.notBefore = entry.retryIn.map { now + Self.bounded($0) }
            memory.lastFailure = entry.lastFailure
            memory.countedDeath = entry.countedDeath
            memory.restarts = max(0, entry.restarts)
            memory.attempts = max(0, entry.attempts)
            memory.seenRunning = entry.seenRunning
            memory.isProven = entry.isProven
            memory.failedStarts = max(0, entry.failedStarts)
            memory.hungStart = entry.hungStart
            memory.refusesLiveChange = entry.refusesLiveChange
            memory.pinned = entry.pinned
            workloads[entry.workload] = memory
            lateCreates[entry.workload] = entry.lateCreateFor.map { now + Self.bounded($0) }
        }
    }

    private static func bounded(_ span: Milliseconds) -> Milliseconds {
        Milliseconds(min(max(0, span.count), longestDelay))
    }
}
