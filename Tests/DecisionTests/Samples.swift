import AgentCore
import BerthModel

/// Short ways to say what a test is about.
enum Sample {
    static let id = WorkloadID(validated: "11111111-aaaa")
    static let volume = "berth-11111111-aaaa"

    static func spec(
        memory: Int = 256, version: Int = 1, image: String = "alpine:latest", restart: RestartPolicy = .always,
        volumes: [VolumeMount] = [VolumeMount(volume: volume, path: "/root")]
    ) -> WorkloadSpec {
        WorkloadSpec(
            name: "one", image: image, runtime: RuntimeChoice(name: "runc"), resources: Resources(memoryMB: memory),
            environment: ["VERSION": String(version)], volumes: volumes, restart: restart)
    }

    static func desired(
        _ wish: DesiredWorkload.Wish = .running, generation: Int = 1, spec: WorkloadSpec = spec(), id: WorkloadID = id
    ) -> DesiredWorkload {
        DesiredWorkload(id: id, generation: generation, wish: wish, spec: spec)
    }

    static func container(
        _ name: String, _ state: ContainerState, generation: Int = 1, attempt: Int = 1, spec: WorkloadSpec = spec(),
        id: WorkloadID = id
    ) -> ObservedContainer {
        ObservedContainer(
            id: EngineContainerID(validated: name), name: name, workload: id, generation: generation,
            fingerprint: spec.fingerprint, attempt: attempt, state: state, imageID: "sha256:1",
            mounts: spec.volumes.map { ObservedMount(volume: $0.volume, path: $0.path, access: $0.access) },
            settings: ObservedSettings(
                runtime: "runc", limits: EngineLimits(spec.resources, cpus: 2),
                hostPorts: Set(spec.publishedPorts.map(\.hostPort))),
            address: "10.0.0.2")
    }

    static func host(
        _ containers: [ObservedContainer] = [], writers: [String: [EngineContainerID]] = [:],
        images: [String: ImagePresence] = ["alpine:latest": .present(imageID: "sha256:1")],
        runtimes: [String: String] = ["runc": "runc"], volumes: Set<String> = []
    ) -> ObservedHost {
        ObservedHost(
            managed: containers, foreignWriters: writers, images: images, runtimes: runtimes, liveRuntimes: ["runc"],
            volumes: volumes, cpus: 2)
    }

    static func up(_ seconds: Int = 60) -> ContainerState { .running(startedAt: 1, upFor: .seconds(seconds)) }
    static func exited(_ code: Int = 1, startedAt: Double = 5) -> ContainerState {
        .exited(.init(code: code, startedAt: startedAt, finishedAt: startedAt + 1))
    }
    static let now = MonotonicInstant(milliseconds: 1_000_000)

    static func plan(
        _ desired: [DesiredWorkload], _ host: ObservedHost, memory: ReconcileMemory = .init(),
        now: MonotonicInstant = now, policy: HostPolicy = HostPolicy()
    ) -> Plan {
        let state = DesiredState(revision: Revision(1), workloads: desired)
        return Planner.plan(desired: state, observed: host, memory: memory, now: now, policy: policy)
    }
}
