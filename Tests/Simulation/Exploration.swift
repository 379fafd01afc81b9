import AgentCore
import BerthModel

/// Every schedule of a small universe: worlds are visited breadth first, each kind of world once.
package struct Exploration {
    package private(set) var worlds = 0
    /// Reports of what is broken, at most three.
    package private(set) var problems: [String] = []

    private struct Visit {
        var world: ReconcileWorld
        var depth: Int
    }

    /// - Parameters:
    ///   - choices: what can happen in every world.
    ///   - depth: happenings in a row.
    package init(from start: ReconcileWorld, choices: [Happening], depth: Int) async {
        var seen: Set<String> = [start.kind]
        var queue = [Visit(world: start, depth: 0)]
        var next = 0
        while next < queue.count, problems.count < 3 {
            let visit = queue[next]
            next += 1
            worlds += 1
            // Tests that wait for a machine share these threads.
            await Task.yield()
            var end = visit.world
            end.settle(rounds: 40)
            let broken = end.broken + end.unsettled()
            if !broken.isEmpty { problems.append(Self.report(end, broken)) }
            guard visit.depth < depth else { continue }
            for choice in choices {
                var world = visit.world
                world.play(choice)
                guard world.broken.isEmpty else {
                    problems.append(Self.report(world, world.broken))
                    continue
                }
                if seen.insert(world.kind).inserted { queue.append(Visit(world: world, depth: visit.depth + 1)) }
            }
        }
    }

    private static func report(_ world: ReconcileWorld, _ broken: [String]) -> String {
        (world.story.map { "  \($0)" } + broken.prefix(3).map { "  => \($0)" }).joined(separator: "\n")
    }
}

extension ReconcileWorld {
    /// Two worlds of one kind go on alike: names, numbers and moments are left out as far as nothing depends on them.
    var kind: String {
        var parts: [String] = []
        for workload in desired.workloads.values.sorted(by: { $0.id < $1.id }) {
            let memory = memory.memory(of: workload)
            let own = host.containers.values.filter { $0.workload == workload.id.text }
                .sorted { ($0.generation, $0.name) < ($1.generation, $1.name) }
            parts.append("\(workload.wish) \(workload.spec.fingerprint) \(workload.spec.resources.memoryMB)")
            parts.append(
                "\(min(memory.failures, 2)) \(memory.notBefore.map { $0 > now } ?? false) \(memory.failedStarts > 0)"
                    + " \(memory.isProven) \(memory.refusesLiveChange) \(isRecent(memory.lastUpdate)) \(isRecent(memory.lastConnect))"
                    + " \(memory.observedGeneration == workload.generation) \(memory.restarts > 0)")
            for container in own {
                let state =
                    switch container.state {
                    case .created: "created"
                    case .running(let since): "up \(age(host.clock - since))"
                    case .paused: "paused"
                    case .exited(_, let startedAt, let finishedAt, _):
                        "exited \(finishedAt - startedAt >= 10_000) \(memory.countedDeath != nil)"
                    }
                parts.append(
                    "\(container.generation == workload.generation) \(container.labels["berth.spec"] ?? "") \(state)"
                        + " \(container.limits.memory) \(container.restartPolicy) \(container.isConnected) \(container.hangs)"
                        + " \(memory.seenRunning?.text == container.id) \(memory.hungStart?.text == container.id)")
            }
        }
        return (parts + [host.images.keys.sorted().joined()]).joined(separator: "|")
    }

    private func isRecent(_ moment: MonotonicInstant?) -> Bool { moment.map { (now - $0).count < 60_000 } ?? false }

    private func age(_ milliseconds: Int) -> Int {
        [10_000, 600_000, 3_600_000].count { milliseconds >= $0 }
    }
}
