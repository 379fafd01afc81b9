import DockerEngine
import Foundation
import NIOCore
import ServiceRuntime
import Synchronization

/// Reaction to a death and many workloads at once: beside a bare loop of Engine calls and beside Swarm, in one dockerd.
struct Speed {
    let engine: DockerEngine
    let world: World
    let report: (String, String) -> Void
    private let deaths = 8
    private let many = 40

    func run() async throws {
        try await Bare.prepare(engine)
        let starts = StartWatch(engine)
        try await starts.begin()
        if ProgramEnvironment.variables()["BERTH_BENCH"] != "many" { try await reaction(starts) }
        try await throughput(starts)
        starts.end()
    }

    // MARK: a death

    /// From the kill to the event that the main process runs again.
    private func reaction(_ starts: StartWatch) async throws {
        var bare: [Double] = []
        var ours: [Double] = []
        for round in 0..<deaths {
            let one = try await Bare.container("death-\(round)", engine)
            bare.append(
                try await starts.time(of: one) {
                    try await engine.killContainer(one)
                } onDeath: {
                    try await engine.startContainer(one)
                })
            try await Bare.remove(one, engine)
            // A workload of its own each time: a second death in a row is answered later on purpose.
            let (workload, container) = try await world.createRunning("death-\(round)", engine)
            ours.append(
                try await starts.time(of: container) {
                    try await engine.killContainer(container)
                } onDeath: {
                })
            try await world.delete(workload)
        }
        report("death to running, bare (start on the event), ms, median of \(deaths)", text(median(bare)))
        report("death to running, ms, median of \(deaths)", text(median(ours)))
        report("death to running, above bare, ms (goal: at most 300)", text(median(ours) - median(bare)))
        if let swarm = try await Swarm(engine) {
            let times = try await swarm.reactions(deaths, starts, engine)
            report("death to running, Swarm with no restart delay, ms, median", text(median(times)))
            report("death to running, ours / Swarm", ratio(median(ours), median(times)))
        }
    }

    // MARK: many

    /// From the first request to the last event `start`; the bare loop until its last call is answered.
    private func throughput(_ starts: StartWatch) async throws {
        try world.makeAccounts(for: many)
        var bare: [Double] = []
        var ours: [Double] = []
        for round in 0..<3 {
            for width in [4, 8] {
                let start = ContinuousClock.now
                let made = try await Bare.many(many, width: width, "many-\(round)-\(width)", engine)
                bare.append(start.duration(to: .now).milliseconds)
                for container in made { try await Bare.remove(container, engine) }
            }
            let started = starts.events()
            let start = ContinuousClock.now
            try await world.fill(many)
            await Self.wait(for: many, in: started)
            ours.append(start.duration(to: .now).milliseconds)
            try await world.empty()
            try await untilGone()
        }
        let best = bare.min() ?? .nan
        report("\(many) containers, best bare loop of 4 and 8 at once, ms", text(best))
        report("\(many) workloads, best of 3, ms", text(ours.min() ?? .nan))
        report("\(many) workloads / best bare loop (goal: at most 1.15)", ratio(ours.min() ?? .nan, best))
        if let swarm = try await Swarm(engine) {
            let time = try await swarm.service(many, starts)
            report("\(many) replicas, Swarm, ms", text(time))
            report("\(many) workloads, ours / Swarm", ratio(ours.min() ?? .nan, time))
        }
    }

    static func wait(for count: Int, in events: AsyncStream<EngineEvent>) async {
        var started = 0
        for await event in events where event.action == "start" {
            started += 1
            if started == count { return }
        }
    }

    private func untilGone() async throws {
        for _ in 0..<600 {
            let left = try await engine.listContainers().filter { $0.labels["berth.agent"] != nil }
            if left.isEmpty { return }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    private func median(_ values: [Double]) -> Double { values.isEmpty ? .nan : values.sorted()[values.count / 2] }
    private func text(_ value: Double) -> String { String(format: "%.1f", value) }
    private func ratio(_ a: Double, _ b: Double) -> String { String(format: "%.2f", a / b) }
}

/// The same container by the Engine's calls alone.
enum Bare {
    /// As the agent's is; a second one of that name would keep either from starting.
    private static let network = "berth"

    /// Makes the network where the agent has not yet.
    static func prepare(_ engine: DockerEngine) async throws {
        do {
            _ = try await engine.inspectNetwork(network)
        } catch let error as EngineError where error.status == 404 {
            _ = try await engine.createNetwork(
                name: network, options: ["com.docker.network.bridge.enable_icc": "false"],
                labels: ["berth.network": "isolated"])
        }
    }

    static func specification(_ volume: String) -> ContainerSpecification {
        var host = ContainerSpecification.HostConfiguration()
        host.runtime = "runc"
        host.memory = 256 * 1024 * 1024
        host.memorySwap = host.memory
        host.nanoCPUs = 500_000_000
        host.pidsLimit = 512
        host.usesInit = true
        host.networkMode = network
        host.tmpfs = ["/tmp": "rw,nosuid,nodev,exec,mode=1777,size=134217728"]
        host.mounts = [.init(volume: volume, target: "/root", isReadOnly: false, noCopy: false, labels: [:])]
        return ContainerSpecification(
            image: "archlinux:latest", hostname: "bare", opensStandardInput: true, host: host)
    }

    static func container(_ name: String, _ engine: DockerEngine) async throws -> String {
        let name = "bare-\(name)-\(UUID().uuidString.prefix(6).lowercased())"
        let id = try await engine.createContainer(name: name, specification(name)).id
        try await engine.startContainer(id)
        return id
    }

    static func many(_ count: Int, width: Int, _ name: String, _ engine: DockerEngine) async throws -> [String] {
        try await withThrowingTaskGroup(of: String.self) { group in
            var made: [String] = []
            for number in 0..<count {
                if number >= width, let one = try await group.next() { made.append(one) }
                group.addTask { try await container("\(name)-\(number)", engine) }
            }
            for try await one in group { made.append(one) }
            return made
        }
    }

    static func remove(_ id: String, _ engine: DockerEngine) async throws {
        let volumes = try await engine.inspectContainer(id).mounts.compactMap(\.name)
        try await engine.removeContainer(id, force: .killFirst)
        for volume in volumes { try await engine.removeVolume(volume) }
    }
}

/// Hears the Engine's events and says when which container started.
final class StartWatch: Sendable {
    private let engine: DockerEngine
    private let listeners = Mutex<[Int: @Sendable (EngineEvent) -> Void]>([:])
    private let task = Mutex<Task<Void, any Error>?>(nil)

    init(_ engine: DockerEngine) { self.engine = engine }

    func begin() async throws {
        let (opened, isOpen) = AsyncStream<Void>.makeStream()
        let hearing = Task {
            try await engine.events(filters: ["type": ["container"], "event": ["start", "die"]]) {
                isOpen.finish()
            } take: { event in
                for listener in self.listeners.withLock({ Array($0.values) }) { listener(event) }
            }
        }
        task.withLock { $0 = hearing }
        for await _ in opened {}
    }

    func end() { task.withLock { $0 }?.cancel() }

    func events() -> AsyncStream<EngineEvent> {
        let (stream, continuation) = AsyncStream<EngineEvent>.makeStream()
        let key = Int.random(in: 0 ..< .max)
        listeners.withLock { $0[key] = { continuation.yield($0) } }
        continuation.onTermination = { _ in _ = self.listeners.withLock { $0.removeValue(forKey: key) } }
        return stream
    }

    /// Milliseconds from before `kill` to the start of `container`.
    func time(
        of container: String, kill: () async throws -> Void, onDeath: () async throws -> Void
    ) async throws -> Double {
        let events = events()
        let start = ContinuousClock.now
        try await kill()
        for await event in events where event.actor.id == container {
            if event.action == "start" { return start.duration(to: .now).milliseconds }
            try await onDeath()
        }
        return .nan
    }
}

/// Swarm in the same dockerd. Nil where it cannot be had here.
struct Swarm {
    private let socket: String

    init?(_ engine: DockerEngine) async throws {
        socket = engine.endpoint.description
        guard (try? Self.docker(socket, ["swarm", "init", "--advertise-addr", "127.0.0.1"])) != nil else {
            ProgramEnvironment.printError("bench: Swarm cannot be started here; its figures are left out")
            return nil
        }
    }

    private static func docker(_ socket: String, _ arguments: [String]) throws -> String {
        try World.output("/usr/bin/env", ["docker", "-H", socket] + arguments)
    }

    private func leave() throws { _ = try Self.docker(socket, ["swarm", "leave", "--force"]) }

    private static let options = [
        "--detach", "--restart-delay", "0s", "--limit-memory", "256M", "--limit-cpu", "0.5", "--no-resolve-image",
        "--init",
    ]

    func reactions(_ count: Int, _ starts: StartWatch, _ engine: DockerEngine) async throws -> [Double] {
        defer { try? leave() }
        var times: [Double] = []
        for round in 0..<count {
            let events = starts.events()
            _ = try Self.docker(
                socket,
                ["service", "create", "--name", "s\(round)"] + Self.options + ["archlinux:latest", "sleep", "600"])
            var iterator = events.makeAsyncIterator()
            var container: String?
            while container == nil, let event = await iterator.next() {
                if event.action == "start" { container = event.actor.id }
            }
            guard let container else { break }
            // Swarm counts a task as running a moment after its start.
            try await Task.sleep(for: .seconds(6))
            let start = ContinuousClock.now
            try await engine.killContainer(container)
            while let event = await iterator.next() {
                guard event.action == "start" else { continue }
                times.append(start.duration(to: .now).milliseconds)
                break
            }
            _ = try Self.docker(socket, ["service", "rm", "s\(round)"])
            try await Task.sleep(for: .seconds(2))
        }
        return times
    }

    func service(_ count: Int, _ starts: StartWatch) async throws -> Double {
        defer { try? leave() }
        let events = starts.events()
        let start = ContinuousClock.now
        _ = try Self.docker(
            socket,
            ["service", "create", "--name", "many", "--replicas", "\(count)"] + Self.options
                + ["archlinux:latest", "sleep", "600"])
        await Speed.wait(for: count, in: events)
        let passed = start.duration(to: .now).milliseconds
        _ = try Self.docker(socket, ["service", "rm", "many"])
        try await Task.sleep(for: .seconds(15))
        return passed
    }
}
