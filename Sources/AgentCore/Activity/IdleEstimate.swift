package import BerthModel

/// Idle time of one workload from its CPU counter, the first of the signals of docs/activity.md.
///
/// Active when at least max(2 % of a core, 3 × the learned floor) was used in 3 of the last 6 samples. The floor is the
/// quietest rate seen, so that a shell's timer or the sandbox's own work does not count. What is always busy has a high
/// floor and is not idle, so the threshold stops at 10 %.
package struct IdleEstimate: Sendable {
    private var lastCounter: Int?
    private var lastSample: MonotonicInstant?
    private var resetID: String?
    private var startedAt: MonotonicInstant?
    private var lastActive: MonotonicInstant?
    private var rates: [Double] = []
    private var recentlyBusy: [Bool] = []

    private static let window = 6
    private static let needed = 3
    private static let thresholdPercent = 2.0...10.0

    package init() {}

    /// - Returns: percent of one core since the sample before, and seconds without activity; nil while too little is known.
    package mutating func sampled(
        cpuMicroseconds: Int, resetID: String, at now: MonotonicInstant
    ) -> (cpuPercent: Double?, idleSeconds: Double?) {
        guard resetID == self.resetID, let before = lastCounter, let then = lastSample, cpuMicroseconds >= before
        else {
            self.resetID = resetID
            lastCounter = cpuMicroseconds
            lastSample = now
            startedAt = now
            lastActive = nil
            rates = []
            recentlyBusy = []
            return (nil, nil)
        }
        let elapsed = (now - then).count
        guard elapsed > 0 else { return (nil, idle(at: now)) }
        lastCounter = cpuMicroseconds
        lastSample = now
        let percent = Double(cpuMicroseconds - before) / Double(elapsed) / 10
        rates = (rates + [percent]).suffix(60)
        let floor = rates.min() ?? 0
        let threshold = min(max(Self.thresholdPercent.lowerBound, 3 * floor), Self.thresholdPercent.upperBound)
        recentlyBusy = (recentlyBusy + [percent >= threshold]).suffix(Self.window)
        if recentlyBusy.count(where: { $0 }) >= Self.needed { lastActive = now }
        return (percent, idle(at: now))
    }

    /// Seconds without activity until then; nil while too little is known.
    package func idle(at now: MonotonicInstant) -> Double? {
        guard rates.count >= Self.needed, let startedAt else { return nil }
        return Double((now - (lastActive ?? startedAt)).count) / 1000
    }
}
