import AgentCore
import BerthModel
import Simulation
import Testing

/// Not a sample of what can happen to one workload but all of it, up to a number of happenings in a row.
@Suite struct ExhaustiveUniverse {
    private static let hands: [Happening] = [
        .agentIsKilled, .engineRestarts, .processDies(0, code: 1), .removedByHand(0), .limitsChangedByHand(0),
        .disconnectedByHand(0), .timePasses(.seconds(11)), .timePasses(.seconds(4000)),
    ]
    private static let passes = SimulatedHost.Fate.allCases.map(Happening.pass)

    /// - Parameter isRunning: begins with a first container that has proved itself, so that replacing it is explored.
    private func explore(
        _ id: WorkloadID, _ specs: [WorkloadSpec], _ more: [Happening], isRunning: Bool, depth: Int
    ) async -> Exploration {
        var host = SimulatedHost()
        host.registry["data:1"] = .init(id: "sha256:data", volumePaths: ["/data"])
        host.addForeign("foreign", volume: "theirs")
        host.images = host.registry
        var world = ReconcileWorld(
            [DesiredWorkload(id: id, generation: 1, wish: .running, spec: specs[0])], host: host)
        if isRunning { world.settle(rounds: 5) }
        let wishes: [Happening] =
            specs.map { .wish(id, .running, $0) } + [
                .wish(id, .stopped, nil), .wish(id, .removed, nil), .purge(id), .restore(id),
            ]
        return await Exploration(from: world, choices: Self.passes + Self.hands + wishes + more, depth: depth)
    }

    @Test(arguments: [false, true])
    func `one workload with a volume: every order of what can happen ends well`(isRunning: Bool) async {
        let id = Schedule.stateful
        let result = await explore(
            id, [Schedule.spec(id), Schedule.spec(id, image: "data:1")], [.imageBreaks("data:1", .hangsAtStart)],
            isRunning: isRunning, depth: 6)
        #expect(result.problems.isEmpty, "\(result.problems.joined(separator: "\n"))")
        #expect(result.worlds > 1000)
        print("\(result.worlds) kinds of worlds with a volume")
    }

    @Test(arguments: [false, true])
    func `one workload without a volume: every order of what can happen ends well`(isRunning: Bool) async {
        let id = Schedule.stateless
        let result = await explore(
            id, [Schedule.spec(id), Schedule.spec(id, memory: 300, runtime: "gvisor")],
            [.imageBreaks("alpine:latest", .diesAtOnce)], isRunning: isRunning, depth: 6)
        #expect(result.problems.isEmpty, "\(result.problems.joined(separator: "\n"))")
        #expect(result.worlds > 1000)
        print("\(result.worlds) kinds of worlds without a volume")
    }
}
