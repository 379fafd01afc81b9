package import AgentCore
package import BerthModel

/// The simulated Engine as the agent's own code would see and use it.
extension SimulatedHost {
    /// - Parameter pins: ids of images that workloads are bound to.
    package func observe(for desired: DesiredState, pins: [WorkloadID: String]) -> ObservedHost {
        var managed: [ObservedContainer] = []
        var writers: [String: [EngineContainerID]] = [:]
        for container in containers.values {
            if let observed = observed(container) {
                managed.append(observed)
            } else if container.isUp {
                for mount in container.mounts where mount.isWritable {
                    writers[mount.volume, default: []].append(EngineContainerID(validated: container.id))
                }
            }
        }
        var known: [String: ImagePresence] = [:]
        for workload in desired.workloads.values {
            let image = images[workload.spec.image]
            known[workload.spec.image] =
                image.map { .present(imageID: $0.id, volumePaths: $0.volumePaths) } ?? .absent
        }
        for pin in pins.values {
            let image = images.values.first { $0.id == pin }
            known[pin] = image.map { .present(imageID: $0.id, volumePaths: $0.volumePaths) } ?? .absent
        }
        return ObservedHost(
            managed: managed, foreignWriters: writers, images: known,
            runtimes: ["runc": "runc", "gvisor": "runsc"], liveRuntimes: ["runc"], volumes: volumes, cpus: 2,
            ownVolumes: Dictionary(
                uniqueKeysWithValues: desired.workloads.keys.map { id in
                    let own = VolumeMount.name(for: id)
                    return (id, volumes.filter { $0 == own || $0.hasPrefix(own + "-") }.sorted())
                }))
    }

    private func observed(_ container: Container) -> ObservedContainer? {
        guard let workload = container.workload, let fingerprint = container.labels["berth.spec"],
            let attempt = container.labels["berth.attempt"].flatMap({ Int($0) })
        else { return nil }
        return ObservedContainer(
            id: EngineContainerID(validated: container.id), name: container.name,
            workload: WorkloadID(validated: workload), generation: container.generation,
            fingerprint: Fingerprint(text: fingerprint), attempt: attempt, state: state(container),
            imageID: images[container.image]?.id ?? "",
            mounts: container.mounts.map {
                ObservedMount(volume: $0.volume, path: $0.path, access: $0.isWritable ? .readWrite : .readOnly)
            },
            settings: ObservedSettings(
                runtime: container.runtime, limits: container.limits,
                isRestartedByEngine: container.restartPolicy != "no", isConnected: container.isConnected),
            leftoverProcesses: container.hangs ? [4711] : [])
    }

    private func state(_ container: Container) -> ContainerState {
        switch container.state {
        case .created: .created
        case .running(let since): .running(startedAt: Double(since) / 1000, upFor: Milliseconds(clock - since))
        case .paused: .paused
        case .exited(let code, let startedAt, let finishedAt, let error):
            .exited(
                .init(
                    code: code, error: error, startedAt: Double(startedAt) / 1000,
                    finishedAt: Double(finishedAt) / 1000))
        }
    }

    /// How a call of the agent ends.
    package enum Fate: String, Hashable, Sendable, CaseIterable {
        case works
        /// Refused, nothing done.
        case fails
        /// Done, and the answer is an error.
        case doneThenFails
        /// Done, and no answer comes.
        case doneThenSilent
        /// The agent is killed before the call.
        case crashBefore
        /// The agent is killed after the call.
        case crashAfter
    }

    /// Carries out a step as `PlanExecutor` would.
    ///
    /// - Returns: nil where the agent does not live to hear the answer.
    package mutating func perform(_ step: Step, _ fate: Fate = .works) -> StepOutcome.Result? {
        switch fate {
        case .crashBefore: return nil
        case .fails: return .failed(.init(reason: "injected", message: "500", isPermanent: false))
        case .works, .doneThenFails, .doneThenSilent, .crashAfter: break
        }
        let result = carryOut(step.action)
        switch fate {
        case .works: return result
        case .crashAfter: return nil
        case .doneThenSilent:
            return .failed(
                .init(reason: "no_answer", message: "", isPermanent: false, mayHaveHappened: true, timedOut: true))
        case .fails, .doneThenFails, .crashBefore:
            return .failed(.init(reason: "injected", message: "500", isPermanent: false, mayHaveHappened: true))
        }
    }

    private mutating func carryOut(_ action: Step.Action) -> StepOutcome.Result {
        do {
            switch action {
            case .pull(let image): try pull(image)
            case .create(let order): _ = try create(Container(order))
            case .start(let id): try start(id.text)
            case .stop(let id, _): try stop(id.text)
            case .update(let id, let limits): try update(id.text, limits)
            case .connect(let id): try connect(id.text)
            case .setUp: break
            case .endProcesses(let id): endProcesses(id.text)
            case .remove(let id): try remove(id.text)
            case .removeVolume(let name): try removeVolume(name)
            }
            return .succeeded
        } catch {
            return Self.result(of: action, error)
        }
    }

    private static func result(of action: Step.Action, _ refusal: Refusal) -> StepOutcome.Result {
        switch (action, refusal.status) {
        case (.stop, 404), (.remove, 404), (.removeVolume, 404): .succeeded
        case (_, 404) where action.names != nil: .superseded
        case (.create, 409), (.remove, 409): .superseded
        default:
            .failed(
                .init(
                    reason: "refused", message: refusal.message, isPermanent: false,
                    mayHaveHappened: refusal.status == 0 || refusal.status >= 500, timedOut: refusal.status == 0))
        }
    }
}

extension Step.Action {
    /// The engine container that the step is about; nil where there is none yet.
    package var names: EngineContainerID? {
        switch self {
        case .pull, .create, .removeVolume: nil
        case .start(let id), .stop(let id, _), .update(let id, _), .connect(let id), .setUp(let id, _),
            .endProcesses(let id), .remove(let id):
            id
        }
    }

    /// For a story that people read.
    package var told: String {
        switch self {
        case .pull(let image): "pull \(image)"
        case .create(let order): "create \(order.name)"
        case .start(let id): "start \(id.text.suffix(3))"
        case .stop(let id, _): "stop \(id.text.suffix(3))"
        case .update(let id, _): "update \(id.text.suffix(3))"
        case .connect(let id): "connect \(id.text.suffix(3))"
        case .setUp(let id, _): "set up \(id.text.suffix(3))"
        case .endProcesses(let id): "end the processes of \(id.text.suffix(3))"
        case .remove(let id): "remove \(id.text.suffix(3))"
        case .removeVolume(let name): "remove volume \(name)"
        }
    }
}
