package import BerthModel

/// Decides the next step of one workload from what is seen of it. Called once per workload and pass by `Planner`.
///
/// Here are the rules that come first whatever is wanted, and those for a workload that is to stop or to go;
/// `+Running` has the replacement, `+Creating` what a new container is made of, `+Status` what is said.
package struct WorkloadPlanner {
    struct Decision {
        var step: Step?
        var status: WorkloadStatus
        var nextLook: MonotonicInstant?
        var cancelsInFlight = false
    }

    let workload: DesiredWorkload
    /// All engine containers that carry this workload's label.
    let containers: [ObservedContainer]
    let observed: ObservedHost
    let memory: ReconcileMemory.WorkloadMemory
    let inFlight: Step?
    let lateCreateUntil: MonotonicInstant?
    let now: MonotonicInstant
    var setUps: [EngineContainerID: ReconcileMemory.SetUpRecord] = [:]
    var policy = HostPolicy()
    /// More workloads are wanted than the owner of the host allows, and this is one of those beyond.
    var isSurplus = false
    /// Its session is over: it is stopped, whatever is wanted of it.
    var isExpired = false

    /// A new container must have been up this long before anything of the old ones is removed.
    package static let verifyFor = Milliseconds.seconds(10)
    /// A health check gets this long to say that its container is well.
    static let healthDeadline = Milliseconds.seconds(300)
    /// What it replaced is kept, stopped, until then: its writable layer is the way back.
    static let keepOldFor = Milliseconds.seconds(3600)
    /// By the clock that starts with the agent: until then volumes may not have been measured yet.
    static let measuredBy = MonotonicInstant(milliseconds: 60_000)
    /// Settings that do not stay as they were put are put right no more often than this.
    static let repairEvery = Milliseconds.seconds(60)

    func decide() -> Decision {
        if let inFlight { return working(on: inFlight) }
        var decision = wantedNext()
        // What failed is not tried before its time, whatever the step is.
        if let step = decision.step, let due = memory.notBefore(step.action), due > now {
            decision.step = nil
            decision.nextLook = due
            decision.status.reason = memory.lastFailure?.reason ?? decision.status.reason
            decision.status.message = memory.lastFailure?.message ?? decision.status.message
            if memory.lastFailure != nil, step.isRemoval == false, decision.status.startedAt == nil,
                workload.wish == .running
            {
                decision.status.phase = .failed
            }
        }
        return decision
    }

    private func wantedNext() -> Decision {
        if let hung = containers.first(where: { $0.id == memory.hungStart && !$0.state.isUp }) {
            return step(.endProcesses(hung.id), "its start did not answer in time", .waiting, hung)
        }
        if let unseen = containers.first(where: { $0.state == .unknown }) {
            return Decision(
                status: status(
                    .waiting, shown, reason: "engine_does_not_answer", message: "\(unseen.name) cannot be inspected"),
                nextLook: now + .seconds(5))
        }
        if let left = containers.first(where: { !$0.leftoverProcesses.isEmpty && !$0.state.isUp }) {
            let count = left.leftoverProcesses.count
            return step(.endProcesses(left.id), "\(count) processes of it outlived it", .waiting, left)
        }
        if let phantom = containers.first(where: { $0.isPhantom && $0.state.isUp }) {
            return stop(
                phantom, "the Engine says that it runs, and its process is gone", phase: .starting, shown: phantom)
        }
        if let starting = containers.first(where: \.isStarting) {
            return Decision(status: status(.starting, starting), nextLook: now + .seconds(1))
        }
        if workload.wish != .removed, let dead = containers.first(where: { $0.state == .dead }) {
            // Rubbish: whatever else is due comes first.
            var decision = without(dead).wantedNext()
            guard decision.step == nil, !isTidyingHeldBack else { return decision }
            decision.step = planned(.remove(dead.id), "the Engine could not remove it before")
            return decision
        }
        switch workload.wish {
        case .running:
            if isExpired { return ended() }
            if let refusal { return refused(refusal) }
            if let loose = containers.first(where: { $0.state.isUp && !isAllowed($0) }) {
                return stop(loose, "the host's owner allows nothing outside a sandbox", phase: .stopping, shown: loose)
            }
            if let overfull = overfull { return overfull }
            return towardsRunning()
        case .stopped: return towardsStopped()
        case .removed: return towardsRemoved()
        }
    }

    // MARK: stopped and removed

    private func towardsStopped() -> Decision {
        if let up = containers.first(where: \.state.isUp) {
            return stop(up, "wanted stopped", phase: .stopping, shown: up)
        }
        return Decision(status: carriedOut(status(.stopped, shown)))
    }

    private func ended() -> Decision {
        if let up = containers.first(where: \.state.isUp) {
            return stop(up, "its session is over", phase: .stopping, shown: up)
        }
        return Decision(status: status(.stopped, shown, reason: "session_expired", message: "its session is over"))
    }

    private func towardsRemoved() -> Decision {
        let decision = withoutContainers()
        guard workload.purgesVolumes, decision.step == nil, decision.status.phase == .removed else { return decision }
        guard let volumes = observed.ownVolumes?[workload.id, default: []] else {
            return Decision(status: status(.stopping, nil), nextLook: now + .seconds(5))
        }
        if let volume = volumes.min() {
            return step(.removeVolume(volume), "its data is not to be kept any longer", .stopping)
        }
        var done = decision
        done.status.isPurged = true
        return done
    }

    private func withoutContainers() -> Decision {
        if let up = containers.first(where: \.state.isUp) {
            return stop(up, "to be removed", phase: .stopping, shown: up)
        }
        if let next = containers.first(where: { $0.state != .removing }) {
            return step(
                .remove(next.id), "to be removed\(workload.purgesVolumes ? "" : "; its volumes stay")", .stopping)
        }
        if let going = containers.first {
            return Decision(status: status(.stopping, going), nextLook: now + .seconds(1))
        }
        // A create without an answer may still come true: then it must be found and removed, not forgotten.
        if let lateCreateUntil, lateCreateUntil > now {
            return Decision(status: status(.stopping, nil), nextLook: lateCreateUntil)
        }
        return Decision(status: carriedOut(status(.removed, nil)))
    }

    // MARK: refused by the host's owner

    private var refusal: HostPolicy.Refusal? {
        if let refusal = policy.refusal(of: workload.spec) { return refusal }
        guard isSurplus, let most = policy.mostContainers else { return nil }
        return .init(rule: "most_containers", explanation: "\(most) containers are wanted here already")
    }

    /// It fell back to a runtime that is allowed, or not at all, and holds no port of the host that it may not have any more.
    func isAllowed(_ container: ObservedContainer) -> Bool {
        let mayHold = (container.settings?.hostPorts ?? []).allSatisfy { policy.allows(port: $0.number) }
        return mayHold && container.fellBackTo.map { policy.refusal(ofRuntime: $0) == nil } ?? true
    }

    /// Nothing is made, started or changed for it, and what runs against the rules ends. What runs as it was allowed, of a
    /// spec or within limits before, serves on.
    private func refused(_ refusal: HostPolicy.Refusal) -> Decision {
        let doomed = containers.filter { container in
            guard container.state.isUp else { return false }
            if isSurplus || !isAllowed(container) { return true }
            guard container.fingerprint == workload.fingerprint else { return false }
            var asItIs = workload.spec
            if let limits = container.settings?.limits {
                asItIs.resources.memoryMB = limits.memory / 1_048_576
                asItIs.resources.cpuMillicores = limits.nanoCPUs / 1_000_000
                asItIs.resources.pids = limits.pids
            }
            return policy.refusal(of: asItIs) != nil
        }
        if let up = chosen(from: doomed) {
            return stop(up, refusal.message, phase: .stopping, shown: up)
        }
        let serving = containers.first(where: \.state.isUp)
        return Decision(
            status: status(.failed, serving ?? shown, reason: "refused_by_host", message: refusal.message))
    }

    // MARK: volumes

    /// MiB in its volumes; nil where they are not watched or not measured yet.
    var volumeUsedMB: Int? {
        guard workload.spec.resources.volumeMB != nil, !observed.volumeMB.isEmpty else { return nil }
        // Its own, by the names that they can have: never a look through those of all others.
        let names = Set([VolumeMount.name(for: workload.id)] + containers.flatMap { $0.mounts.map(\.volume) })
        let measured = names.compactMap { observed.volumeMB[$0] }
        return measured.isEmpty ? nil : measured.reduce(0, +)
    }

    /// It wrote more than it may, and the host's owner stops what does. The data stays as it is.
    private var overfull: Decision? {
        guard policy.stopsOverfull, let limit = workload.spec.resources.volumeMB else { return nil }
        guard let used = volumeUsedMB else {
            // An agent that has just started has measured nothing yet: its start is no way around the limit.
            let isDown = !containers.isEmpty && !containers.contains(where: \.state.isUp)
            guard isDown, now < Self.measuredBy else { return nil }
            return Decision(
                status: status(.waiting, shown, reason: "volume_unmeasured", message: "its volumes are being measured"),
                nextLook: now + .seconds(1))
        }
        guard used > limit else { return nil }
        let message = "its volumes hold \(used) MiB, and \(limit) are allowed; raise volume_mb"
        if let up = containers.first(where: \.state.isUp) { return stop(up, message, phase: .stopping, shown: up) }
        return Decision(status: status(.failed, shown, reason: "volume_full", message: message))
    }

    // MARK: parts

    private func without(_ container: ObservedContainer) -> WorkloadPlanner {
        WorkloadPlanner(
            workload: workload, containers: containers.filter { $0.id != container.id }, observed: observed,
            memory: memory, inFlight: inFlight, lateCreateUntil: lateCreateUntil, now: now, setUps: setUps,
            policy: policy, isSurplus: isSurplus, isExpired: isExpired)
    }

    /// Removing failed a moment ago: nothing waits for it.
    var isTidyingHeldBack: Bool { memory.tidying.notBefore.map { $0 > now } ?? false }

    /// The best of those that match the spec: one that runs, else the one that was made last.
    func chosen(from matching: [ObservedContainer]) -> ObservedContainer? {
        matching.max { left, right in
            (left.state.isUp ? 1 : 0, left.generation, left.attempt, left.id)
                < (right.state.isUp ? 1 : 0, right.generation, right.attempt, right.id)
        }
    }

    func stop(
        _ container: ObservedContainer, _ reason: String, phase: WorkloadPhase, shown: ObservedContainer
    ) -> Decision {
        let action = Step.Action.stop(container.id, graceSeconds: workload.spec.stopGraceSeconds)
        return Decision(step: planned(action, reason), status: status(phase, shown))
    }

    func step(
        _ action: Step.Action, _ reason: String, _ phase: WorkloadPhase, _ container: ObservedContainer? = nil
    ) -> Decision {
        Decision(step: planned(action, reason), status: status(phase, container ?? shown))
    }

    func planned(_ action: Step.Action, _ reason: String) -> Step {
        Step(workload: workload.id, generation: workload.generation, action: action, reason: reason)
    }
}
