package import BerthModel

/// What one complete look at the Engine found. There is no empty default: a look that failed is not an observation.
package struct ObservedHost: Hashable, Sendable {
    /// Engine containers that carry this agent's labels.
    package var managed: [ObservedContainer]
    /// Writable volumes that containers of somebody else have mounted while they can write: for the fence.
    package var foreignWriters: [String: [EngineContainerID]]
    /// Image references that were asked about.
    package var images: [String: ImagePresence]
    /// Names that a spec's `runtime` may have here, with the Engine's name for each.
    package var runtimes: [String: String]
    /// Names that a spec's `runtime` may not have yet, or no more, although the host has such a runtime.
    package var unusableRuntimes: [String: RuntimeTrouble]
    /// Engine runtimes under which a disk limit of a container is kept.
    package var diskLimitingRuntimes: Set<String>
    /// Engine runtimes that change the limits and the network of a container that runs.
    package var liveRuntimes: Set<String>
    /// Names of the volumes that exist.
    package var volumes: Set<String>
    /// Of these, the ones that another agent made.
    package var foreignVolumes: Set<String>
    /// Names of the volumes that this agent made, by the workload in their label; nil where that was not looked up.
    package var ownVolumes: [WorkloadID: [String]]?
    /// MiB in those volumes that are watched, as last measured.
    package var volumeMB: [String: Int]
    /// Cores: the Engine refuses a limit above them.
    package var cpus: Int

    package init(
        managed: [ObservedContainer], foreignWriters: [String: [EngineContainerID]],
        images: [String: ImagePresence], runtimes: [String: String], liveRuntimes: Set<String>, volumes: Set<String>,
        cpus: Int, unusableRuntimes: [String: RuntimeTrouble] = [:], diskLimitingRuntimes: Set<String> = [],
        foreignVolumes: Set<String> = [], volumeMB: [String: Int] = [:],
        ownVolumes: [WorkloadID: [String]]? = nil
    ) {
        self.managed = managed
        self.foreignWriters = foreignWriters
        self.images = images
        self.runtimes = runtimes
        self.liveRuntimes = liveRuntimes
        self.volumes = volumes
        self.cpus = cpus
        self.unusableRuntimes = unusableRuntimes
        self.diskLimitingRuntimes = diskLimitingRuntimes
        self.foreignVolumes = foreignVolumes
        self.volumeMB = volumeMB
        self.ownVolumes = ownVolumes
    }
}

/// Why a runtime that is set up on a host cannot be used.
package enum RuntimeTrouble: Hashable, Sendable {
    /// A first start under it is being tried.
    case underProbe
    /// It could not be tried, or failed as a busy host makes it fail: nothing falls back for that.
    case notTried(String)
    case broken(String)
}

/// Whether the Engine has an image. Not asked is not absent.
package enum ImagePresence: Hashable, Sendable {
    /// - Parameters:
    ///   - volumePaths: where the image declares volumes.
    ///   - digest: `name@sha256:…` by which a registry gives exactly this image; nil where it came from none.
    case present(imageID: String, volumePaths: [String] = [], digest: String? = nil)
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
    package var mounts: [ObservedMount]
    /// What can drift without a new container; nil where it could not be inspected.
    package var settings: ObservedSettings?
    /// Processes in its cgroup although the Engine says that it does not run, or that were there for longer than a start
    /// may take: they may still write.
    package var leftoverProcesses: [Int]
    /// The Engine says that it runs, and its process is gone: nobody will tell the Engine.
    package var isPhantom = false
    /// Never started, and yet processes in its cgroup: a start is under way whose caller is gone.
    package var isStarting: Bool
    package var address: String?
    /// True where one of its volumes existed before it was created.
    package var volumeKept: Bool
    /// Set where the runtime is another than the spec asked for.
    package var fellBackTo: String?
    /// MiB written outside its volumes, rounded up; nil where not measured yet.
    package var writableLayerMB: Int?

    package init(
        id: EngineContainerID, name: String, workload: WorkloadID, generation: Generation, fingerprint: Fingerprint,
        attempt: Int, state: ContainerState, imageID: String = "", mounts: [ObservedMount] = [],
        settings: ObservedSettings? = nil, leftoverProcesses: [Int] = [], isStarting: Bool = false,
        address: String? = nil,
        volumeKept: Bool = false, fellBackTo: String? = nil, writableLayerMB: Int? = nil
    ) {
        self.id = id
        self.name = name
        self.workload = workload
        self.generation = generation
        self.fingerprint = fingerprint
        self.attempt = attempt
        self.state = state
        self.imageID = imageID
        self.mounts = mounts
        self.settings = settings
        self.leftoverProcesses = leftoverProcesses
        self.isStarting = isStarting
        self.address = address
        self.volumeKept = volumeKept
        self.fellBackTo = fellBackTo
        self.writableLayerMB = writableLayerMB
    }

    package var writableVolumes: Set<String> { Set(mounts.filter { $0.access == .readWrite }.map(\.volume)) }

    /// Two containers that share one of these must never run at the same time.
    package func sharesWritableVolume(with other: ObservedContainer) -> Bool {
        !writableVolumes.isDisjoint(with: other.writableVolumes)
    }

    /// Two containers that share one of these cannot run at the same time: the Engine starts the first one alone.
    package func sharesHostPort(with other: ObservedContainer) -> Bool {
        guard let settings, let others = other.settings else { return false }
        return !settings.hostPorts.isDisjoint(with: others.hostPorts)
    }
}

/// A volume that an engine container has mounted, whoever named it.
package struct ObservedMount: Hashable, Sendable {
    package var volume: String
    package var path: String
    package var access: VolumeMount.Access

    package init(volume: String, path: String, access: VolumeMount.Access) {
        self.volume = volume
        self.path = path
        self.access = access
    }
}

/// What of an engine container can differ from its spec without another container being needed.
package struct ObservedSettings: Hashable, Sendable {
    /// The Engine's name of its runtime.
    package var runtime: String
    /// The reference that it was created from.
    package var image: String
    package var limits: EngineLimits
    /// True where the Engine itself would start it again: after a reboot it would revive an old copy beside the new one.
    package var isRestartedByEngine: Bool
    /// True where it has an endpoint on the network that it was created on.
    package var isConnected: Bool
    /// MiB that its writable layer may have; nil where nothing limits it.
    package var diskMB: Int?
    /// What it has of the host while it is up.
    package var hostPorts: Set<HostPort>

    package init(
        runtime: String, image: String = "", limits: EngineLimits, isRestartedByEngine: Bool = false,
        isConnected: Bool = true, diskMB: Int? = nil, hostPorts: Set<HostPort> = []
    ) {
        self.runtime = runtime
        self.image = image
        self.limits = limits
        self.isRestartedByEngine = isRestartedByEngine
        self.isConnected = isConnected
        self.diskMB = diskMB
        self.hostPorts = hostPorts
    }
}

/// Limits in the Engine's own units.
package struct EngineLimits: Hashable, Sendable, Codable {
    /// Bytes of memory and swap together.
    package var memory: Int
    /// Billionths of a core.
    package var nanoCPUs: Int
    package var pids: Int

    package init(memory: Int, nanoCPUs: Int, pids: Int) {
        self.memory = memory
        self.nanoCPUs = nanoCPUs
        self.pids = pids
    }

    /// - Parameter cpus: cores of the host: a limit above them is none, and the Engine would refuse it.
    package init(_ resources: Resources, cpus: Int) {
        self.init(
            memory: resources.memoryMB * 1024 * 1024,
            nanoCPUs: min(resources.cpuMillicores * 1_000_000, max(1, cpus) * 1_000_000_000), pids: resources.pids)
    }
}

/// State of an engine container. `unknown` is what an inspect that timed out leaves: never "gone".
package enum ContainerState: Hashable, Sendable {
    /// Never started.
    case created
    /// - Parameters:
    ///   - startedAt: wall clock of the host, seconds since 1970 UTC, for people.
    ///   - upFor: for decisions: time since it was first seen running, by a clock that nobody can set.
    case running(startedAt: Double, upFor: Milliseconds, health: Health = .unchecked)
    case paused
    case restarting
    case exited(Exit)
    case removing
    /// The Engine could not remove it; only another removal is possible.
    case dead
    case unknown

    /// What the container's own health check says.
    package enum Health: String, Hashable, Sendable { case unchecked, starting, healthy, unhealthy }

    package struct Exit: Hashable, Sendable, Codable {
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

    /// Its processes run, or may at any moment.
    package var isUp: Bool {
        switch self {
        case .running, .paused, .restarting: true
        case .created, .exited, .removing, .dead, .unknown: false
        }
    }

    /// True while its processes may write to a volume.
    package var mayWrite: Bool {
        switch self {
        case .running, .paused, .restarting, .unknown, .removing: true
        case .created, .exited, .dead: false
        }
    }

    /// One word for people.
    package var word: String {
        switch self {
        case .created: "created"
        case .running: "running"
        case .paused: "paused"
        case .restarting: "restarting"
        case .exited: "exited"
        case .removing: "removing"
        case .dead: "dead"
        case .unknown: "unknown"
        }
    }
}
