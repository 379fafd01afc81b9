package import BerthModel

/// Why a workload is as it is, and what becomes of it: wanted, seen, each difference with both values, the next step.
package struct WorkloadExplanation: Hashable, Sendable, Codable {
    package struct Container: Hashable, Sendable, Codable {
        package var id: String
        package var name: String
        package var state: String
        package var generation: Generation
        /// Made from the spec that is wanted now.
        package var isWanted: Bool
        package var writableLayerMB: Int?
        package var leftoverProcesses: [Int]

        private enum CodingKeys: String, CodingKey {
            case id, name, state, generation
            case isWanted = "is_wanted"
            case writableLayerMB = "writable_layer_mb"
            case leftoverProcesses = "leftover_processes"
        }
    }

    package struct Drift: Hashable, Sendable, Codable {
        package var what: String
        package var wanted: String
        package var found: String

        package init(_ what: String, wanted: String, found: String) {
            self.what = what
            self.wanted = wanted
            self.found = found
        }
    }

    package struct PlannedStep: Hashable, Sendable, Codable {
        package var action: String
        package var reason: String
    }

    package var workload: WorkloadID
    package var name: String
    package var wanted: String
    package var image: String
    package var generation: Generation
    package var observedGeneration: Generation
    package var phase: String
    package var reason: String?
    package var message: String?
    package var containers: [Container]
    package var drifts: [Drift]
    /// What is being done now.
    package var underWay: PlannedStep?
    /// What is done next; nil where there is nothing to do or nothing may be done yet.
    package var next: PlannedStep?
    /// Until when nothing is tried, in milliseconds from now.
    package var retryInMilliseconds: Int?
    /// When it is looked at again although nothing happens, in milliseconds from now.
    package var nextLookInMilliseconds: Int?
    package var failuresInARow: Int
    package var restarts: Int
    package var lastFailure: String?
    /// The last of what was done to it, newest first.
    package var history: [ActionRecord]

    private enum CodingKeys: String, CodingKey {
        case workload, name, wanted, image, generation, phase, reason, message, containers, drifts, next, restarts,
            history
        case observedGeneration = "observed_generation"
        case underWay = "under_way"
        case retryInMilliseconds = "retry_in_ms"
        case nextLookInMilliseconds = "next_look_in_ms"
        case failuresInARow = "failures_in_a_row"
        case lastFailure = "last_failure"
    }
}

extension Planner {
    /// Nil where nobody wants anything of such a workload.
    package static func explain(
        _ id: WorkloadID, desired: DesiredState, observed: ObservedHost, memory: ReconcileMemory,
        now: MonotonicInstant, policy: HostPolicy = HostPolicy(), expired: Set<WorkloadID> = []
    ) -> WorkloadExplanation? {
        guard let workload = desired.workloads[id] else { return nil }
        let containers = observed.managed.filter { $0.workload == id }.sorted { $0.name < $1.name }
        let planner = WorkloadPlanner(
            workload: workload, containers: containers, observed: observed, memory: memory.memory(of: workload),
            inFlight: memory.inFlight[id], lateCreateUntil: memory.lateCreates[id], now: now, setUps: memory.setUps,
            policy: policy,
            isSurplus: policy.surplus(of: desired, observed: observed).contains(id), isExpired: expired.contains(id))
        let decision = planner.decide()
        let own = memory.memory(of: workload)
        return WorkloadExplanation(
            workload: id, name: workload.spec.name, wanted: workload.wish.rawValue, image: workload.spec.image,
            generation: workload.generation, observedGeneration: decision.status.observedGeneration,
            phase: decision.status.phase.word, reason: decision.status.reason, message: decision.status.message,
            containers: containers.map { container in
                .init(
                    id: container.id.text, name: container.name, state: container.state.word,
                    generation: container.generation, isWanted: container.fingerprint == workload.fingerprint,
                    writableLayerMB: container.writableLayerMB, leftoverProcesses: container.leftoverProcesses)
            },
            drifts: planner.drifts(), underWay: memory.inFlight[id].map(WorkloadExplanation.PlannedStep.init),
            next: decision.step.map(WorkloadExplanation.PlannedStep.init),
            retryInMilliseconds: own.notBefore.flatMap { $0 > now ? ($0 - now).count : nil },
            nextLookInMilliseconds: decision.nextLook.map { max(0, ($0 - now).count) }, failuresInARow: own.failures,
            restarts: own.restarts, lastFailure: own.lastFailure.map { "\($0.reason): \($0.message)" }, history: [])
    }
}

extension WorkloadExplanation.PlannedStep {
    package init(_ step: Step) { self.init(action: step.action.summary, reason: step.reason) }
}

extension WorkloadPlanner {
    /// Each difference between what is wanted and what is seen, with both values.
    fileprivate func drifts() -> [WorkloadExplanation.Drift] {
        let up = containers.filter(\.state.isUp)
        guard workload.wish == .running else {
            let surplus = workload.wish == .removed ? containers : up
            return surplus.map {
                .init("container", wanted: workload.wish.rawValue, found: "\($0.name) \($0.state.word)")
            }
        }
        let current = shown ?? chosen(from: containers)
        guard let current else { return [.init("container", wanted: "running", found: "none")] }
        var drifts: [WorkloadExplanation.Drift] = []
        func compare(_ what: String, _ wanted: String, _ found: String) {
            if wanted != found { drifts.append(.init(what, wanted: wanted, found: found)) }
        }
        compare("state", "running", current.state.word)
        for second in up where second.id != current.id {
            drifts.append(.init("other container", wanted: "not running", found: "\(second.name) \(second.state.word)"))
        }
        if let settings = current.settings {
            compare("memory", "\(limits.memory)", "\(settings.limits.memory)")
            compare("nanocpus", "\(limits.nanoCPUs)", "\(settings.limits.nanoCPUs)")
            compare("pids", "\(limits.pids)", "\(settings.limits.pids)")
            compare("restart policy of the Engine", "no", settings.isRestartedByEngine ? "set" : "no")
            compare("network", "connected", settings.isConnected ? "connected" : "disconnected")
            let engineName = observed.runtimes[workload.spec.runtime.name] ?? workload.spec.runtime.name
            if current.fellBackTo == nil { compare("runtime", engineName, settings.runtime) }
            compare("image", workload.spec.image, settings.image)
        }
        let wantedVolumes = workload.spec.volumes.map { "\($0.volume) at \($0.path)" }.sorted()
        let found = Set(current.mounts.map { "\($0.volume) at \($0.path)" })
        for volume in wantedVolumes where !found.contains(volume) {
            drifts.append(.init("volume", wanted: volume, found: "not mounted"))
        }
        // Values of the environment are nobody's business here: their fingerprints tell that they differ.
        compare("spec", workload.fingerprint.text, current.fingerprint.text)
        return drifts
    }
}

extension Step.Action {
    /// For the log and the history.
    package var summary: String {
        switch self {
        case .pull(let image): "pull \(image)"
        case .create(let order): "create \(order.name)"
        case .start(let id): "start \(id.text.prefix(12))"
        case .stop(let id, let grace): "stop \(id.text.prefix(12)) grace \(grace) s"
        case .update(let id, let limits):
            "update \(id.text.prefix(12)) memory \(limits.memory) nanocpus \(limits.nanoCPUs) pids \(limits.pids)"
        case .connect(let id): "connect \(id.text.prefix(12)) to its network"
        case .setUp(let id, let setUp):
            "set up \(id.text.prefix(12)) \(setUp.environment.keys.sorted().map { "\($0.dropFirst(6).lowercased())=\(setUp.environment[$0] ?? "")" }.joined(separator: " "))"
        case .endProcesses(let id): "kill what is left in the cgroup of \(id.text.prefix(12))"
        case .remove(let id): "remove \(id.text.prefix(12)), volumes kept"
        case .removeVolume(let name): "remove volume \(name)"
        }
    }
}
