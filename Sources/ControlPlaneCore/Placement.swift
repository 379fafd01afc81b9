package import BerthModel

/// Picks the host of a new container. Pure: candidates in, one of them or the reason for none out.
package enum Placement {
    /// One agent that the user may use, with what is reserved on it already.
    package struct Candidate: Hashable, Sendable {
        package var agent: AgentID
        package var name: String
        package var isOnline: Bool
        package var runtimes: [String]
        package var capacity: HostCapacity
        /// MB promised to containers, each counted with no more than the whole host.
        package var reservedMemoryMB: Int
        package var containers: Int

        package init(
            agent: AgentID, name: String, isOnline: Bool, runtimes: [String], capacity: HostCapacity,
            reservedMemoryMB: Int, containers: Int
        ) {
            self.agent = agent
            self.name = name
            self.isOnline = isOnline
            self.runtimes = runtimes
            self.capacity = capacity
            self.reservedMemoryMB = reservedMemoryMB
            self.containers = containers
        }
    }

    package enum Verdict: Hashable, Sendable {
        case agent(AgentID)
        /// For the status message: what is missing.
        case none(reason: String)
    }

    /// - Parameter wanted: only this agent, where the request names one.
    package static func choose(
        among candidates: [Candidate], for spec: WorkloadSpec, wanted: AgentID? = nil
    ) -> Verdict {
        let known = candidates.filter { wanted == nil || $0.agent == wanted }
        if known.isEmpty {
            return .none(reason: "no host is connected to this account; run berth-agent register on one")
        }
        let online = known.filter(\.isOnline)
        if online.isEmpty { return .none(reason: "none of \(known.count) hosts is online") }
        let choice = spec.runtime
        let runnable = online.filter { candidate in
            candidate.runtimes.contains(choice.name)
                || (choice.necessity == .prefer && candidate.runtimes.contains(RuntimeChoice.runc))
        }
        if runnable.isEmpty { return .none(reason: "no online host offers the runtime \"\(choice.name)\"") }
        let roomy = runnable.filter {
            hasRoom($0.capacity, reservedMemoryMB: $0.reservedMemoryMB, for: spec.resources)
        }
        // Least loaded first: the smallest share of memory that is promised already.
        guard let best = roomy.min(by: { (load($0), $0.containers, $0.agent) < (load($1), $1.containers, $1.agent) })
        else {
            return .none(
                reason: "no online host has \(spec.resources.memoryMB) MB of memory left to promise")
        }
        return .agent(best.agent)
    }

    /// Limits are ceilings and not usage, so a host's memory is promised several times over. Cpu is shared by time and
    /// not counted.
    package static let overcommit = 4

    /// - Parameter reservedMemoryMB: promised on that host already, as of a candidate.
    package static func hasRoom(
        _ capacity: HostCapacity, reservedMemoryMB: Int, for resources: Resources
    ) -> Bool {
        capacity.memoryMB * overcommit - reservedMemoryMB >= min(resources.memoryMB, capacity.memoryMB)
    }

    private static func load(_ candidate: Candidate) -> Double {
        Double(candidate.reservedMemoryMB) / Double(max(1, candidate.capacity.memoryMB))
    }
}
