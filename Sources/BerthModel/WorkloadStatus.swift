/// Where one workload is on its way. Unknown words of a newer peer are kept, not refused.
package enum WorkloadPhase: Hashable, Sendable, Codable {
    /// Accepted, nothing done yet, or waiting for what `reason` says.
    case waiting
    case pulling
    case creating
    case starting
    /// Runs, and is being set up for its role.
    case configuring
    case running
    case stopping
    case stopped
    /// Ended by itself; the next start is due after a delay.
    case backoff
    /// Cannot go on without a change; `reason` and `message` say why.
    case failed
    /// The engine containers are gone, the volumes are kept.
    case removed
    case unrecognised(String)

    private static let words: [(WorkloadPhase, String)] = [
        (.waiting, "waiting"), (.pulling, "pulling"), (.creating, "creating"), (.starting, "starting"),
        (.configuring, "configuring"), (.running, "running"), (.stopping, "stopping"), (.stopped, "stopped"),
        (.backoff, "backoff"),
        (.failed, "failed"), (.removed, "removed"),
    ]

    package var word: String {
        if case .unrecognised(let word) = self { return word }
        return Self.words.first { $0.0 == self }?.1 ?? "waiting"
    }

    package init(word: String) { self = Self.words.first { $0.1 == word }?.0 ?? .unrecognised(word) }

    package init(from decoder: any Decoder) throws {
        self.init(word: try decoder.singleValueContainer().decode(String.self))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(word)
    }
}

/// What the agent last knew of one workload. The latest one counts; it is sent until it is acknowledged.
package struct WorkloadStatus: Hashable, Sendable, Codable {
    package var workload: WorkloadID
    /// The generation that the agent has accepted and works towards; this status speaks of it.
    package var generation: Generation
    /// The last generation that was carried out: what it wanted was seen on the Engine. Never goes down, and never
    /// passes `generation`. 0 where none was yet.
    package var observedGeneration: Generation
    package var phase: WorkloadPhase
    /// A fixed word for programs, for example `image_pull_failed`; nil where all is well.
    package var reason: String?
    /// For people; never holds a secret.
    package var message: String?
    package var engineContainer: EngineContainerID?
    /// Of the container that runs now or ran last.
    package var imageID: String?
    package var address: String?
    package var exitCode: Int?
    package var outOfMemory: Bool
    /// Starts of the current engine container after its first one.
    package var restarts: Int
    /// True where the engine container was created on a volume that existed before; nil where there is no container.
    package var volumeKept: Bool?
    /// Seconds since 1970 UTC at which the phase was entered, by the host's wall clock.
    package var since: Double
    /// Seconds since 1970 UTC at which the main process started; nil where it does not run.
    package var startedAt: Double?
    /// Limits that this host does not enforce, each with the reason.
    package var unenforced: [String: String]
    /// MiB that the container has written outside its volumes, rounded up: what a replacement would leave behind. Nil
    /// where it was not measured yet.
    package var writableLayerMB: Int?
    /// Of a removed workload: its volumes are gone too. Nil where that was not asked for.
    package var isPurged: Bool?
    /// MiB in its volumes, rounded up; nil where that is not watched or not measured yet.
    package var volumeUsedMB: Int?
    /// What a person should know before it costs them something.
    package var warnings: [String]
    /// Why the set-up for its role or shell failed; it runs without.
    package var roleError: String?

    package init(
        workload: WorkloadID, generation: Generation, observedGeneration: Generation = 0, phase: WorkloadPhase,
        reason: String? = nil, message: String? = nil, engineContainer: EngineContainerID? = nil,
        imageID: String? = nil,
        address: String? = nil, exitCode: Int? = nil, outOfMemory: Bool = false, restarts: Int = 0,
        volumeKept: Bool? = nil, since: Double = 0, startedAt: Double? = nil, unenforced: [String: String] = [:],
        writableLayerMB: Int? = nil, warnings: [String] = [], roleError: String? = nil,
        volumeUsedMB: Int? = nil, isPurged: Bool? = nil
    ) {
        self.workload = workload
        self.generation = generation
        self.observedGeneration = observedGeneration
        self.phase = phase
        self.reason = reason
        self.message = message
        self.engineContainer = engineContainer
        self.imageID = imageID
        self.address = address
        self.exitCode = exitCode
        self.outOfMemory = outOfMemory
        self.restarts = restarts
        self.volumeKept = volumeKept
        self.since = since
        self.startedAt = startedAt
        self.unenforced = unenforced
        self.writableLayerMB = writableLayerMB
        self.warnings = warnings
        self.roleError = roleError
        self.volumeUsedMB = volumeUsedMB
        self.isPurged = isPurged
    }

    /// What a peer of another version does not say is as good as not known.
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        func optional<Value: Decodable>(_ key: CodingKeys) throws -> Value? {
            try fields.decodeIfPresent(Value.self, forKey: key)
        }
        self.init(
            workload: try fields.decode(WorkloadID.self, forKey: .workload),
            generation: try fields.decode(Generation.self, forKey: .generation),
            observedGeneration: try optional(.observedGeneration) ?? 0,
            phase: try fields.decode(WorkloadPhase.self, forKey: .phase),
            reason: try optional(.reason), message: try optional(.message),
            engineContainer: try optional(.engineContainer), imageID: try optional(.imageID),
            address: try optional(.address), exitCode: try optional(.exitCode),
            outOfMemory: try optional(.outOfMemory) ?? false, restarts: try optional(.restarts) ?? 0,
            volumeKept: try optional(.volumeKept), since: try optional(.since) ?? 0,
            startedAt: try optional(.startedAt), unenforced: try optional(.unenforced) ?? [:],
            writableLayerMB: try optional(.writableLayerMB), warnings: try optional(.warnings) ?? [],
            roleError: try optional(.roleError), volumeUsedMB: try optional(.volumeUsedMB),
            isPurged: try optional(.isPurged))
    }

    /// Equal apart from the moment: nothing worth sending again.
    package func saysTheSame(as other: WorkloadStatus) -> Bool {
        var copy = other
        copy.since = since
        return copy == self
    }
}

/// Progress of the work on one workload; a set-up counts in percent and not in bytes. Lossy: only the latest matters.
package struct WorkloadProgress: Hashable, Sendable, Codable {
    package enum Stage: String, Hashable, Sendable, Codable { case pulling, creating, starting, configuring }

    package var workload: WorkloadID
    package var generation: Generation
    package var stage: Stage
    /// Bytes done of `totalBytes`; both 0 where the stage has no bytes.
    package var doneBytes: Int
    package var totalBytes: Int
    /// What is being done, in the words of a set-up; nil for the other stages.
    package var message: String?

    package init(
        workload: WorkloadID, generation: Generation, stage: Stage, doneBytes: Int = 0, totalBytes: Int = 0,
        message: String? = nil
    ) {
        self.workload = workload
        self.generation = generation
        self.stage = stage
        self.doneBytes = doneBytes
        self.totalBytes = totalBytes
        self.message = message
    }
}
