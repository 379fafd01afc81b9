import BerthModel

/// What is said of a workload.
extension WorkloadPlanner {
    func working(on step: Step) -> Decision {
        let phase: WorkloadPhase
        var cancels = false
        switch step.action {
        case .pull(let image):
            phase = .pulling
            let isWanted = image == workload.spec.image || image == memory.pinned?.digest
            cancels = workload.wish != .running || !isWanted
        case .create: phase = .creating
        case .start: phase = .starting
        case .stop: phase = .stopping
        case .setUp(let id, _): return settingUp(id, step)
        case .endProcesses: phase = workload.wish == .running ? .waiting : .stopping
        case .update(let id, _), .connect(let id): phase = isUp(id) ? .running : .starting
        case .remove, .removeVolume: phase = workload.wish == .removed ? .stopping : .waiting
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

    /// For minutes, in which more may be wanted. A change that leaves the container and its set-up as they are, as a start
    /// of what runs or another name, is no reason to begin it anew.
    private func settingUp(_ id: EngineContainerID, _ step: Step) -> Decision {
        let isStillNext =
            workload.wish == .running
            && (step.generation == workload.generation || towardsRunning().step?.action == step.action)
        guard isStillNext, isUp(id), let container = containers.first(where: { $0.id == id }) else {
            let serving = containers.first(where: \.state.isUp)
            return Decision(
                status: status(serving == nil ? .starting : .configuring, serving ?? shown),
                cancelsInFlight: !isStillNext)
        }
        return Decision(status: configuring(container))
    }

    private func isUp(_ id: EngineContainerID) -> Bool { containers.contains { $0.id == id && $0.state.isUp } }

    /// What the workload is now, for its status. A superseded container that is kept for a while is not it.
    var shown: ObservedContainer? {
        chosen(from: containers.filter { $0.fingerprint == workload.fingerprint })
    }

    /// What the generation wanted is what is seen.
    func carriedOut(_ status: WorkloadStatus) -> WorkloadStatus {
        var status = status
        status.observedGeneration = workload.generation
        return status
    }

    func status(
        _ phase: WorkloadPhase, _ container: ObservedContainer?, reason: String? = nil, message: String? = nil
    ) -> WorkloadStatus {
        var status = WorkloadStatus(
            workload: workload.id, generation: workload.generation,
            observedGeneration: min(memory.observedGeneration, workload.generation), phase: phase, reason: reason,
            message: message)
        status.restarts = memory.restarts
        status.volumeUsedMB = volumeUsedMB
        guard let container else { return status }
        status.engineContainer = container.id
        status.imageID = container.imageID
        status.volumeKept = container.volumeKept
        status.writableLayerMB = container.writableLayerMB
        status.warnings = warnings(container)
        if let error = ended(container)?.error { status.roleError = error }
        switch container.state {
        case .running(let startedAt, _, _):
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

    /// How the set-up that is wanted ended in `container`; nil where it has not, or another is wanted.
    func ended(_ container: ObservedContainer) -> ReconcileMemory.SetUpRecord? {
        guard let record = setUps[container.id], record.setUp == workload.spec.setUp?.fingerprint else { return nil }
        return record.error == nil || record.generation == workload.generation ? record : nil
    }

    /// What a person should know before it costs them something. A replacement begins with an empty writable layer: what was written outside the volumes does not come along.
    private func warnings(_ container: ObservedContainer) -> [String] {
        var warnings = layerWarning(container).map { [$0] } ?? []
        if let limit = workload.spec.resources.volumeMB, let used = volumeUsedMB, used * 10 > limit * 9 {
            warnings.append("its volumes hold \(used) MiB of the \(limit) allowed")
        }
        return warnings
    }

    private func layerWarning(_ container: ObservedContainer) -> String? {
        guard workload.wish == .running, container.fingerprint != workload.fingerprint,
            let written = container.writableLayerMB, written > 0
        else { return nil }
        return
            "\(written) MiB written outside the volumes stay behind in \(container.name), which is kept stopped for an hour"
    }
}
