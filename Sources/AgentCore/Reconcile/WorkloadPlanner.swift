import BerthModel

/// Decides the next step of one workload from what is seen of it. Called once per workload and pass by `Planner`.
struct WorkloadPlanner {
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

    /// A new container must have been up this long before anything of the old ones is removed.
    static let verifyFor = Milliseconds.seconds(10)
    /// What it replaced is kept, stopped, until then: its writable layer is the way back.
    static let keepOldFor = Milliseconds.seconds(3600)

    func decide() -> Decision {
        if let inFlight { return working(on: inFlight) }
        var decision = wantedNext()
        // What failed is not tried before its time, whatever the step is.
        if decision.step != nil, let due = memory.notBefore, due > now {
            decision.step = nil
            decision.nextLook = due
            decision.status.reason = memory.lastFailure?.reason ?? decision.status.reason
            decision.status.message = memory.lastFailure?.message ?? decision.status.message
        }
        return decision
    }

    private func wantedNext() -> Decision {
        if let unseen = containers.first(where: { $0.state == .unknown }) {
            return Decision(
                status: status(
                    .waiting, shown, reason: "engine_does_not_answer", message: "\(unseen.name) cannot be inspected"),
                nextLook: now + .seconds(5))
        }
        if let dead = containers.first(where: { $0.state == .dead }) {
            return step(.remove(dead.id), "the Engine could not remove it before", .waiting)
        }
        switch workload.wish {
        case .running: return towardsRunning()
        case .stopped: return towardsStopped()
        case .removed: return towardsRemoved()
        }
    }

    // MARK: running

    private func towardsRunning() -> Decision {
        let settled = containers.filter { $0.state != .removing }
        let current = chosen(from: settled.filter { $0.fingerprint == workload.spec.fingerprint })
        let others = settled.filter { $0.id != current?.id }

        if let current, current.state.isUp {
            if let second = others.first(where: \.state.isUp) {
                return stop(second, "two containers of one workload must not run", phase: .running, shown: current)
            }
            return tidy(beside: current, others)
        }
        if let unwanted = superfluous(among: others) {
            return step(.remove(unwanted.id), "of a spec that is no longer wanted", .waiting)
        }
        if let current { return start(current, others: others) }
        return create(others: others)
    }

    /// The wanted container runs; what it replaced goes once it has proved itself.
    private func tidy(beside current: ObservedContainer, _ others: [ObservedContainer]) -> Decision {
        let status = status(.running, current)
        if let unwanted = superfluous(among: others.filter { $0.state == .created }) {
            return Decision(step: planned(.remove(unwanted.id), "never started"), status: status)
        }
        guard let old = others.first, case .running(_, let upFor) = current.state else {
            return Decision(status: status)
        }
        if upFor >= Self.verifyFor, let surplus = superfluous(among: others) {
            return Decision(step: planned(.remove(surplus.id), "one old container is kept"), status: status)
        }
        if upFor >= Self.keepOldFor {
            return Decision(step: planned(.remove(old.id), "replaced by \(current.name)"), status: status)
        }
        let next = upFor < Self.verifyFor ? Self.verifyFor : Self.keepOldFor
        return Decision(status: status, nextLook: now + Milliseconds(next.count - upFor.count))
    }

    private func start(_ current: ObservedContainer, others: [ObservedContainer]) -> Decision {
        if case .exited(let exit) = current.state, endedForGood(current, exit) {
            return Decision(
                status: status(.stopped, current, reason: exit.code == 0 ? "completed" : "not_restarted"))
        }
        if let waiting = waitingForRetry(current) { return waiting }
        if let old = others.first(where: \.state.isUp) {
            return stop(old, "its replacement \(current.name) is ready", phase: .starting, shown: old)
        }
        if let fenced = fenced(current.writableVolumes, current) { return fenced }
        return step(.start(current.id), current.state == .created ? "created" : "wanted running", .starting, current)
    }

    private func create(others: [ObservedContainer]) -> Decision {
        let old = others.first(where: \.state.isUp)
        guard let runtime = engineRuntime() else {
            let message = "this host has no runtime \"\(workload.spec.runtime.name)\" that works"
            return Decision(
                status: status(.waiting, old, reason: "runtime_missing", message: message), nextLook: now + .seconds(30)
            )
        }
        if let waiting = waitingForRetry(old) { return waiting }
        switch observed.images[workload.spec.image] {
        case nil:
            return Decision(status: status(.waiting, old), nextLook: now + .seconds(1))
        case .absent:
            return step(.pull(image: workload.spec.image), "the image is not on this host", .pulling, old)
        case .present(let imageID):
            let attempts = containers.filter { $0.generation == workload.generation }.map(\.attempt).max() ?? 0
            let attempt = max(attempts, memory.attempts) + 1 + memory.failures
            let name = ContainerOrder.name(
                spec: workload.spec, workload: workload.id, generation: workload.generation, attempt: attempt)
            let order = ContainerOrder(
                name: name, workload: workload.id, generation: workload.generation, attempt: attempt,
                spec: workload.spec, imageID: imageID, engineRuntime: runtime.name, fellBackTo: runtime.fellBackTo,
                existingVolumes: observed.volumes.intersection(workload.spec.volumes.map(\.volume)))
            let reason = others.isEmpty ? "there is none" : "the spec changed"
            return step(.create(order), reason, .creating, old)
        }
    }

    private func engineRuntime() -> (name: String, fellBackTo: String?)? {
        let choice = workload.spec.runtime
        if let name = observed.runtimes[choice.name] { return (name, nil) }
        guard choice.necessity == .prefer, let name = observed.runtimes[RuntimeChoice.runc] else { return nil }
        return (name, RuntimeChoice.runc)
    }

    /// Nobody else may write to a volume while this workload's container starts on it.
    private func fenced(_ volumes: [String], _ current: ObservedContainer) -> Decision? {
        for volume in volumes.sorted() {
            guard let writer = observed.foreignWriters[volume]?.sorted().first else { continue }
            let message = "container \(writer.text.prefix(12)) has volume \(volume) open for writing; stop it first"
            return Decision(
                status: status(.waiting, current, reason: "volume_in_use", message: message),
                nextLook: now + .seconds(5))
        }
        return nil
    }

    private func endedForGood(_ container: ObservedContainer, _ exit: ContainerState.Exit) -> Bool {
        let endedNow = container.generation == workload.generation || memory.countedDeath == exit
        guard endedNow, exit.startedAt > 0 else { return false }
        switch workload.spec.restart {
        case .always: return false
        case .never: return true
        case .onFailure: return exit.code == 0
        }
    }

    private func waitingForRetry(_ current: ObservedContainer?) -> Decision? {
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

    // MARK: stopped and removed

    private func towardsStopped() -> Decision {
        if let up = containers.first(where: \.state.isUp) {
            return stop(up, "wanted stopped", phase: .stopping, shown: up)
        }
        return Decision(status: status(.stopped, shown))
    }

    private func towardsRemoved() -> Decision {
        if let up = containers.first(where: \.state.isUp) {
            return stop(up, "to be removed", phase: .stopping, shown: up)
        }
        if let next = containers.first(where: { $0.state != .removing }) {
            return step(.remove(next.id), "to be removed; its volumes stay", .stopping)
        }
        if let going = containers.first {
            return Decision(status: status(.stopping, going), nextLook: now + .seconds(1))
        }
        // A create without an answer may still come true: then it must be found and removed, not forgotten.
        if let lateCreateUntil, lateCreateUntil > now {
            return Decision(status: status(.stopping, nil), nextLook: lateCreateUntil)
        }
        return Decision(status: status(.removed, nil))
    }

    // MARK: parts

    /// The best of those that match the spec: one that runs, else the one that was made last.
    private func chosen(from matching: [ObservedContainer]) -> ObservedContainer? {
        matching.max { left, right in
            (left.state.isUp ? 1 : 0, left.generation, left.attempt, left.id)
                < (right.state.isUp ? 1 : 0, right.generation, right.attempt, right.id)
        }
    }

    /// Never started, or not the best of those that ended: of no use to anybody. The best is the newest one that ran long
    /// enough to prove itself, else the newest.
    private func superfluous(among others: [ObservedContainer]) -> ObservedContainer? {
        if let created = others.first(where: { $0.state == .created }) { return created }
        let ended = others.filter { !$0.state.isUp }.sorted { left, right in
            (left.provedItself ? 1 : 0, left.generation, left.attempt, left.id)
                > (right.provedItself ? 1 : 0, right.generation, right.attempt, right.id)
        }
        return ended.dropFirst().last
    }

    private func working(on step: Step) -> Decision {
        let phase: WorkloadPhase
        var cancels = false
        switch step.action {
        case .pull(let image):
            phase = .pulling
            cancels = workload.wish != .running || image != workload.spec.image
        case .create: phase = .creating
        case .start: phase = .starting
        case .stop: phase = .stopping
        case .remove: phase = workload.wish == .removed ? .stopping : .waiting
        }
        // Tidying up beside a container that serves is nothing its user needs to see.
        let serving = containers.first(where: \.state.isUp)
        if case .remove = step.action, let serving, workload.wish == .running {
            return Decision(status: status(.running, serving))
        }
        var status = status(phase, serving ?? shown)
        // A container whose start has not been answered does not serve yet, even where it is seen up.
        if case .start(let id) = step.action, serving?.id == id {
            status.startedAt = nil
            status.address = nil
        }
        return Decision(status: status, cancelsInFlight: cancels)
    }

    /// What the workload is now, for its status. A superseded container that is kept for a while is not it.
    private var shown: ObservedContainer? {
        chosen(from: containers.filter { $0.fingerprint == workload.spec.fingerprint })
    }

    private func stop(
        _ container: ObservedContainer, _ reason: String, phase: WorkloadPhase, shown: ObservedContainer
    ) -> Decision {
        let action = Step.Action.stop(container.id, graceSeconds: workload.spec.stopGraceSeconds)
        return Decision(step: planned(action, reason), status: status(phase, shown))
    }

    private func step(
        _ action: Step.Action, _ reason: String, _ phase: WorkloadPhase, _ container: ObservedContainer? = nil
    ) -> Decision {
        Decision(step: planned(action, reason), status: status(phase, container ?? shown))
    }

    private func planned(_ action: Step.Action, _ reason: String) -> Step {
        Step(workload: workload.id, generation: workload.generation, action: action, reason: reason)
    }

    private func status(
        _ phase: WorkloadPhase, _ container: ObservedContainer?, reason: String? = nil, message: String? = nil
    ) -> WorkloadStatus {
        var status = WorkloadStatus(
            workload: workload.id, generation: workload.generation, phase: phase, reason: reason, message: message)
        status.restarts = memory.restarts
        guard let container else { return status }
        status.engineContainer = container.id
        status.imageID = container.imageID
        status.volumeKept = container.volumeKept
        switch container.state {
        case .running(let startedAt, _):
            status.startedAt = startedAt
            status.address = container.address
        case .paused where phase == .running:
            status.reason = "paused"
            status.message = "somebody paused the container on the host"
        case .exited(let exit):
            status.exitCode = exit.code
            status.outOfMemory = exit.outOfMemory
        default: break
        }
        if let fellBackTo = container.fellBackTo, phase == .running {
            status.reason = "runtime_fallback"
            status.message = "\(workload.spec.runtime.name) is not available here; running under \(fellBackTo)"
        }
        return status
    }
}

extension ObservedContainer {
    /// By the host's wall clock, which here only chooses what is kept.
    fileprivate var provedItself: Bool {
        guard case .exited(let exit) = state else { return false }
        return (exit.finishedAt - exit.startedAt) * 1000 >= Double(WorkloadPlanner.verifyFor.count)
    }
}

extension ContainerState {
    /// Its processes run, or may at any moment.
    package var isUp: Bool {
        switch self {
        case .running, .paused, .restarting: true
        case .created, .exited, .removing, .dead, .unknown: false
        }
    }
}
