import BerthModel
import Foundation
import Simulation
import Testing

/// An accepted create is never lost, a tombstone is never undone, the observed generation never lies, mass removal never
/// happens without confirmation, a stale session never acts: over seeded schedules of the whole system. A seed that breaks
/// one is cut down and printed. `BERTH_SCHEDULES` is how many (200; `make test-faults`: 10,000).
@Suite struct WholeSystemProperties {
    private static let count = ProcessInfo.processInfo.environment["BERTH_SCHEDULES"].flatMap { Int($0) } ?? 200

    @Test func `whatever is lost, cut or killed between user and Engine, what was promised holds`() async throws {
        var random = SystemRandomNumberGenerator()
        var failures = 0
        for _ in 0..<Self.count where failures < 3 {
            let seed = random.next()
            let events = Self.schedule(seed)
            let broken = try await Self.play(events)
            guard !broken.isEmpty else { continue }
            failures += 1
            let short = try await Self.shrunk(events)
            let why = try await Self.play(short)
            Issue.record(
                "seed \(seed):\n  \(short.map(\.description).joined(separator: "\n  "))\n=> \(why.prefix(3))")
        }
    }

    private static func play(_ events: [WholeSystem.Event]) async throws -> [String] {
        // A database a schedule: in memory, for its promises about power cuts are tested elsewhere.
        let folder = "/dev/shm/berth-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var system = try await WholeSystem(folder: folder)
        for event in events {
            try await system.play(event)
            if !system.broken.isEmpty { return system.broken }
        }
        try await system.settle()
        return system.broken
    }

    private static func shrunk(_ events: [WholeSystem.Event]) async throws -> [WholeSystem.Event] {
        var best = events
        var size = max(1, best.count / 2)
        while size >= 1 {
            var start = 0
            while start < best.count {
                var shorter = best
                shorter.removeSubrange(start..<min(start + size, best.count))
                if try await play(shorter).isEmpty { start += size } else { best = shorter }
            }
            size /= 2
        }
        return best
    }

    private static func schedule(_ seed: UInt64) -> [WholeSystem.Event] {
        var random = SplitMix(seed: seed)
        return (0..<100).map { _ in
            let number = Int.random(in: 0..<6, using: &random)
            switch Int.random(in: 0..<40, using: &random) {
            case 0...3: return .create(number, answerIsLost: Bool.random(using: &random))
            case 4: return .resize(number)
            case 5: return .replace(number)
            case 6: return .stop(number)
            case 7: return .start(number)
            case 8: return .delete(number)
            case 9: return Int.random(in: 0..<6, using: &random) == 0 ? .deleteEverything : .push
            case 10...12: return .connect(answerIsLost: Int.random(in: 0..<4, using: &random) == 0)
            case 13: return .cut
            case 14: return .agentDies
            case 15: return .controlPlaneDies
            case 16: return .onTheHost(.processDies(number, code: 1))
            case 17: return .onTheHost(.removedByHand(number))
            case 18...22: return .push
            case 23...27: return .toAgent
            case 28...31: return .toControlPlane(stale: Int.random(in: 0..<3, using: &random) == 0)
            case 32...34: return .agentSpeaks
            default:
                let isFair = Int.random(in: 0..<3, using: &random) > 0
                return .agentPass(isFair ? .works : SimulatedHost.Fate.allCases.randomElement(using: &random)!)
            }
        }
    }
}
