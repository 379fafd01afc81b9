package import BerthModel

/// What one pass wants done, and what it leaves alone. A value: it can be printed, compared and thrown away.
package struct Plan: Hashable, Sendable {
    /// At most one per workload: the next step is planned from what is seen after this one.
    package var steps: [Step]
    /// In-flight steps that nobody wants any more.
    package var cancellations: [WorkloadID]
    /// The status of every workload as of this pass.
    package var statuses: [WorkloadStatus]
    /// When to look again although nothing happens: a backoff or a verification that ends.
    package var nextLook: MonotonicInstant?
    /// Engine containers with our labels whose workload nobody told us about: left as they are.
    package var orphans: [EngineContainerID]

    package init(
        steps: [Step] = [], cancellations: [WorkloadID] = [], statuses: [WorkloadStatus] = [],
        nextLook: MonotonicInstant? = nil, orphans: [EngineContainerID] = []
    ) {
        self.steps = steps
        self.cancellations = cancellations
        self.statuses = statuses
        self.nextLook = nextLook
        self.orphans = orphans
    }
}

/// One call to the Engine, with the reason for it.
package struct Step: Hashable, Sendable {
    package enum Action: Hashable, Sendable {
        case pull(image: String)
        case create(ContainerOrder)
        case start(EngineContainerID)
        case stop(EngineContainerID, graceSeconds: Int)
        /// Changes limits and takes the restart policy back, on the container that is there.
        case update(EngineContainerID, EngineLimits)
        /// Gives it back the network that somebody took from it.
        case connect(EngineContainerID)
        /// Runs the scripts of its role and shell in it.
        case setUp(EngineContainerID, SetUp)
        /// Kills what is left in the container's own cgroup: a start that hangs, or processes that outlived their
        /// container.
        case endProcesses(EngineContainerID)
        /// Never with its volumes: `v=1` is not a thing this system can say.
        case remove(EngineContainerID)
        /// Of a workload whose tombstone says so, and of no other.
        case removeVolume(String)
    }

    package var workload: WorkloadID
    package var generation: Generation
    package var action: Action
    /// For the log and for people.
    package var reason: String

    package init(workload: WorkloadID, generation: Generation, action: Action, reason: String) {
        self.workload = workload
        self.generation = generation
        self.action = action
        self.reason = reason
    }
}

/// Everything that is needed to create one engine container.
package struct ContainerOrder: Hashable, Sendable {
    package var name: String
    package var workload: WorkloadID
    package var generation: Generation
    package var attempt: Int
    package var spec: WorkloadSpec
    /// The image id that the reference meant when the generation's first container was made.
    package var imageID: String
    /// By which a registry gives that image again.
    package var imageDigest: String?
    /// What the Engine is told: the spec's reference while it means that image, else its id.
    package var image: String
    /// The Engine's name of the runtime.
    package var engineRuntime: String
    package var fellBackTo: String?
    /// The spec's volumes, those that the image declares, and those that the container before had beside them.
    package var volumes: [VolumeMount]
    /// Volumes that exist already: mounted without copying image content into them.
    package var existingVolumes: Set<String>
    package var limits: EngineLimits
    /// MiB for the writable layer; nil where this host cannot keep such a limit.
    package var diskMB: Int?

    package init(
        name: String, workload: WorkloadID, generation: Generation, attempt: Int, spec: WorkloadSpec,
        imageID: String, engineRuntime: String, fellBackTo: String?, volumes: [VolumeMount],
        existingVolumes: Set<String>, limits: EngineLimits, diskMB: Int? = nil, imageDigest: String? = nil,
        image: String? = nil
    ) {
        self.name = name
        self.workload = workload
        self.generation = generation
        self.attempt = attempt
        self.spec = spec
        self.imageID = imageID
        self.imageDigest = imageDigest
        self.image = image ?? spec.image
        self.engineRuntime = engineRuntime
        self.fellBackTo = fellBackTo
        self.volumes = volumes
        self.existingVolumes = existingVolumes
        self.limits = limits
        self.diskMB = diskMB
    }

    /// Unique and deterministic, so that a create that was lost finds its own name again. Starts with a letter and is
    /// longer than one character whatever the workload's name is, as the Engine demands.
    package static func name(
        spec: WorkloadSpec, workload: WorkloadID, generation: Generation, attempt: Int
    ) -> String {
        "berth-\(spec.name)-\(workload.text.prefix(13))-g\(generation)-a\(attempt)"
    }
}

/// How a step ended.
package struct StepOutcome: Hashable, Sendable {
    package enum Result: Hashable, Sendable {
        case succeeded
        /// Done already, or overtaken: the next look decides.
        case superseded
        case failed(StepFailure)
        case cancelled
    }

    package var step: Step
    package var result: Result

    package init(step: Step, result: Result) {
        self.step = step
        self.result = result
    }
}

/// Why a step failed, as far as deciding and reporting need it.
package struct StepFailure: Hashable, Sendable, Codable {
    /// A fixed word: `image_pull_failed`, `create_failed`, …
    package var reason: String
    package var message: String
    /// True where trying the same again cannot help: a malformed reference, a refused value.
    package var isPermanent: Bool
    /// True where the call may still have had, or may yet have, its effect.
    package var mayHaveHappened: Bool
    /// True where the Engine gave no answer within the call's deadline.
    package var timedOut: Bool

    package init(
        reason: String, message: String, isPermanent: Bool, mayHaveHappened: Bool = false, timedOut: Bool = false
    ) {
        self.reason = reason
        self.message = message
        self.isPermanent = isPermanent
        self.mayHaveHappened = mayHaveHappened
        self.timedOut = timedOut
    }
}
