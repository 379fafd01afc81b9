import AgentCore
package import BerthModel

/// Schedules: made from a seed, played, and cut down to what still breaks.
package struct Schedule: Sendable {
    package var seed: UInt64
    package var happenings: [Happening]

    package static let stateful = WorkloadID(validated: "11111111-aaaa")
    package static let stateless = WorkloadID(validated: "22222222-bbbb")
    package static let images = ["alpine:latest", "data:1"]

    package static func spec(
        _ id: WorkloadID, image: String = "alpine:latest", memory: Int = 256, runtime: String = "runc",
        rollback: RollbackRule? = nil
    ) -> WorkloadSpec {
        WorkloadSpec(
            name: "w", image: image, runtime: RuntimeChoice(name: runtime), resources: Resources(memoryMB: memory),
            volumes: id == stateful ? [VolumeMount(volume: VolumeMount.name(for: id), path: "/root")] : [],
            rollback: rollback)
    }

    /// Two workloads, one with a volume and one without, and beside them a container of somebody else.
    package static func world() -> ReconcileWorld {
        var host = SimulatedHost()
        host.registry["data:1"] = .init(id: "sha256:data", volumePaths: ["/data"])
        host.addForeign("foreign", volume: "theirs")
        return ReconcileWorld(
            [stateful, stateless].map { id in
                DesiredWorkload(id: id, generation: 1, wish: .running, spec: spec(id))
            }, host: host)
    }

    package init(seed: UInt64, length: Int) {
        self.seed = seed
        var random = SplitMix(seed: seed)
        happenings = []
        for _ in 0..<length {
            if Int.random(in: 0..<3, using: &random) > 0 {
                let isFair = Int.random(in: 0..<3, using: &random) > 0
                happenings.append(.pass(isFair ? .works : SimulatedHost.Fate.allCases.randomElement(using: &random)!))
            } else {
                happenings.append(Self.happening(&random))
            }
        }
    }

    package init(seed: UInt64, happenings: [Happening]) {
        self.seed = seed
        self.happenings = happenings
    }

    private static func happening(_ random: inout SplitMix) -> Happening {
        let pick = Int.random(in: 0..<6, using: &random)
        let id = Bool.random(using: &random) ? stateful : stateless
        switch Int.random(in: 0..<20, using: &random) {
        case 0: return .agentIsKilled
        case 1: return .agentLosesItsFile
        case 2: return .engineRestarts
        case 3: return .processDies(pick, code: Int.random(in: 0...1, using: &random))
        case 4: return .removedByHand(pick)
        case 5: return .stoppedByHand(pick)
        case 6: return .pausedByHand(pick)
        case 7: return .unpausedByHand(pick)
        case 8: return .limitsChangedByHand(pick)
        case 9: return .disconnectedByHand(pick)
        case 10: return .imageIsRemoved(images.randomElement(using: &random)!)
        case 11:
            let how = Bool.random(using: &random) ? nil : SimulatedHost.Breakage.allCases.randomElement(using: &random)
            return .imageBreaks(images.randomElement(using: &random)!, how)
        case 12, 13, 14:
            return .wish(
                id, .running,
                spec(
                    id, image: images.randomElement(using: &random)!,
                    memory: [256, 300].randomElement(using: &random)!,
                    runtime: ["runc", "gvisor"].randomElement(using: &random)!,
                    rollback: [nil, .always].randomElement(using: &random)!))
        case 15: return .wish(id, [.running, .stopped].randomElement(using: &random)!, nil)
        case 16 where Int.random(in: 0..<4, using: &random) == 0: return .wish(id, .removed, nil)
        case 17: return Bool.random(using: &random) ? .restore(id) : .purge(id)
        default: return .timePasses(.seconds([1, 11, 400, 4000].randomElement(using: &random)!))
        }
    }

    /// Plays it to the end and lets the world settle.
    ///
    /// - Parameter fault: how the step with this number ends, whatever the schedule says.
    /// - Returns: what is broken, and the story of it.
    package func play(
        fault: (at: Int, fate: SimulatedHost.Fate)? = nil
    ) -> (broken: [String], story: [String], steps: Int) {
        var world = Self.world()
        world.fault = fault
        for happening in happenings {
            world.play(happening)
            if !world.broken.isEmpty { return (world.broken, world.story, world.stepCount) }
        }
        let steps = world.stepCount
        world.settle()
        return (world.broken + world.unsettled(), world.story, steps)
    }

    /// The shortest schedule that can be had by leaving things out and still breaks.
    package func shrunk(fault: (at: Int, fate: SimulatedHost.Fate)? = nil) -> Schedule {
        var best = self
        var size = max(1, happenings.count / 2)
        while size >= 1 {
            var start = 0
            while start < best.happenings.count {
                var shorter = best
                shorter.happenings.removeSubrange(start..<min(start + size, best.happenings.count))
                if !shorter.play(fault: fault).broken.isEmpty { best = shorter } else { start += size }
            }
            size /= 2
        }
        return best
    }

    /// What a person reads who wants to know why.
    package func report(fault: (at: Int, fate: SimulatedHost.Fate)? = nil) -> String {
        let short = shrunk(fault: fault)
        let (broken, story, _) = short.play(fault: fault)
        return
            (["seed \(seed)\(fault.map { ", step \($0.at) \($0.fate.rawValue)" } ?? ""):"] + story.map { "  \($0)" }
            + broken.map { "  => \($0)" }).joined(separator: "\n")
    }
}

extension ReconcileWorld {
    /// What is not as it should be once nothing is in the way any more: the end of every schedule (numbers 3, 7 and 9 of
    /// docs/reconcile.md). Empty where all is well.
    package func unsettled() -> [String] {
        var problems: [String] = []
        for workload in desired.workloads.values.sorted(by: { $0.id < $1.id }) {
            let own = host.containers.values.filter { $0.workload == workload.id.text }
            let up = own.filter(\.isUp)
            let isPaused = own.contains { if case .paused = $0.state { true } else { false } }
            switch workload.wish {
            case .running where isPaused: break
            case .running:
                let wanted = up.filter { $0.labels["berth.spec"] == workload.spec.fingerprint.text }
                let isRolledBack = memory.memory(of: workload).failedStarts > 0 && up.count == 1
                if up.count != 1 || (wanted.count != 1 && !isRolledBack) {
                    problems.append("convergence: \(workload.id) has \(up.count) up, \(wanted.count) of them as wanted")
                } else if let one = wanted.first,
                    one.limits != EngineLimits(workload.spec.resources, cpus: 2) || one.restartPolicy != "no"
                        || !one.isConnected
                {
                    problems.append("convergence: \(one.name) runs with other settings than wanted")
                }
            case .stopped: if !up.isEmpty { problems.append("convergence: \(up[0].name) runs and is wanted stopped") }
            case .removed: if !own.isEmpty { problems.append("convergence: \(own[0].name) is there and is to be gone") }
            }
        }
        var again = self
        let before = again.host.changes
        again.pass()
        again.pass()
        if again.stepCount != stepCount || again.host.changes != before {
            problems.append("silence: a settled world is changed again")
        }
        return problems
    }
}

/// Reproducible randomness (SplitMix64).
package struct SplitMix: RandomNumberGenerator, Sendable {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
