package import BerthModel

/// What one complete look at the Engine found. There is no empty default: a look that failed is not an observation.
package struct ObservedHost: Hashable, Sendable {
    /// Engine containers that carry this agent's labels.
    package var managed: [ObservedContainer]
    /// Writable volumes that containers of somebody else have mounted while they can write: for the fence.
    package var foreignWriters: [String: [EngineContainerID]]
    /// Image references that were asked about, with the image id where the Engine has it.
    package var images: [String: ImagePresence]
    /// Names that a spec's `runtime` may have here, with the Engine's name for each.
    package var runtimes: [String: String]
    /// Names of the volumes that exist.
    package var volumes: Set<String>

    package init(
        managed: [ObservedContainer], foreignWriters: [String: [EngineContainerID]],
        images: [String: ImagePresence], runtimes: [String: String], volumes: Set<String>
    ) {
        self.managed = managed
        self.foreignWriters = foreignWriters
        self.images = images
        self.runtimes = runtimes
        self.volumes = volumes
    }
}

/// Whether the Engine has an image. Not asked is not absent.
package enum ImagePresence: Hashable, Sendable {
    case present(imageID: String)
    case absent
}

/// One engine container that carries our labels.
package struct ObservedContainer: Hashable, Sendable {
    package var id: EngineContainerID
    package var name: String
    package var workload: WorkloadID
    package var generation: Generation
    /// Fingerprint of the spec that it was created from.
    package var fingerprint: Fingerprint
    /// Counts the engine containers of one generation, from 1.
    package var attempt: Int
    package var state: ContainerState
    package var imageID: String
    package var writableVolumes: [String]
    package var address: String?
    /// True where one of its volumes existed before it was created.
    package var volumeKept: Bool
    /// Set where the runtime is another than the spec asked for.
    package var fellBackTo: String?

    package init(
        id: EngineContainerID, name: String, workload: WorkloadID, generation: Generation, fingerprint: Fingerprint,
        attempt: Int, state: ContainerState, imageID: String = "", writableVolumes: [String] = [],
        address: String? = nil, volumeKept: Bool = false, fellBackTo: String? = nil
    ) {
        self.id = id
        self.name = name
        self.workload = workload
        self.generation = generation
        self.fingerprint = fingerprint
        self.attempt = attempt
        self.state = state
        self.imageID = imageID
        self.writableVolumes = writableVolumes
        self.address = address
        self.volumeKept = volumeKept
        self.fellBackTo = fellBackTo
    }
}

/// State of an engine container. `unknown` is what an inspect that timed out leaves: never "gone".
package enum ContainerState: Hashable, Sendable {
    /// Never started.
    case created
    /// - Parameters:
    ///   - startedAt: wall clock of the host, seconds since 1970 UTC, for people.
    ///   - upFor: for decisions: time since it was first seen running, by a clock that nobody can set.
    case running(startedAt: Double, upFor: Milliseconds)
    case paused
    case restarting
    case exited(Exit)
    case removing
    /// The Engine could not remove it; only another removal is possible.
    case dead
    case unknown

    package struct Exit: Hashable, Sendable {
        package var code: Int
        package var outOfMemory: Bool
        /// The Engine's own words where the start failed.
        package var error: String
        /// When the process started and ended, by the host's wall clock; distinguishes one death from the next.
        package var startedAt: Double
        package var finishedAt: Double

        package init(
            code: Int, outOfMemory: Bool = false, error: String = "", startedAt: Double = 0, finishedAt: Double = 0
        ) {
            self.code = code
            self.outOfMemory = outOfMemory
            self.error = error
            self.startedAt = startedAt
            self.finishedAt = finishedAt
        }
    }

    /// True while its processes may write to a volume.
    package var mayWrite: Bool {
        switch self {
        case .running, .paused, .restarting, .unknown, .removing: true
        case .created, .exited, .dead: false
        }
    }
}
