import DockerEngine
import Foundation
import NIOCore
import ServiceRuntime

/// What a start that never returns costs the other workloads of its host: passes and reactions to a death, undisturbed and
/// meanwhile, in one run.
struct HungStart {
    let binaries: String
    let group: any EventLoopGroup
    let endpoint: EngineEndpoint
    let engine: DockerEngine
    let report: (String, String) -> Void
    private let others = 8

    func run() async throws {
        let world = try await World(
            binaries: binaries, engine: endpoint, group: group, runtimes: "runc=runc,gvisor=hang")
        defer { world.stop() }
        let starts = StartWatch(engine)
        try await starts.begin()
        defer { starts.end() }
        let flag = endpoint.description.dropFirst("unix://".count).split(separator: "/").dropLast().joined(
            separator: "/")
        let file = "/\(flag)/run/hang"

        let before = try await deaths(world, starts, "calm")
        guard FileManager.default.createFile(atPath: file, contents: Data()) else {
            throw ProgramFailure(.failure, "\(file) cannot be written; is BERTH_ENGINE of scripts/test-host?")
        }
        let hung = try await world.create("hanging", runtime: "gvisor")
        try await Task.sleep(for: .seconds(3))
        let meanwhile = try await deaths(world, starts, "hung")
        try FileManager.default.removeItem(atPath: file)
        try await world.delete(hung)

        report("pass, undisturbed, ms, median of \(others)", text(before.pass))
        report("pass while a start hangs / undisturbed (goal: at most 2)", text(meanwhile.pass / before.pass))
        report("death to running while a start hangs / undisturbed", text(meanwhile.reaction / before.reaction))
    }

    private func deaths(
        _ world: World, _ starts: StartWatch, _ name: String
    ) async throws -> (pass: Double, reaction: Double) {
        var passes: [Double] = []
        var reactions: [Double] = []
        var made: [String] = []
        for round in 0..<others {
            // A workload of its own each time: a second death in a row is answered later on purpose.
            let (workload, container) = try await world.createRunning("\(name)-\(round)", engine)
            made.append(workload)
            reactions.append(
                try await starts.time(of: container) {
                    try await engine.killContainer(container)
                } onDeath: {
                })
            try await Task.sleep(for: .milliseconds(500))
            passes.append(try world.lastPass())
        }
        for workload in made { try await world.delete(workload) }
        return (passes.sorted()[others / 2], reactions.sorted()[others / 2])
    }

    private func text(_ value: Double) -> String { String(format: "%.2f", value) }
}
