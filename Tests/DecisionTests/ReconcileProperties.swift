import AgentCore
import BerthModel
import Foundation
import Simulation
import Testing

/// The ten properties of docs/reconcile.md over seeded random schedules. A seed that breaks one is cut down to the shortest
/// schedule that still does and printed as a story. `BERTH_SCHEDULES` is how many (200; `make test-faults`: 10,000).
@Suite struct ReconcileProperties {
    private static let count = ProcessInfo.processInfo.environment["BERTH_SCHEDULES"].flatMap { Int($0) } ?? 200

    @Test func `whatever happens, data has one writer, is never removed, and the wish is reached in the end`() async {
        var random = SystemRandomNumberGenerator()
        var broken = 0
        for _ in 0..<Self.count where broken < 3 {
            // Tests that wait for a machine share these threads.
            await Task.yield()
            let schedule = Schedule(seed: random.next(), length: 60)
            if !schedule.play().broken.isEmpty {
                broken += 1
                Issue.record("\(schedule.report())")
            }
        }
    }

    @Test func `a crash after any step and a fault at any call change nothing of that`() async {
        var random = SystemRandomNumberGenerator()
        var broken = 0
        for _ in 0..<max(1, Self.count / 10) where broken < 3 {
            let schedule = Schedule(seed: random.next(), length: 25)
            let steps = schedule.play().steps
            for step in 0..<steps where broken < 3 {
                await Task.yield()
                for fate in SimulatedHost.Fate.allCases where fate != .works {
                    guard !schedule.play(fault: (step, fate)).broken.isEmpty else { continue }
                    broken += 1
                    Issue.record("\(schedule.report(fault: (step, fate)))")
                    break
                }
            }
        }
    }
}
