package import BerthModel

/// Picks the host of a new container. Pure: candidates in, one of them or the reason for none out.
package enum Placement {
    /// One agent that the user may use, with what is reserved on it already.
    package struct Candidate: Hashable, Sendable {
        package var agent: AgentID
        package var name: String
        package var isOnline: Bool
        /// What a `LabelSelector` looks at.
        package var labels: Set<String>
        /// Normalised; empty where it is not known.
        package var architecture: String
        package var runtimes: [String]
        package var capacity: HostCapacity
        /// MB promised to containers, each counted with no more than the whole host.
        package var reservedMemoryMB: Int
        package var containers: Int

        package init(
            agent: AgentID, name: String, isOnline: Bool, tags: [String] = [], host: HostDescription,
            reservedMemoryMB: Int, containers: Int
        ) {
            self.agent = agent
            self.name = name
            self.isOnline = isOnline
            architecture = Architecture.normalised(host.arch)
            labels = Set(tags).union([
                "os=\(host.os)", "arch=\(architecture)", "name=\(name)", "hostname=\(host.hostname)",
            ])
            runtimes = host.engine?.runtimes ?? []
            capacity = host.capacity
            self.reservedMemoryMB = reservedMemoryMB
            self.containers = containers
        }
    }

    package enum Verdict: Hashable, Sendable {
        case agent(AgentID)
        /// For the status message: what is missing.
        case none(reason: String)
    }

    /// The first that is missing is the reason, so that the one who reads it knows what to mend first.
    package static func choose(
        among candidates: [Candidate], for spec: WorkloadSpec, wish: HostWish = .any
    ) -> Verdict {
        let known = candidates.filter { wish.agent == nil || $0.agent == wish.agent }
        if known.isEmpty { return .none(reason: nobodyOnline(of: 0)) }
        let labelled = known.filter { wish.labels?.matches($0.labels) ?? true }
        if labelled.isEmpty { return .none(reason: "none of \(known.count) hosts has the labels \(text(wish.labels))") }
        let suited = labelled.filter { wish.architectures.isEmpty || wish.architectures.contains($0.architecture) }
        if suited.isEmpty {
            let names = wish.architectures.sorted().joined(separator: " or ")
            return .none(reason: "none of \(labelled.count) hosts has a processor for this image: \(names)")
        }
        let online = suited.filter(\.isOnline)
        if online.isEmpty { return .none(reason: nobodyOnline(of: suited.count)) }
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

    /// The reason where none of so many is online.
    package static func nobodyOnline(of known: Int) -> String {
        known == 0
            ? "no host is connected to this account; run berth-agent register on one"
            : "none of \(known) hosts is online"
    }

    private static func text(_ labels: LabelSelector?) -> String { "\"\(labels?.description ?? "")\"" }

    private static func load(_ candidate: Candidate) -> Double {
        Double(candidate.reservedMemoryMB) / Double(max(1, candidate.capacity.memoryMB))
    }
}
