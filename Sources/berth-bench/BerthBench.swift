import DockerEngine
import Foundation
import NIOCore
import NIOPosix
import ServiceRuntime
import Synchronization
import WebSocketTransport

/// Measures what the README states, on real parts and in one run: `make bench`.
@main
enum BerthBench {
    static func main() async {
        do {
            if try await !Peer.serveIfAsked() { try await Bench().run() }
        } catch {
            ProgramEnvironment.printError("bench: \(error)")
            exit(1)
        }
    }
}

struct Bench {
    private let group = MultiThreadedEventLoopGroup.singleton
    private let rounds = 15
    private let fleet = 100

    func run() async throws {
        let environment = ProgramEnvironment.variables()
        if environment["BERTH_BENCH"] == nil || environment["BERTH_BENCH"] == "server" {
            let binaries = environment["BERTH_BINARIES"] ?? ".build/release"
            try await ControlPlaneSpeed(binaries: binaries, group: group, report: report).run()
            try await ManyAgents(binaries: binaries, group: group, report: report).run()
            if environment["BERTH_BENCH"] == "server" { return }
        }
        guard let endpoint = environment["BERTH_ENGINE"].flatMap({ EngineEndpoint($0) }) else {
            throw ProgramFailure(.usage, "BERTH_ENGINE is not set; run `make bench`")
        }
        let engine = try await DockerEngine.negotiate(endpoint, group: group)
        let binaries = environment["BERTH_BINARIES"] ?? ".build/release"
        try await engine.pullImage("archlinux:latest") { _ in }
        if environment["BERTH_BENCH"] == "hung" { return try await hungStart(binaries, endpoint, engine) }
        let world = try await World(binaries: binaries, engine: endpoint, group: group)
        defer { world.stop() }

        ProgramEnvironment.printLine("figure                                              value")
        try await Task.sleep(for: .seconds(5))
        try report("agent memory, idle: resident / private, MB", world.agentMemory())

        if environment["BERTH_BENCH"] == nil || environment["BERTH_BENCH"] == "images" {
            guard let registry = environment["BERTH_REGISTRY"] else {
                throw ProgramFailure(.usage, "BERTH_REGISTRY is not set; run `make bench`")
            }
            try await ManyImages(engine: engine, world: world, registry: registry, report: report).run()
            if environment["BERTH_BENCH"] == "images" { return }
        }
        if environment["BERTH_BENCH"] == nil {
            for runtime in ["runc", "gvisor"] { try await latency(runtime, engine, world) }
            try await fleetMemory(world)
        }
        if environment["BERTH_BENCH"] != "many" { try await settled(binaries) }
        if environment["BERTH_BENCH"] == "settled" { return }
        try await Speed(engine: engine, world: world, report: report).run()
        if environment["BERTH_BENCH"] != "many" { try await hungStart(binaries, endpoint, engine) }
    }

    private func hungStart(_ binaries: String, _ endpoint: EngineEndpoint, _ engine: DockerEngine) async throws {
        try await HungStart(binaries: binaries, group: group, endpoint: endpoint, engine: engine, report: report).run()
    }

    private func settled(_ binaries: String) async throws {
        let pass = try await SettledPass(binaries: binaries, group: group).run()
        report("settled pass over 500 workloads, CPU ms a pass (goal: under 50)", text(pass.cpuPerPass))
        report("  inspect calls in \(pass.passes) such passes (goal: 0)", String(pass.inspects))
    }

    /// From the accepted create (the 202 is there) to the event that says running, beside a bare create and start of the
    /// same container; one of each in turn.
    private func latency(_ runtime: String, _ engine: DockerEngine, _ world: World) async throws {
        var bare: [Double] = []
        var ours: [Double] = []
        for round in 0..<rounds {
            bare.append(try await bareStart(runtime == "gvisor" ? "runsc" : "runc", engine))
            ours.append(try await world.createAndWait("bench-\(runtime)-\(round)", runtime: runtime))
        }
        let (a, b) = (median(bare), median(ours))
        report("\(runtime): bare create+start, ms, median of \(rounds)", text(a))
        report("\(runtime): accepted create to running, ms, median of \(rounds)", text(b))
        report("\(runtime): above bare, ms (goal: at most 100)", text(b - a))
    }

    private func bareStart(_ runtime: String, _ engine: DockerEngine) async throws -> Double {
        var host = ContainerSpecification.HostConfiguration()
        host.runtime = runtime
        host.memory = 256 * 1024 * 1024
        host.memorySwap = host.memory
        host.nanoCPUs = 500_000_000
        host.pidsLimit = 512
        host.usesInit = true
        let name = "bare-\(UUID().uuidString.prefix(8).lowercased())"
        host.mounts = [.init(volume: name, target: "/root", isReadOnly: false, noCopy: false, labels: [:])]
        let specification = ContainerSpecification(
            image: "archlinux:latest", hostname: "bare", opensStandardInput: true, host: host)
        let start = ContinuousClock.now
        let id = try await engine.createContainer(name: name, specification).id
        try await engine.startContainer(id)
        let passed = start.duration(to: .now).milliseconds
        try await engine.removeContainer(id, force: .killFirst)
        try await engine.removeVolume(name)
        return passed
    }

    private func fleetMemory(_ world: World) async throws {
        try await world.fill(fleet)
        try await Task.sleep(for: .seconds(15))
        try report("agent memory, \(fleet) containers: resident / private, MB", world.agentMemory())
        let before = try world.agentCPUSeconds()
        try await Task.sleep(for: .seconds(30))
        let used = try world.agentCPUSeconds() - before
        report("agent cpu, \(fleet) idle containers, % of a core over 30 s", text(used / 30 * 100))
        try await world.empty()
    }

    private func report(_ what: String, _ value: String) {
        ProgramEnvironment.printLine(what + String(repeating: " ", count: max(1, 68 - what.count)) + value)
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
    private func text(_ value: Double) -> String { String(format: "%.1f", value) }
}

extension Duration {
    var milliseconds: Double { Double(components.seconds) * 1000 + Double(components.attoseconds) / 1e15 }
}
