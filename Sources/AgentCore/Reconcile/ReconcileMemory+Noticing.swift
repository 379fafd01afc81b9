package import BerthModel

extension ReconcileMemory {
    /// Learns from a look at the Engine: counts each death of a container that was started or seen running under this
    /// generation, once; sees which one proved itself; forgets the failures of a container that has been up for long.
    ///
    /// - Parameter random: uniform in 0 ..< 1.
    package func noticing(
        _ observed: ObservedHost, desired: DesiredState, now: MonotonicInstant, random: Double
    ) -> ReconcileMemory {
        var next = self
        if !next.setUps.isEmpty {
            let present = Set(observed.managed.map(\.id))
            next.setUps = next.setUps.filter { present.contains($0.key) }
        }
        for container in observed.managed {
            guard let workload = desired.workloads[container.workload], workload.wish == .running else { continue }
            var memory = next.memory(of: workload)
            let before = memory
            let isWanted = container.fingerprint == workload.fingerprint
            // Also where the answer to its create was lost.
            if isWanted, memory.pinned == nil, container.generation == workload.generation, !container.imageID.isEmpty {
                memory.pinned = .init(imageID: container.imageID, digest: nil)
            }
            if isWanted { memory.sawSettings(container.settings, wanted: workload.spec.resources, cpus: observed.cpus) }
            switch container.state {
            case .exited(let exit) where memory.ownStop == container.id:
                memory.ownExit = exit
                if memory.seenRunning == container.id { memory.seenRunning = nil }
            case .running(_, let upFor, let health):
                if isWanted { memory.sawRunning(container.id, upFor: upFor, health: health) }
                if memory.startedLast == container.id { memory.startedLast = nil }
                if memory.seenRunning == container.id, upFor >= Self.healthyAfter {
                    memory.failures = 0
                    memory.falls = 0
                    memory.lastFailure = nil
                }
            case .created where memory.startedLast == container.id:
                memory.startedInVain(now: now) { Self.delay(failures: $0, permanent: false, random: random) }
            case .exited(let exit) where memory.startedLast == container.id && memory.countedDeath == exit:
                memory.startedInVain(now: now) { Self.delay(failures: $0, permanent: false, random: random) }
            case .exited(let exit) where memory.seenRunning == container.id && memory.countedDeath != exit:
                memory.died(exit, now: now) { Self.delay(failures: $0, permanent: false, random: random) }
                if isWanted, !memory.isProven { memory.failedStarts += 1 }
            default: break
            }
            if memory != before { next.workloads[workload.id] = memory }
        }
        return next
    }
}

extension ReconcileMemory.WorkloadMemory {
    /// The first look after a change that was taken: what it left otherwise than wanted stays so.
    fileprivate mutating func sawSettings(_ settings: ObservedSettings?, wanted: Resources, cpus: Int) {
        guard let settings, lastUpdate != nil, !updateWasSeen else { return }
        updateWasSeen = true
        toleratedLimits = settings.limits == EngineLimits(wanted, cpus: cpus) ? nil : settings.limits
    }

    fileprivate mutating func sawRunning(
        _ container: EngineContainerID, upFor: Milliseconds, health: ContainerState.Health
    ) {
        // It came late, but it came.
        if hungStart == container { hungStart = nil }
        // Once rolled back, the one that serves is the one whose death counts.
        if failedStarts == 0 || seenRunning == nil { seenRunning = container }
        switch WorkloadPlanner.proof(upFor: upFor, health: health) {
        case .proven: isProven = true
        case .failed where !isProven && failedStarts == 0: failedStarts = 1
        case .failed, .pending: break
        }
    }

    /// The Engine said that it was started, and it never ran: without this a start would follow a start.
    fileprivate mutating func startedInVain(now: MonotonicInstant, delay: (Int) -> Milliseconds) {
        startedLast = nil
        failures += 1
        falls += 1
        lastFailure = StepFailure(
            reason: "start_without_effect", message: "the Engine says that it was started, and it does not run",
            isPermanent: false)
        notBefore = now + delay(failures)
    }

    /// Counts the death of a main process, once, and says when the next start is due.
    fileprivate mutating func died(
        _ exit: ContainerState.Exit, now: MonotonicInstant, delay: (Int) -> Milliseconds
    ) {
        countedDeath = exit
        startedLast = nil
        restarts += 1
        failures += 1
        falls += 1
        // The first death after a healthy time is answered at once: most are a restart that somebody wanted.
        notBefore = failures == 1 ? now : now + delay(failures - 1)
    }
}
