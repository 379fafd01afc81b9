package import AgentCore
package import BerthModel

/// A value that behaves like a Docker Engine as far as Berth uses one, and keeps watch over what must never happen.
///
/// The planner's tests use it in memory, the whole-system simulation as one of many hosts, and `FakeEngine` behind HTTP on
/// a Unix socket. What an Engine refuses it refuses; what would be legal for an Engine and wrong for us it notes in
/// `violations`.
package struct SimulatedHost: Hashable, Sendable {
    package struct Container: Hashable, Sendable {
        package enum State: Hashable, Sendable {
            case created
            case running(since: Int)
            case paused(since: Int)
            case exited(code: Int, startedAt: Int, finishedAt: Int, error: String = "")
        }

        package var id: String
        package var name: String
        package var image: String
        package var labels: [String: String]
        package var mounts: [Mount]
        package var runtime: String
        package var limits: EngineLimits
        package var restartPolicy = "no"
        package var isConnected = true
        package var state = State.created
        /// A start of it was called and does not come back.
        package var hangs = false

        package init(
            id: String, name: String, image: String, labels: [String: String], mounts: [Mount], runtime: String,
            limits: EngineLimits, restartPolicy: String = "no", state: State = .created
        ) {
            self.id = id
            self.name = name
            self.image = image
            self.labels = labels
            self.mounts = mounts
            self.runtime = runtime
            self.limits = limits
            self.restartPolicy = restartPolicy
            self.state = state
        }

        package var isUp: Bool {
            switch state {
            case .running, .paused: true
            case .created, .exited: false
            }
        }
    }

    package struct Mount: Hashable, Sendable {
        package var volume: String
        package var path: String
        package var isWritable: Bool
        package var noCopy: Bool
        package init(volume: String, path: String, isWritable: Bool = true, noCopy: Bool = false) {
            self.volume = volume
            self.path = path
            self.isWritable = isWritable
            self.noCopy = noCopy
        }
    }

    package struct Image: Hashable, Sendable {
        package var id: String
        package var volumePaths: [String]
        package init(id: String, volumePaths: [String] = []) {
            self.id = id
            self.volumePaths = volumePaths
        }
    }

    /// Why a call is refused, as the Engine's HTTP status and words.
    package struct Refusal: Error, Hashable, Sendable {
        package var status: Int
        package var message: String
    }

    package private(set) var containers: [String: Container] = [:]
    package private(set) var volumes: Set<String> = []
    /// On this host.
    package var images: [String: Image] = [:]
    /// What a registry has: a pull of another reference fails.
    package var registry: [String: Image] = ["alpine:latest": Image(id: "sha256:alpine")]
    /// Milliseconds.
    package private(set) var clock = 1_000_000
    /// Calls that changed something.
    package private(set) var changes = 0
    package private(set) var violations: [String] = []
    /// Starts of these images fail, hang, or come up and die at once.
    package var broken: [String: Breakage] = [:]
    package enum Breakage: String, Hashable, Sendable, CaseIterable {
        case failsToStart, hangsAtStart, diesAtOnce, staysCreated
    }
    private var nextID = 0

    package init() {}

    // MARK: what happens to it

    package mutating func pass(_ span: Milliseconds) {
        clock += span.count
        for (id, container) in containers where container.isUp && broken[container.image] == .diesAtOnce {
            exit(id, code: 1)
        }
    }

    package mutating func exit(_ id: String, code: Int) {
        switch containers[id]?.state {
        case .running(let since), .paused(let since):
            containers[id]?.state = .exited(code: code, startedAt: since, finishedAt: clock)
        case .created, .exited, nil: break
        }
    }

    /// By hand on the host, past the agent.
    package mutating func byHand(_ id: String, _ change: (inout Container) -> Void) {
        guard var container = containers[id] else { return }
        change(&container)
        containers[id] = container
    }

    /// The Engine lost its index of names: the same name can be given again.
    package mutating func forgetNames() {
        for id in containers.keys { containers[id]?.name = "" }
    }

    package mutating func removedByHand(_ id: String) { containers[id] = nil }

    /// The Engine is killed or the machine restarts: whatever of ours ran has ended, and a start that hung is over.
    package mutating func restarted() {
        for (id, container) in containers where container.workload != nil {
            exit(id, code: 137)
            containers[id]?.hangs = false
        }
    }

    /// Somebody else's container.
    package mutating func addForeign(_ id: String, volume: String) {
        containers[id] = Container(
            id: id, name: id, image: "theirs", labels: [:], mounts: [Mount(volume: volume, path: "/data")],
            runtime: "runc", limits: EngineLimits(memory: 0, nanoCPUs: 0, pids: 0), state: .running(since: clock))
        volumes.insert(volume)
    }

    // MARK: calls

    package mutating func pull(_ reference: String) throws(Refusal) {
        guard let image = registry[reference] else {
            throw Refusal(status: 404, message: "manifest for \(reference) not found")
        }
        images[reference] = image
    }

    package mutating func create(_ container: Container) throws(Refusal) -> String {
        guard images[container.image] != nil else {
            throw Refusal(status: 404, message: "No such image: \(container.image)")
        }
        if let taken = containers.values.first(where: { $0.name == container.name }) {
            throw Refusal(status: 409, message: "The name is in use by container \(taken.id)")
        }
        changes += 1
        nextID += 1
        var container = container
        container.id = String(repeating: "0", count: 64 - String(nextID, radix: 16).count) + String(nextID, radix: 16)
        if container.restartPolicy != "no" { violations.append("\(container.name) would be started by the Engine") }
        for mount in container.mounts {
            if volumes.contains(mount.volume), !mount.noCopy {
                violations.append("image content may be copied over volume \(mount.volume)")
            }
            volumes.insert(mount.volume)
        }
        for path in images[container.image]?.volumePaths ?? []
        where !container.mounts.contains(where: { $0.path == path }) {
            violations.append("\(container.name) has an anonymous volume at \(path)")
        }
        containers[container.id] = container
        let mine = containers.values.filter { $0.workload != nil && $0.workload == container.workload }
        if mine.count > 3 { violations.append("\(mine.count) containers of \(container.workload ?? "?")") }
        return container.id
    }

    /// - Throws: `Refusal`; status 0 where no answer comes at all.
    package mutating func start(_ id: String) throws(Refusal) {
        guard let container = containers[id] else { throw Refusal(status: 404, message: "No such container: \(id)") }
        guard !container.isUp else { return }
        guardManaged(container, "start")
        // The Engine holds the container's lock as long as the first start hangs.
        if container.hangs { throw Refusal(status: 0, message: "no answer in time") }
        changes += 1
        switch broken[container.image] {
        case .failsToStart:
            containers[id]?.state = .exited(
                code: 127, startedAt: 0, finishedAt: 0, error: "exec: \"x\": executable file not found")
            if case .created = container.state { containers[id]?.state = .created }
            throw Refusal(status: 400, message: "exec: \"x\": executable file not found in $PATH")
        case .hangsAtStart:
            containers[id]?.hangs = true
            throw Refusal(status: 0, message: "no answer in time")
        case .staysCreated: return
        case .diesAtOnce, nil: break
        }
        let mine = Set(container.mounts.filter(\.isWritable).map(\.volume))
        for other in containers.values where other.isUp && other.id != id {
            let shared = mine.intersection(other.mounts.filter(\.isWritable).map(\.volume))
            if !shared.isEmpty {
                violations.append("started \(container.name) beside \(other.name), both write to \(shared)")
            }
        }
        containers[id]?.state = .running(since: clock)
    }

    package mutating func stop(_ id: String) throws(Refusal) {
        guard let container = containers[id] else { throw Refusal(status: 404, message: "No such container: \(id)") }
        guard container.isUp else { return }
        guardManaged(container, "stop")
        changes += 1
        exit(id, code: 0)
    }

    package mutating func update(_ id: String, _ limits: EngineLimits) throws(Refusal) {
        guard let container = containers[id] else { throw Refusal(status: 404, message: "No such container: \(id)") }
        guardManaged(container, "update")
        changes += 1
        if container.isUp, container.runtime != "runc" {
            throw Refusal(status: 500, message: "Cannot update container \(id): the runtime does not know update")
        }
        containers[id]?.limits = limits
        containers[id]?.restartPolicy = "no"
    }

    package mutating func connect(_ id: String) throws(Refusal) {
        guard let container = containers[id] else { throw Refusal(status: 404, message: "No such container: \(id)") }
        guardManaged(container, "connect")
        changes += 1
        containers[id]?.isConnected = true
    }

    package mutating func remove(_ id: String, withVolumes: Bool = false, force: Bool = false) throws(Refusal) {
        guard let container = containers[id] else { throw Refusal(status: 404, message: "No such container: \(id)") }
        guardManaged(container, "remove")
        if withVolumes { violations.append("\(container.name) was removed with its volumes") }
        if force { violations.append("\(container.name) was removed by force") }
        guard !container.isUp else {
            throw Refusal(status: 409, message: "You cannot remove a running container \(id)")
        }
        changes += 1
        containers[id] = nil
    }

    package mutating func removeVolume(_ name: String) throws(Refusal) {
        guard volumes.contains(name) else { throw Refusal(status: 404, message: "no such volume: \(name)") }
        if let user = containers.values.first(where: { $0.mounts.contains { $0.volume == name } }) {
            throw Refusal(status: 409, message: "volume is in use by \(user.name)")
        }
        changes += 1
        volumes.remove(name)
    }

    /// Kills whatever is in the container's cgroup: a start that hangs comes back with an error.
    package mutating func endProcesses(_ id: String) {
        changes += 1
        containers[id]?.hangs = false
    }

    private mutating func guardManaged(_ container: Container, _ call: String) {
        if container.workload == nil { violations.append("\(call) of \(container.name), which is not ours") }
    }
}

extension SimulatedHost.Container {
    /// Nil where it is somebody else's.
    package var workload: String? { labels["berth.workload"] }
    package var generation: Int { labels["berth.generation"].flatMap { Int($0) } ?? 0 }

    package init(_ order: ContainerOrder, agent: String = "agent") {
        self.init(
            id: "", name: order.name, image: order.spec.image,
            labels: [
                "berth.agent": agent, "berth.workload": order.workload.text,
                "berth.generation": String(order.generation), "berth.spec": order.spec.fingerprint.text,
                "berth.attempt": String(order.attempt),
            ],
            mounts: order.volumes.map {
                .init(
                    volume: $0.volume, path: $0.path, isWritable: $0.access == .readWrite,
                    noCopy: order.existingVolumes.contains($0.volume))
            }, runtime: order.engineRuntime, limits: order.limits)
    }
}
