package import BerthModel

/// What agents say that they did and saw: bounded, and each record once however often it was sent.
extension Store {
    /// Records of one container that are kept.
    package static let historyLimit = 200

    /// Keeps records of containers that this agent runs; of others it may not speak.
    ///
    /// - Parameter epoch: of the session that they came over; nil takes any.
    package func keep(
        _ records: [ActionRecord], from agent: AgentID, epoch: Int? = nil, process: String
    ) async throws {
        try await database.write { database in
            guard try Rows.isCurrent(epoch, of: agent, database) else { return }
            var touched: Set<String> = []
            for record in records {
                try database.execute(
                    """
                    INSERT INTO action (agent_id, process, number, container_id, record)
                    SELECT ?, ?, ?, id, ? FROM container WHERE id = ? AND agent_id = ?
                    ON CONFLICT (agent_id, process, number) DO NOTHING
                    """,
                    [
                        agent.text, process, record.number, try Rows.json(record), record.workload.text, agent.text,
                    ])
                touched.insert(record.workload.text)
            }
            for container in touched {
                try database.execute(
                    """
                    DELETE FROM action WHERE container_id = ? AND id NOT IN
                        (SELECT id FROM action WHERE container_id = ? ORDER BY id DESC LIMIT ?)
                    """, [container, container, Self.historyLimit])
            }
        }
    }

    /// Newest first.
    package func history(of container: WorkloadID, limit: Int) async throws -> [ActionRecord] {
        try await database.read { database in
            try database.values(
                String.self, "SELECT record FROM action WHERE container_id = ? ORDER BY id DESC LIMIT ?",
                [container.text, min(limit, Self.historyLimit)]
            ).compactMap { try? Rows.value($0) }
        }
    }

    /// A person has looked: the agent may connect again.
    package func unfreeze(_ agent: AgentID) async throws {
        _ = try await database.write { database in
            try database.execute("UPDATE agent SET frozen_at = NULL WHERE id = ?", [agent.text])
        }
    }

    /// Two processes use this agent's identity: none of them is spoken to before a person has registered one of them anew.
    package func freeze(_ agent: AgentID, now: Double) async throws {
        _ = try await database.write { database in
            try database.execute(
                "UPDATE agent SET frozen_at = ? WHERE id = ? AND frozen_at IS NULL", [now, agent.text])
        }
    }
}
