package import BerthModel

/// Towards one container that runs as wanted: `docs/reconcile.md` has the table of states.
extension WorkloadPlanner {
    /// Whether a container that runs has shown that it can.
    package enum Proof { case pending, proven, failed }

    package static func proof(upFor: Milliseconds, health: ContainerState.Health) -> Proof {
        guard upFor >= verifyFor else { return .pending }
        switch health {
        case .unchecked, .healthy: return .proven
        case .unhealthy: return .failed
        case .starting: return upFor >= healthDeadline ? .failed : .pending
        }
    }

    func towardsRunning() -> Decision {
        let settled = containers.filter { $0.state != .removing }
        let wanted = chosen(
            from: settled.filter { $0.fingerprint == workload.fingerprint && isAllowed($0) })
        if let old = wayBack(from: wanted, among: settled) {
            return converge(on: old, beside: settled.filter { $0.id != old.id }, course: .rolledBack)
        }
        let others = settled.filter { $0.id != wanted?.id }
        guard let wanted else {
            if let unwanted = superfluous(among: others) {
                return step(.remove(unwanted.id), "of a spec that is no longer wanted", .waiting)
            }
            // A candidate of its own is the fourth where two still serve: the one that proved less makes room.
            if others.count >= 3, let second = leastProven(of: others.filter(\.state.isUp)) {
                return stop(second, "of a spec that is no longer wanted", phase: .creating, shown: second)
            }
            return create(others: others)
        }
        return converge(on: wanted, beside: others, course: .forward)
    }

    /// Towards the wanted container, or back to the one that it was to replace.
    private enum Course { case forward, rolledBack }

    /// The container before, where its replacement did not come up and the rollback rule lets it serve again. What failed
    /// is not tried again before the workload is changed or started anew.
    private func wayBack(from failed: ObservedContainer?, among all: [ObservedContainer]) -> ObservedContainer? {
        guard memory.failedStarts > 0, !memory.isProven else { return nil }
        let before = all.filter {
            $0.fingerprint != workload.fingerprint && ($0.state.isUp || $0.provedItself)
        }
        guard let old = chosen(from: before) else { return nil }
        switch workload.spec.rollback ?? .ifStateless {
        case .always: return old
        case .ifStateless:
            let writable = old.writableVolumes.union(failed?.writableVolumes ?? [])
            let isStateless = writable.isEmpty && !workload.spec.volumes.contains { $0.access == .readWrite }
            return isStateless ? old : nil
        }
    }

    private func leastProven(of up: [ObservedContainer]) -> ObservedContainer? {
        guard up.count >= 2 else { return nil }
        return up.min { left, right in
            (left.upFor ?? .zero, right.generation, right.attempt, left.id)
                < (right.upFor ?? .zero, left.generation, left.attempt, right.id)
        }
    }

    private func converge(on current: ObservedContainer, beside others: [ObservedContainer], course: Course) -> Decision
    {
        guard current.state.isUp else {
            if let unwanted = superfluous(among: others) {
                return step(.remove(unwanted.id), "of a spec that is no longer wanted", .waiting)
            }
            return start(current, others: others, course: course)
        }
        if let second = others.first(where: \.state.isUp) {
            return standDown(second, besides: current, course: course)
        }
        if let repair = inShape(current, course: course) { return repair }
        if course == .forward, let setUp = workload.spec.setUp, ended(current) == nil,
            case .running = current.state
        {
            return Decision(
                step: planned(.setUp(current.id, setUp), "it is not set up for its role yet"),
                status: configuring(current))
        }
        return tidy(beside: current, others, course: course)
    }

    // MARK: up

    /// Two are up. Where they share what they write to, the one that is not wanted stops at once; else the one before
    /// serves on until the new one has proved itself.
    private func standDown(
        _ second: ObservedContainer, besides current: ObservedContainer, course: Course
    ) -> Decision {
        if current.sharesWritableVolume(with: second) {
            return stop(second, "two containers must not write to one volume", phase: .running, shown: current)
        }
        if course == .forward, case .running(_, let upFor, let health) = current.state,
            Self.proof(upFor: upFor, health: health) == .pending
        {
            let wait = upFor < Self.verifyFor ? Milliseconds(Self.verifyFor.count - upFor.count) : .seconds(1)
            return Decision(status: running(current, course), nextLook: now + wait)
        }
        return stop(second, "\(current.name) serves", phase: .running, shown: current)
    }

    /// Limits, restart policy and network as they should be; nil where they are. Whatever the runtime cannot change on a
    /// container that runs is changed while it is stopped: its writable layer stays.
    private func inShape(_ current: ObservedContainer, course: Course) -> Decision? {
        guard course == .forward, let settings = current.settings else { return nil }
        let isLive = observed.liveRuntimes.contains(settings.runtime) && !memory.refusesLiveChange
        if needsUpdate(settings), !wasLately(memory.lastUpdate) {
            guard isLive else {
                return stop(
                    current, "its limits change while it is stopped", phase: .stopping, shown: current)
            }
            return Decision(
                step: planned(.update(current.id, limits), "its limits are not the wanted ones"),
                status: status(.running, current))
        }
        if !settings.isConnected, !wasLately(memory.lastConnect) {
            guard isLive else {
                return stop(
                    current, "its network comes back while it is stopped", phase: .stopping, shown: current)
            }
            return Decision(
                step: planned(.connect(current.id), "it was taken off its network"), status: status(.running, current))
        }
        return nil
    }

    var limits: EngineLimits { EngineLimits(workload.spec.resources, cpus: observed.cpus) }

    func needsUpdate(_ settings: ObservedSettings) -> Bool {
        (settings.limits != limits && settings.limits != memory.toleratedLimits) || settings.isRestartedByEngine
    }

    private func wasLately(_ moment: MonotonicInstant?) -> Bool {
        moment.map { now - $0 < Self.repairEvery } ?? false
    }

    /// The wanted container runs; what it replaced goes once it has proved itself and a time has passed.
    private func tidy(beside current: ObservedContainer, _ others: [ObservedContainer], course: Course) -> Decision {
        var decision = Decision(status: running(current, course))
        if let unwanted = others.first(where: { $0.state == .created }), !isTidyingHeldBack {
            decision.step = planned(.remove(unwanted.id), "never started")
            return decision
        }
        guard course == .forward, let old = others.first, case .running(_, let upFor, let health) = current.state else {
            return decision
        }
        let isProven = Self.proof(upFor: upFor, health: health) == .proven
        if isProven, let surplus = superfluous(among: others) {
            decision.step = planned(.remove(surplus.id), "one old container is kept")
        } else if isProven, upFor >= Self.keepOldFor {
            decision.step = planned(.remove(old.id), "replaced by \(current.name)")
        } else {
            let next = upFor < Self.verifyFor ? Self.verifyFor : Self.keepOldFor
            decision.nextLook = now + Milliseconds(max(1000, next.count - upFor.count))
        }
        return decision
    }

    /// Its status while it is set up: it serves already, so what is wanted of the container itself is carried out.
    func configuring(_ current: ObservedContainer) -> WorkloadStatus {
        var shown = running(current, .forward)
        shown.phase = .configuring
        return shown
    }

    /// Its status while it serves. The generation is carried out once there is no way back from it.
    private func running(_ current: ObservedContainer, _ course: Course) -> WorkloadStatus {
        var shown = status(.running, current)
        guard course == .forward else {
            shown.reason = "rolled_back"
            shown.message =
                "generation \(workload.generation) did not come up (\(memory.lastFailure?.message ?? "its main process ended"));"
                + " \(current.name) serves again; change the container or start it to try once more"
            return shown
        }
        if case .running(_, _, .unhealthy) = current.state, shown.reason == nil {
            shown.reason = "unhealthy"
            shown.message = "its health check fails"
        }
        // Limits that this kernel does not keep are not waited for: the Engine took them.
        guard current.settings.map({ !needsUpdate($0) || wasLately(memory.lastUpdate) }) ?? true else { return shown }
        let mayGoBack =
            !memory.isProven
            && containers.contains {
                $0.id != current.id && !$0.sharesWritableVolume(with: current) && $0.state != .created
            }
        return mayGoBack || (workload.spec.rollback == .always && !memory.isProven && containers.count > 1)
            ? shown : carriedOut(shown)
    }

    // MARK: not up

    private func start(_ current: ObservedContainer, others: [ObservedContainer], course: Course) -> Decision {
        if case .exited(let exit) = current.state, endedForGood(current, exit) {
            return Decision(
                status: carriedOut(status(.stopped, current, reason: exit.code == 0 ? "completed" : "not_restarted")))
        }
        if let givenUp = givenUp(current) { return givenUp }
        if let waiting = waitingForRetry(current) { return waiting }
        if let old = others.first(where: {
            $0.state.isUp && ($0.sharesWritableVolume(with: current) || $0.sharesHostPort(with: current))
        }) {
            return stop(old, "its replacement \(current.name) is ready", phase: .starting, shown: old)
        }
        if course == .forward, let settings = current.settings {
            if needsUpdate(settings), !wasLately(memory.lastUpdate) {
                return step(.update(current.id, limits), "its limits are not the wanted ones", .starting, current)
            }
            if !settings.isConnected, current.state != .created, !wasLately(memory.lastConnect) {
                return step(.connect(current.id), "it was taken off its network", .starting, current)
            }
        }
        if let fenced = fenced(current) { return fenced }
        let reason: String
        switch (course, current.state) {
        case (.rolledBack, _): reason = "what was to replace it did not come up"
        case (.forward, .created): reason = "created"
        case (.forward, _): reason = "wanted running"
        }
        return step(.start(current.id), reason, .starting, others.first(where: \.state.isUp) ?? current)
    }

    /// Nobody else may write to a volume while this workload's container starts on it.
    private func fenced(_ current: ObservedContainer) -> Decision? {
        for volume in current.writableVolumes.sorted() {
            guard let writer = observed.foreignWriters[volume]?.sorted().first else { continue }
            let message = "container \(writer.text.prefix(12)) has volume \(volume) open for writing; stop it first"
            return Decision(
                status: status(.waiting, current, reason: "volume_in_use", message: message),
                nextLook: now + .seconds(5))
        }
        return nil
    }

    private func endedForGood(_ container: ObservedContainer, _ exit: ContainerState.Exit) -> Bool {
        // What was stopped for a repair, or by a stop that was wanted before, has not ended by itself.
        guard memory.ownExit != exit, memory.ownStop != container.id else { return false }
        let endedNow = container.generation == workload.generation || memory.countedDeath == exit
        guard endedNow, exit.startedAt > 0 else { return false }
        switch workload.spec.restart {
        case .always: return false
        case .never: return true
        case .onFailure: return exit.code == 0
        }
    }

    private func givenUp(_ current: ObservedContainer?) -> Decision? {
        guard let limit = workload.spec.restartLimit, memory.falls > limit else { return nil }
        let message =
            "given up after \(memory.falls) failed starts or ends in a row (limit \(limit)):"
            + " \(memory.lastFailure?.message ?? exitMessage(current) ?? "no reason is known"); change it or start it"
        return Decision(status: status(.failed, current, reason: "restart_limit", message: message))
    }

    func waitingForRetry(_ current: ObservedContainer?) -> Decision? {
        guard let due = memory.notBefore, due > now else { return nil }
        let failure = memory.lastFailure
        let phase: WorkloadPhase = failure == nil ? .backoff : .failed
        return Decision(
            status: status(
                phase, current, reason: failure?.reason ?? "exited", message: failure?.message ?? exitMessage(current)),
            nextLook: due)
    }

    private func exitMessage(_ container: ObservedContainer?) -> String? {
        guard case .exited(let exit)? = container?.state else { return nil }
        return exit.outOfMemory ? "killed: out of memory" : "the main process ended with code \(exit.code)"
    }

    /// Never started, or not the best of those that ended: of no use to anybody. The best is the newest one that ran long
    /// enough to prove itself, else the newest.
    private func superfluous(among others: [ObservedContainer]) -> ObservedContainer? {
        guard !isTidyingHeldBack else { return nil }
        if let created = others.first(where: { $0.state == .created }) { return created }
        let ended = others.filter { !$0.state.isUp }.sorted { left, right in
            (left.provedItself ? 1 : 0, left.generation, left.attempt, left.id)
                > (right.provedItself ? 1 : 0, right.generation, right.attempt, right.id)
        }
        return ended.dropFirst().last
    }
}

extension ObservedContainer {
    fileprivate var upFor: Milliseconds? {
        if case .running(_, let upFor, _) = state { upFor } else { nil }
    }

    /// By the host's wall clock, which here only chooses what is kept.
    fileprivate var provedItself: Bool {
        guard case .exited(let exit) = state else { return false }
        return (exit.finishedAt - exit.startedAt) * 1000 >= Double(WorkloadPlanner.verifyFor.count)
    }
}
