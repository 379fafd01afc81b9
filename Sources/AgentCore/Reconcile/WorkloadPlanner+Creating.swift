import BerthModel

/// What a new container is made of.
extension WorkloadPlanner {
    func create(others: [ObservedContainer]) -> Decision {
        let old = others.first(where: \.state.isUp)
        guard let runtime = engineRuntime() else { return withoutRuntime(old) }
        if let waiting = waitingForRetry(old) { return waiting }
        if containers.count >= 3 {
            return Decision(
                status: status(
                    .waiting, old, reason: "remove_failed",
                    message: memory.lastFailure?.message ?? "old containers cannot be removed"),
                nextLook: memory.tidying.notBefore ?? now + .seconds(5))
        }
        switch observed.images[workload.spec.image] {
        case nil:
            return Decision(status: status(.waiting, old), nextLook: now + .seconds(1))
        case .absent:
            return step(.pull(image: workload.spec.image), "the image is not on this host", .pulling, old)
        case .present(let imageID, let volumePaths):
            let attempts = containers.filter { $0.generation == workload.generation }.map(\.attempt).max() ?? 0
            let attempt = max(attempts, memory.attempts) + 1 + memory.failures
            let name = ContainerOrder.name(
                spec: workload.spec, workload: workload.id, generation: workload.generation, attempt: attempt)
            let carried = carriedOver(from: others)
            if let foreign = workload.spec.volumes.first(where: { observed.foreignVolumes.contains($0.volume) }) {
                return Decision(
                    status: status(
                        .waiting, old, reason: "volume_of_another",
                        message: "volume \(foreign.volume) was made by another agent"), nextLook: now + .seconds(30))
            }
            let volumes = workload.spec.volumes + carried + declared(volumePaths, beside: carried)
            let order = ContainerOrder(
                name: name, workload: workload.id, generation: workload.generation, attempt: attempt,
                spec: workload.spec, imageID: imageID, engineRuntime: runtime.name, fellBackTo: runtime.fellBackTo,
                volumes: volumes,
                existingVolumes: observed.volumes.intersection(volumes.map(\.volume)).union(carried.map(\.volume)),
                limits: limits,
                diskMB: observed.diskLimitingRuntimes.contains(runtime.name) ? workload.spec.resources.diskMB : nil)
            let reason = others.isEmpty ? "there is none" : "the spec changed"
            return step(.create(order), reason, .creating, old)
        }
    }

    private func engineRuntime() -> (name: String, fellBackTo: String?)? {
        let choice = workload.spec.runtime
        if let name = observed.runtimes[choice.name] { return (name, nil) }
        // Not while it is still being found out whether the first choice works.
        if observed.unusableRuntimes[choice.name] == .underProbe { return nil }
        guard choice.necessity == .prefer, policy.refusal(ofRuntime: RuntimeChoice.runc) == nil,
            let name = observed.runtimes[RuntimeChoice.runc]
        else { return nil }
        return (name, RuntimeChoice.runc)
    }

    private func withoutRuntime(_ old: ObservedContainer?) -> Decision {
        let name = workload.spec.runtime.name
        switch observed.unusableRuntimes[name] {
        case .underProbe:
            // The end of the probe brings the next look.
            return Decision(
                status: status(.waiting, old, message: "it is being found out whether the runtime \(name) works here"),
                nextLook: now + .seconds(5))
        case .broken(let problem):
            return Decision(
                status: status(
                    .waiting, old, reason: "runtime_broken",
                    message: "the runtime \(name) does not work here: \(problem)"),
                nextLook: now + .seconds(30))
        case nil:
            return Decision(
                status: status(
                    .waiting, old, reason: "runtime_missing", message: "this host has no runtime \"\(name)\""),
                nextLook: now + .seconds(30))
        }
    }

    /// Volumes of the container that is replaced which its spec did not ask for: the image's own, and any that the Engine
    /// named. They hold data too.
    private func carriedOver(from others: [ObservedContainer]) -> [VolumeMount] {
        guard let before = chosen(from: others.filter { $0.state != .created }) else { return [] }
        return before.mounts.sorted { $0.path < $1.path }.filter { mount in
            let isOwn = mount.volume.hasPrefix("berth-")
            let isOfImage = mount.volume == VolumeMount.name(for: workload.id, imageVolumeAt: mount.path)
            return (!isOwn || isOfImage) && !isTaken(mount.path)
        }.map { VolumeMount(volume: $0.volume, path: $0.path, access: $0.access) }
    }

    private func declared(_ paths: [String], beside carried: [VolumeMount]) -> [VolumeMount] {
        paths.sorted().filter { path in !isTaken(path) && !carried.contains { $0.path == path } }.map { path in
            VolumeMount(volume: VolumeMount.name(for: workload.id, imageVolumeAt: path), path: path)
        }
    }

    private func isTaken(_ path: String) -> Bool { workload.spec.volumes.contains { $0.path == path } }
}
