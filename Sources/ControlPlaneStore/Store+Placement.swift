package import BerthModel
import ControlPlaneCore

/// Which host takes which container. Chosen by a look at all hosts that a user may use, which is no part of a transaction that
/// writes; what the choice rests on is checked again where it is stored.
extension Store {
    /// So often a host is chosen that is full by the time it is stored.
    static let mostChoices = 8
    /// Waiting containers that one round looks at together.
    private static let page = 200

    func place(
        _ container: ContainerRecord, wanted: AgentID?, online: Set<AgentID>
    ) async throws -> ContainerRecord {
        let candidates = try await database.read { try Self.candidates(for: container.userID, online: online, $0) }
        var placed = container
        switch Placement.choose(among: candidates, for: container.spec, wanted: wanted) {
        case .agent(let agent): placed.agent = agent
        case .none(let reason): placed.placement = reason
        }
        return placed
    }

    /// What the choice of `agent` rests on, as it is in this transaction.
    static func hasRoom(_ agent: AgentID, for spec: WorkloadSpec, _ database: any SQLConnection) throws -> Bool {
        guard
            let row = try database.row("SELECT * FROM agent WHERE id = ? AND deleted_at IS NULL", [agent.text])
        else { return false }
        let capacity = Rows.agent(row).host.capacity
        var reserved = 0
        for row in try database.rows(
            """
            SELECT memory_mb, COUNT(*) AS containers FROM container WHERE agent_id = ? AND deleted_at IS NULL
            GROUP BY memory_mb
            """, [agent.text])
        {
            reserved += min(row["memory_mb"] as Int, capacity.memoryMB) * (row["containers"] as Int)
        }
        return Placement.hasRoom(capacity, reservedMemoryMB: reserved, for: spec.resources)
    }

    static func candidates(
        for user: String, online: Set<AgentID>, _ database: any SQLConnection
    ) throws -> [Placement.Candidate] {
        let agents = try database.rows(
            "SELECT * FROM agent WHERE deleted_at IS NULL AND (user_id = ? OR is_shared)", [user]
        ).map(Rows.agent)
        var reserved: [String: (memoryMB: Int, containers: Int)] = [:]
        let capacities = Dictionary(uniqueKeysWithValues: agents.map { ($0.id.text, $0.host.capacity.memoryMB) })
        for row in try database.rows(
            """
            SELECT c.agent_id AS agent_id, c.memory_mb AS memory_mb, COUNT(*) AS containers
            FROM container c JOIN agent ON agent.id = c.agent_id
            WHERE c.deleted_at IS NULL AND agent.deleted_at IS NULL AND (agent.user_id = ? OR agent.is_shared)
            GROUP BY c.agent_id, c.memory_mb
            """, [user])
        {
            let (agent, count): (String, Int) = (row["agent_id"], row["containers"])
            // One that asks for more than the host has gets what there is.
            let each = min(row["memory_mb"] as Int, capacities[agent] ?? 0)
            reserved[agent, default: (0, 0)].memoryMB += each * count
            reserved[agent, default: (0, 0)].containers += count
        }
        return agents.map { agent in
            Placement.Candidate(
                agent: agent.id, name: agent.name, isOnline: online.contains(agent.id),
                runtimes: agent.host.engine?.runtimes ?? [], capacity: agent.host.capacity,
                reservedMemoryMB: reserved[agent.id.text]?.memoryMB ?? 0,
                containers: reserved[agent.id.text]?.containers ?? 0)
        }
    }

    private struct Waiting: Sendable {
        var container: ContainerRecord
        var wanted: AgentID?
    }

    /// Gives a host to containers that had none, oldest first.
    ///
    /// - Returns: those that have one now.
    package func placeWaiting(online: Set<AgentID>) async throws -> [ContainerRecord] {
        var placed: [ContainerRecord] = []
        var after: (createdAt: Double, id: String) = (-1, "")
        while true {
            let (createdAt, id) = after
            let (waiting, candidates) = try await database.read { database in
                let waiting = try database.rows(
                    """
                    SELECT * FROM container WHERE agent_id IS NULL AND deleted_at IS NULL
                        AND (created_at > ? OR (created_at = ? AND id > ?)) ORDER BY created_at, id LIMIT ?
                    """, [createdAt, createdAt, id, Self.page]
                ).map { row in
                    Waiting(
                        container: try Rows.container(row),
                        wanted: (row["wanted_agent_id"] as String?).map { AgentID(validated: $0) })
                }
                var candidates: [String: [Placement.Candidate]] = [:]
                for user in Set(waiting.map(\.container.userID)) {
                    candidates[user] = try Self.candidates(for: user, online: online, database)
                }
                return (waiting, candidates)
            }
            placed += try await store(Self.choices(for: waiting, among: candidates))
            guard waiting.count == Self.page, let last = waiting.last?.container else { return placed }
            after = (last.createdAt, last.id.text)
        }
    }

    /// Only those for which something is new: a host, or another reason for none.
    private static func choices(
        for waiting: [Waiting], among candidates: [String: [Placement.Candidate]]
    ) -> [ContainerRecord] {
        var candidates = candidates
        return waiting.compactMap { waiting in
            var container = waiting.container
            let hosts = candidates[container.userID] ?? []
            switch Placement.choose(among: hosts, for: container.spec, wanted: waiting.wanted) {
            case .none(let reason) where reason == container.placement: return nil
            case .none(let reason): container.placement = reason
            case .agent(let agent):
                (container.agent, container.placement) = (agent, nil)
                if let index = hosts.firstIndex(where: { $0.agent == agent }) {
                    candidates[container.userID]?[index].reservedMemoryMB += container.spec.resources.memoryMB
                    candidates[container.userID]?[index].containers += 1
                }
            }
            return container
        }
    }

    /// - Returns: those that have a host now: one that is full by now, or taken by another control plane, does not count.
    private func store(_ choices: [ContainerRecord]) async throws -> [ContainerRecord] {
        guard !choices.isEmpty else { return [] }
        return try await database.write { database in
            try choices.filter { container in
                let unplaced = "id = ? AND agent_id IS NULL AND deleted_at IS NULL"
                guard let agent = container.agent else {
                    try database.execute(
                        "UPDATE container SET placement = ? WHERE \(unplaced)",
                        [container.placement, container.id.text])
                    return false
                }
                guard try database.exists("SELECT 1 FROM container WHERE \(unplaced)", [container.id.text]),
                    try Self.hasRoom(agent, for: container.spec, database)
                else { return false }
                let revision = try Rows.raiseRevision(of: agent, database)
                try database.execute(
                    "UPDATE container SET agent_id = ?, changed_revision = ?, placement = NULL WHERE id = ?",
                    [agent.text, revision, container.id.text])
                return true
            }
        }
    }
}
