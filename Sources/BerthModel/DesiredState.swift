/// What somebody wants of one workload.
package struct DesiredWorkload: Hashable, Sendable, Codable {
    package enum Wish: String, Hashable, Sendable, Codable {
        case running
        /// The engine container is stopped and kept.
        case stopped
        /// A tombstone: the engine containers are removed, the volumes stay. The only way to remove a workload.
        case removed
    }

    /// With a tombstone: its volumes go too. The only way to remove a volume.
    package var purgesVolumes: Bool

    package var id: WorkloadID
    package var generation: Generation
    package var wish: Wish
    package var spec: WorkloadSpec { didSet { fingerprint = spec.fingerprint } }
    /// Of the spec; kept, because every pass compares it with each container several times.
    package private(set) var fingerprint: Fingerprint

    package init(
        id: WorkloadID, generation: Generation, wish: Wish, spec: WorkloadSpec, purgesVolumes: Bool = false
    ) {
        self.purgesVolumes = purgesVolumes
        self.id = id
        self.generation = generation
        self.wish = wish
        self.spec = spec
        fingerprint = spec.fingerprint
    }

    private enum CodingKeys: String, CodingKey { case id, generation, wish, spec, purgesVolumes }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            id: try container.decode(WorkloadID.self, forKey: .id),
            generation: try container.decode(Generation.self, forKey: .generation),
            wish: try container.decode(Wish.self, forKey: .wish),
            spec: try container.decode(WorkloadSpec.self, forKey: .spec),
            purgesVolumes: try container.decodeIfPresent(Bool.self, forKey: .purgesVolumes) ?? false)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(id, forKey: .id)
        try container.encode(generation, forKey: .generation)
        try container.encode(wish, forKey: .wish)
        try container.encode(spec, forKey: .spec)
        if purgesVolumes { try container.encode(true, forKey: .purgesVolumes) }
    }

    /// Nil where the agent can act on it, else why not. A volume must carry this workload's own id.
    package var problem: String? {
        if purgesVolumes, wish != .removed {
            return "purgesVolumes: only a workload that is wanted removed can lose its data"
        }
        if generation < 1 { return "generation: expected 1 or more, found \(generation)" }
        if let problem = spec.problem { return problem }
        let own = VolumeMount.name(for: id)
        if let foreign = spec.volumes.first(where: { $0.volume != own && !$0.volume.hasPrefix(own + "-") }) {
            return "volumes: \"\(foreign.volume.prefix(80))\" does not belong to this workload"
        }
        return nil
    }
}

/// All workloads of one host under one revision.
package struct DesiredState: Hashable, Sendable, Codable {
    package private(set) var revision: Revision
    package private(set) var workloads: [WorkloadID: DesiredWorkload]

    /// The last of several entries with one id counts.
    package init(revision: Revision, workloads: some Sequence<DesiredWorkload>) {
        self.revision = revision
        self.workloads = [:]
        for workload in workloads { self.workloads[workload.id] = workload }
    }

    package static let empty = DesiredState(revision: .none, workloads: [])

    /// The state after a delta: entries replace those with the same id, nothing disappears.
    package func applying(_ changed: some Sequence<DesiredWorkload>, resultingIn revision: Revision) -> DesiredState {
        var result = self
        result.revision = revision
        for workload in changed { result.workloads[workload.id] = workload }
        return result
    }

    /// Workloads whose session is over, and how many seconds later the next one is; nil where none will be.
    ///
    /// - Parameter now: seconds since 1970 UTC.
    package func expired(at now: Double) -> (over: Set<WorkloadID>, nextIn: Double?) {
        var over: Set<WorkloadID> = []
        var next: Double?
        for workload in workloads.values {
            guard workload.wish == .running, let end = workload.spec.expiresAt else { continue }
            if end <= now { over.insert(workload.id) } else { next = min(next ?? end, end) }
        }
        return (over, next.map { $0 - now })
    }

    /// The state without tombstones whose work is done and confirmed.
    package func forgetting(_ removed: some Sequence<WorkloadID>) -> DesiredState {
        var result = self
        for id in removed where result.workloads[id]?.wish == .removed { result.workloads[id] = nil }
        return result
    }

    /// Tells two holders of one revision apart when they do not hold the same thing. Independent of order, and of
    /// tombstones, which each end forgets at a moment of its own.
    package var digest: Fingerprint {
        var hasher = Fingerprint.Hasher()
        hasher.combine(revision.number)
        for id in workloads.keys.sorted() {
            guard let workload = workloads[id], workload.wish != .removed else { continue }
            hasher.combine(id.text)
            hasher.combine(workload.generation)
            hasher.combine(workload.wish.rawValue)
            hasher.combine(workload.spec.name)
            hasher.combine(workload.spec.restart.rawValue)
            hasher.combine(workload.spec.stopGraceSeconds)
            hasher.combine(workload.spec.resources.memoryMB)
            hasher.combine(workload.spec.resources.cpuMillicores)
            hasher.combine(workload.spec.resources.pids)
            // What a peer of another version does not know must not tell the two apart where nobody asks for it.
            if let bandwidth = workload.spec.resources.bandwidth {
                hasher.combine(bandwidth.egressKbps)
                hasher.combine(bandwidth.ingressKbps)
            }
            if let volume = workload.spec.resources.volumeMB { hasher.combine(volume) }
            hasher.combine(workload.spec.rollback?.rawValue ?? "")
            hasher.combine(workload.spec.restartLimit)
            if let end = workload.spec.expiresAt { hasher.combine(Int(end)) }
            if let timeout = workload.spec.idleTimeoutSeconds { hasher.combine("idle \(timeout)") }
            if let held = workload.spec.heldUntil { hasher.combine("held \(Int(held))") }
            if let pull = workload.spec.pull { hasher.combine(pull.rawValue) }
            if let setUp = workload.spec.setUp { hasher.combine(setUp.fingerprint.text) }
            hasher.combine(workload.fingerprint.text)
        }
        return hasher.finalize()
    }

    private enum CodingKeys: String, CodingKey { case revision, workloads }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            revision: try container.decode(Revision.self, forKey: .revision),
            workloads: try container.decode([DesiredWorkload].self, forKey: .workloads))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(revision, forKey: .revision)
        try container.encode(workloads.keys.sorted().compactMap { workloads[$0] }, forKey: .workloads)
    }
}
