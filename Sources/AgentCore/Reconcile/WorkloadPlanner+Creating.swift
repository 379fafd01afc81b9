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
        switch image() {
        case .notLookedUp: return Decision(status: status(.waiting, old), nextLook: now + .seconds(1))
        case .toPull(let reference, let reason): return step(.pull(image: reference), reason, .pulling, old)
        case .missing:
            return Decision(
                status: status(
                    .waiting, old, reason: "image_missing",
                    message: "\(workload.spec.image) is not on this host and must not be pulled"),
                nextLook: now + .seconds(30))
        case .ready(let image): return create(of: image, runtime, replacing: others)
        }
    }

    private func create(
        of image: UsableImage, _ runtime: (name: String, fellBackTo: String?), replacing others: [ObservedContainer]
    ) -> Decision {
        let old = others.first(where: \.state.isUp)
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
        let volumes = workload.spec.volumes + carried + declared(image.volumePaths, beside: carried)
        let order = ContainerOrder(
            name: name, workload: workload.id, generation: workload.generation, attempt: attempt,
            spec: workload.spec, imageID: image.id, engineRuntime: runtime.name, fellBackTo: runtime.fellBackTo,
            volumes: volumes,
            existingVolumes: observed.volumes.intersection(volumes.map(\.volume)).union(carried.map(\.volume)),
            limits: limits,
            diskMB: observed.diskLimitingRuntimes.contains(runtime.name) ? workload.spec.resources.diskMB : nil,
            imageDigest: image.digest, image: image.reference)
        return step(.create(order), others.isEmpty ? "there is none" : "the spec changed", .creating, old)
    }

    private struct UsableImage {
        var id: String
        var digest: String?
        var volumePaths: [String]
        /// What the Engine is told.
        var reference: String
    }

    private enum ImageSearch {
        case notLookedUp
        case toPull(String, reason: String)
        /// Not here, and not to be pulled.
        case missing
        case ready(UsableImage)
    }

    /// What a reference means is found out once per generation: a container that is made again is made of the same image,
    /// wherever its tag points by then.
    private func image() -> ImageSearch {
        let wanted = workload.spec.image
        guard let presence = observed.images[wanted] else { return .notLookedUp }
        if let pinned = memory.pinned {
            if case .present(let id, let paths, let digest) = presence, id == pinned.imageID {
                return .ready(UsableImage(id: id, digest: digest, volumePaths: paths, reference: wanted))
            }
            switch observed.images[pinned.imageID] {
            case nil: return .notLookedUp
            case .present(let id, let paths, let digest):
                return .ready(UsableImage(id: id, digest: digest, volumePaths: paths, reference: pinned.imageID))
            case .absent:
                // Without a digest it came from no registry, and what is there now must do.
                if let digest = pinned.digest, workload.spec.pull != .never, pinned.wasPulledAgain != true {
                    return .toPull(digest, reason: "the image of this generation is gone")
                }
            }
        } else if workload.spec.pull == .always, !memory.hasPulled {
            return .toPull(wanted, reason: "pulled anew for every generation")
        }
        switch presence {
        case .absent:
            return workload.spec.pull == .never
                ? .missing : .toPull(wanted, reason: "the image is not on this host")
        case .present(let id, let paths, let digest):
            return .ready(UsableImage(id: id, digest: digest, volumePaths: paths, reference: wanted))
        }
    }

    private func engineRuntime() -> (name: String, fellBackTo: String?)? {
        let choice = workload.spec.runtime
        if let name = observed.runtimes[choice.name] { return (name, nil) }
        // Not while it is still being found out whether the first choice works.
        switch observed.unusableRuntimes[choice.name] {
        case .underProbe, .notTried: return nil
        case .broken, nil: break
        }
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
        case .broken(let problem), .notTried(let problem):
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
