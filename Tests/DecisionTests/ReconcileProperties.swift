import AgentCore
import BerthModel
import Testing

/// Seeded random schedules over a simulated Engine: steps fail, answers are lost, the agent is killed, containers die and
/// are removed by hand, the wish changes. What docs/reconcile.md says must hold, holds.
@Suite struct ReconcileProperties {
    @Test(arguments: 0..<200)
    func `data has one writer, is never removed, and the wish is reached in the end`(round: Int) {
        let seed = UInt64.random(in: .min ... .max)
        var random = TestRandom(seed: seed)
        var host = SimulatedHost()
        var memory = ReconcileMemory()
        var now = Sample.now
        var generation = 1
        var wanted = [
            Sample.desired(),
            Sample.desired(spec: Sample.spec(memory: 300), id: WorkloadID(validated: "22222222-bbbb")),
        ]
        wanted[1].spec.volumes = [VolumeMount(volume: "berth-22222222-bbbb", path: "/root")]
        var seenVolumes: Set<String> = []

        func pass(_ fates: [SimulatedHost.Fate]) -> Int {
            let state = DesiredState(revision: Revision(generation), workloads: wanted)
            let observed = host.observe()
            memory = memory.noticing(observed, desired: state, now: now, random: .random(in: 0..<1, using: &random))
            let plan = Planner.plan(desired: state, observed: observed, memory: memory, now: now)
            for step in plan.steps {
                memory = memory.launching(step)
                let result = host.perform(step, fates.randomElement(using: &random) ?? .works)
                memory = memory.recording(
                    .init(step: step, result: result), now: now, random: .random(in: 0..<1, using: &random))
            }
            seenVolumes.formUnion(host.volumes)
            #expect(host.volumes == seenVolumes, "a volume is gone, seed \(seed)")
            now = now + Milliseconds(300)
            host.pass(Milliseconds(300))
            return plan.steps.count
        }

        for _ in 0..<60 {
            _ = pass([.works, .works, .works, .fails, .worksButTheAnswerIsLost])
            switch Int.random(in: 0..<12, using: &random) {
            case 0: memory = ReconcileMemory()
            case 1: host.killSomething(.random(in: 0..<10, using: &random))
            case 2: host.removeSomethingByHand(.random(in: 0..<10, using: &random))
            case 3:
                generation += 1
                let index = Int.random(in: 0..<2, using: &random)
                wanted[index].generation = generation
                wanted[index].spec.resources.memoryMB = Int.random(in: 256...400, using: &random)
            case 4:
                generation += 1
                wanted[0].generation = generation
                wanted[0].wish = [.running, .stopped].randomElement(using: &random) ?? .running
            default: break
            }
        }
        #expect(host.violations.isEmpty, "\(host.violations), seed \(seed)")

        // A fair Engine from now on, and time: the end is reached, and is silent.
        for _ in 0..<60 {
            _ = pass([.works])
            now = now + .seconds(200)
            host.pass(.seconds(200))
        }
        let changes = host.changes
        #expect(pass([.works]) == 0 && host.changes == changes, "not silent, seed \(seed)")
        for workload in wanted {
            let own = host.containers.values.map(\.observed).filter { $0.workload == workload.id }
            let running = own.filter(\.state.isUp)
            switch workload.wish {
            case .running:
                #expect(
                    running.map(\.fingerprint) == [workload.spec.fingerprint] && own.count == 1, "seed \(seed): \(own)")
            case .stopped, .removed: #expect(running.isEmpty, "seed \(seed)")
            }
        }
        #expect(host.violations.isEmpty, "\(host.violations), seed \(seed)")
    }
}

struct TestRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ (state >> 29)
    }
}
