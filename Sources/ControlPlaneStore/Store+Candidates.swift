import BerthModel
import ControlPlaneCore

/// The hosts among which one is chosen: a creation must not cost more where there are more hosts.
extension Store {
    /// Hosts that are looked at together.
    static let lookedAtOnce = 32

    /// Looks at a few hosts that are connected and takes the least loaded of them that fits; at more only where none does.
    ///
    /// - Parameter start: where in the order of their ids it begins, another each time, so that all get their share.
    static func choose(
        _ container: ContainerRecord, _ wish: HostWish, online: Set<AgentID>, from start: String,
        _ database: any SQLConnection
    ) throws -> Placement.Verdict {
        func verdict(_ candidates: [Placement.Candidate]) -> Placement.Verdict {
            Placement.choose(among: candidates, for: container.spec, wish: wish)
        }
        if let agent = wish.agent {
            return verdict(try candidates(named: [agent.text], for: container.userID, online: online, database))
        }
        var seen: [Placement.Candidate] = []
        if online.count <= lookedAtOnce {
            let names = online.map(\.text).sorted()
            seen = try candidates(named: names, for: container.userID, online: online, database)
            if case .agent(let agent) = verdict(seen) { return .agent(agent) }
        } else {
            // Round once; what is left before the end is looked at together with what comes after it.
            var page: [Placement.Candidate] = []
            for (first, end) in [(start, "~"), ("", start)] {
                var after: String? = first
                while let begin = after {
                    let room = lookedAtOnce - page.count
                    let found = try connected(
                        after: begin, upTo: end, most: room, for: container.userID, online: online, database)
                    after = found.count == room ? found.map(\.agent.text).max() : nil
                    page += found
                    guard page.count == lookedAtOnce else { continue }
                    if case .agent(let agent) = verdict(page) { return .agent(agent) }
                    seen += page.filter(\.isOnline)
                    page = []
                }
            }
            if case .agent(let agent) = verdict(page) { return .agent(agent) }
            seen += page.filter(\.isOnline)
        }
        // What is missing is said of all hosts. Labels and processors are those of hosts that are away, too.
        guard wish == .any else { return verdict(try candidates(for: container.userID, online: online, database)) }
        if !seen.isEmpty { return verdict(seen) }
        return .none(reason: try nobodyOnline(for: container.userID, database))
    }

    static func nobodyOnline(for user: String, _ database: any SQLConnection) throws -> String {
        let known = try database.value(
            Int.self, "SELECT COUNT(*) FROM agent WHERE deleted_at IS NULL AND (user_id = ? OR is_shared)", [user])
        return Placement.nobodyOnline(of: known ?? 0)
    }

    /// All that `user` may use.
    static func candidates(
        for user: String, online: Set<AgentID>, _ database: any SQLConnection
    ) throws -> [Placement.Candidate] {
        try candidates(thatAre: "(agent.user_id = ? OR agent.is_shared)", [user], online, database)
    }

    /// All that each of `users` may use; what is shared is read once.
    static func candidates(
        forEachOf users: Set<String>, online: Set<AgentID>, _ database: any SQLConnection
    ) throws -> [String: [Placement.Candidate]] {
        guard !users.isEmpty else { return [:] }
        let shared = try candidates(thatAre: "agent.is_shared", [], online, database)
        var all: [String: [Placement.Candidate]] = [:]
        for user in users {
            all[user] =
                try shared + candidates(thatAre: "agent.user_id = ? AND NOT agent.is_shared", [user], online, database)
        }
        return all
    }

    private static func candidates(
        thatAre condition: String, _ arguments: [any SQLArgument], _ online: Set<AgentID>,
        _ database: any SQLConnection
    ) throws -> [Placement.Candidate] {
        let agents = try database.rows(
            "SELECT * FROM agent WHERE agent.deleted_at IS NULL AND \(condition)", arguments
        ).map(Rows.agent)
        guard !agents.isEmpty else { return [] }
        let containers = try database.rows(
            """
            SELECT c.agent_id AS agent_id, c.memory_mb AS memory_mb, COUNT(*) AS containers
            FROM container c JOIN agent ON agent.id = c.agent_id
            WHERE c.deleted_at IS NULL AND agent.deleted_at IS NULL AND \(condition)
            GROUP BY c.agent_id, c.memory_mb
            """, arguments)
        return candidates(agents, containers, online)
    }

    private static func candidates(
        named names: [String], for user: String, online: Set<AgentID>, _ database: any SQLConnection
    ) throws -> [Placement.Candidate] {
        guard !names.isEmpty else { return [] }
        let agents = try database.rows(
            """
            SELECT * FROM agent WHERE id IN (\(places(names.count))) AND deleted_at IS NULL
                AND (user_id = ? OR is_shared)
            """, names + [user]
        ).map(Rows.agent)
        return try candidates(agents, online, database)
    }

    /// In no order; those whose control plane was killed count as connected here.
    private static func connected(
        after: String, upTo end: String, most: Int, for user: String, online: Set<AgentID>,
        _ database: any SQLConnection
    ) throws -> [Placement.Candidate] {
        let agents = try database.rows(
            """
            SELECT * FROM (
                SELECT * FROM agent WHERE user_id = ? AND deleted_at IS NULL AND server_id IS NOT NULL
                    AND id > ? AND id <= ? ORDER BY id LIMIT ?
            ) AS own
            UNION SELECT * FROM (
                SELECT * FROM agent WHERE is_shared AND deleted_at IS NULL AND server_id IS NOT NULL
                    AND id > ? AND id <= ? ORDER BY id LIMIT ?
            ) AS shared
            ORDER BY id LIMIT ?
            """, [user, after, end, most, after, end, most, most]
        ).map(Rows.agent)
        return try candidates(agents, online, database)
    }

    private static func candidates(
        _ agents: [AgentRecord], _ online: Set<AgentID>, _ database: any SQLConnection
    ) throws -> [Placement.Candidate] {
        guard !agents.isEmpty else { return [] }
        let containers = try database.rows(
            """
            SELECT agent_id, memory_mb, COUNT(*) AS containers FROM container
            WHERE agent_id IN (\(places(agents.count))) AND deleted_at IS NULL GROUP BY agent_id, memory_mb
            """, agents.map(\.id.text))
        return candidates(agents, containers, online)
    }

    /// - Parameter containers: how many of each size are on each.
    private static func candidates(
        _ agents: [AgentRecord], _ containers: [SQLRow], _ online: Set<AgentID>
    ) -> [Placement.Candidate] {
        var reserved: [String: (memoryMB: Int, containers: Int)] = [:]
        let capacities = Dictionary(uniqueKeysWithValues: agents.map { ($0.id.text, $0.host.capacity.memoryMB) })
        for row in containers {
            let (agent, count): (String, Int) = (row["agent_id"], row["containers"])
            // One that asks for more than the host has gets what there is.
            let each = min(row["memory_mb"] as Int, capacities[agent] ?? 0)
            reserved[agent, default: (0, 0)].memoryMB += each * count
            reserved[agent, default: (0, 0)].containers += count
        }
        return agents.map { agent in
            Placement.Candidate(
                agent: agent.id, name: agent.name, isOnline: online.contains(agent.id), tags: agent.tags,
                host: agent.host, reservedMemoryMB: reserved[agent.id.text]?.memoryMB ?? 0,
                containers: reserved[agent.id.text]?.containers ?? 0)
        }
    }

    private static func places(_ count: Int) -> String { Array(repeating: "?", count: count).joined(separator: ", ") }
}
