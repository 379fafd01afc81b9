import BerthModel

/// How busy hosts and containers are, the last word of each. Agents say it often, and each may say it oftener than is of use
/// to anybody: so many notices a second are passed on as there are hosts, and not as there are messages.
struct LatestLoads {
    private var stats: [AgentID: (owner: String, stats: HostStats)] = [:]
    private var samples: [WorkloadID: ActivitySample] = [:]
    private static let samplesAtOnce = 50

    var isEmpty: Bool { stats.isEmpty && samples.isEmpty }

    /// - Returns: false for a notice of another kind.
    mutating func take(_ notice: Notice) -> Bool {
        switch notice {
        case .stats(let agent, let owner, let latest): stats[agent] = (owner, latest)
        case .activity(let latest): for sample in latest { samples[sample.workload] = sample }
        default: return false
        }
        return true
    }

    mutating func forget(_ agent: AgentID) { stats[agent] = nil }
    mutating func forget(_ workload: WorkloadID) { samples[workload] = nil }

    mutating func drain() -> [Notice] {
        var notices = stats.sorted { $0.key < $1.key }.map {
            Notice.stats($0.key, owner: $0.value.owner, $0.value.stats)
        }
        let all = samples.values.sorted { $0.workload < $1.workload }
        for start in stride(from: 0, to: all.count, by: Self.samplesAtOnce) {
            notices.append(.activity(Array(all[start..<min(start + Self.samplesAtOnce, all.count)])))
        }
        self = LatestLoads()
        return notices
    }
}
