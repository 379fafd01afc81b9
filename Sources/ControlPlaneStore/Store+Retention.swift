package import BerthModel

/// What time does to containers: sessions end, and what was deleted is forgotten.
extension Store {
    /// Most rows that one round takes: a round must not hold up those who wait for the store.
    package static let roundOfHousekeeping = 500

    /// Containers of one host whose data is on its way out at the same time: an agent asks back above this.
    package static let mostPurgesAtOnce = 10

    /// Running containers whose session is over, soonest first.
    package func expired(at now: Double) async throws -> [ContainerRecord] {
        try await database.read { database in
            let rows = try database.rows(
                """
                SELECT * FROM container
                WHERE expires_at IS NOT NULL AND deleted_at IS NULL AND expires_at <= ? AND wish = 'running'
                ORDER BY expires_at LIMIT ?
                """, [now, Self.roundOfHousekeeping])
            return Rows.readable(rows)
        }
    }

    /// The next moment at which time has something to do; nil where nothing is in sight.
    ///
    /// - Parameter retention: seconds that what was deleted is kept.
    package func nextMoment(after now: Double, retention: Double) async throws -> Double? {
        try await database.read { database in
            let expiry = try database.value(
                Double.self,
                """
                SELECT MIN(expires_at) FROM container
                WHERE expires_at IS NOT NULL AND deleted_at IS NULL AND expires_at > ? AND wish = 'running'
                """, [now])
            let deletion = try database.value(
                Double.self,
                """
                SELECT MIN(deleted_at) FROM container
                WHERE deleted_at IS NOT NULL AND purged_at IS NULL AND purges = FALSE AND deleted_at > ?
                """, [now - retention])
            return [expiry, deletion.map { $0 + retention }].compactMap { $0 }.min()
        }
    }

    /// Lets go of the data of what was deleted before `moment`: from here on there is no way back. What never had a host
    /// has no data; what is on a host that is no longer known stays there.
    ///
    /// - Returns: the hosts that have something to do for it, and whether there is more than one round takes.
    package func beginPurges(
        deletedBefore moment: Double, now: Double
    ) async throws -> (agents: Set<AgentID>, hasMore: Bool) {
        // Most rounds find nothing, and need not wait for the disk.
        let isDue = try await database.read { database in
            try database.exists(
                "SELECT 1 FROM container WHERE deleted_at <= ? AND purged_at IS NULL AND NOT purges", [moment])
        }
        guard isDue else { return ([], false) }
        return try await database.write { database in
            let unreachable = try database.rows(
                """
                SELECT * FROM container
                WHERE deleted_at <= ? AND purged_at IS NULL AND purges = FALSE
                    AND (agent_id IS NULL OR agent_id IN (SELECT id FROM agent WHERE deleted_at IS NOT NULL))
                ORDER BY deleted_at LIMIT ?
                """, [moment, Self.roundOfHousekeeping])
            for row in unreachable {
                let bare = try? Rows.container(row).desired.spec.rowText
                try database.execute(
                    "UPDATE container SET purges = TRUE, purged_at = ?, spec = COALESCE(?, spec) WHERE id = ?",
                    [now, bare, row["id"] as String])
            }
            let rows = try database.rows(
                """
                SELECT container.id AS id, agent_id FROM container JOIN agent ON agent.id = agent_id
                WHERE container.deleted_at <= ? AND purged_at IS NULL AND purges = FALSE AND agent.deleted_at IS NULL
                ORDER BY container.deleted_at LIMIT ?
                """, [moment, Self.roundOfHousekeeping])
            var agents: Set<AgentID> = []
            var underWay: [AgentID: Int] = [:]
            var hasMore = max(rows.count, unreachable.count) == Self.roundOfHousekeeping
            for row in rows {
                let agent = AgentID(validated: row["agent_id"])
                let count =
                    try underWay[agent] ?? database.value(
                        Int.self,
                        "SELECT COUNT(*) FROM container WHERE agent_id = ? AND purges = TRUE AND purged_at IS NULL",
                        [agent.text]) ?? 0
                guard count < Self.mostPurgesAtOnce else {
                    hasMore = true
                    continue
                }
                underWay[agent] = count + 1
                agents.insert(agent)
                let revision = try Rows.raiseRevision(of: agent, database)
                try database.execute(
                    """
                    UPDATE container SET purges = TRUE, generation = generation + 1, changed_revision = ?,
                        removed_at = NULL WHERE id = ?
                    """, [revision, row["id"] as String])
            }
            return (agents, hasMore)
        }
    }

    /// Removes the rows of containers of which nothing is left. Until then they are the tombstones for a host that comes back
    /// with an older state.
    ///
    /// - Returns: how many were removed.
    package func forgetContainers(purgedBefore moment: Double) async throws -> Int {
        let ids = try await database.read { database in
            try database.values(
                String.self, "SELECT id FROM container WHERE purged_at <= ? ORDER BY purged_at LIMIT ?",
                [moment, Self.roundOfHousekeeping])
        }
        guard !ids.isEmpty else { return 0 }
        return try await database.write { database in
            for id in ids {
                try database.execute("DELETE FROM action WHERE container_id = ?", [id])
                try database.execute("DELETE FROM container WHERE id = ?", [id])
            }
            return ids.count
        }
    }

    /// Deleted, and not yet gone; newest deletion first, at most 200.
    package func deletedContainers(of user: String) async throws -> [ContainerRecord] {
        try await database.read { database in
            try database.rows(
                """
                SELECT * FROM container WHERE user_id = ? AND deleted_at IS NOT NULL AND purges = FALSE
                ORDER BY deleted_at DESC, id DESC LIMIT 200
                """, [user]
            ).map(Rows.container)
        }
    }

    package enum Restoration: Hashable, Sendable {
        case restored(ContainerRecord)
        /// Never there, another user's, not deleted, or its data is gone.
        case notFound
        case nameTaken
        case limitReached(current: Int)
        /// Its host was deleted, and its data is there.
        case hostIsGone
    }

    /// Undoes a deletion, in one transaction with the checks that a creation makes.
    ///
    /// - Parameter text: database id, Docker id, or a prefix of at least 12 characters of either.
    package func restore(_ text: String, of user: String, limit: Int, now: Double) async throws -> Restoration {
        guard WorkloadID(text) != nil else { return .notFound }
        return try await changing { database, remember in
            let rows = try database.rows(
                """
                SELECT * FROM container WHERE user_id = ? AND deleted_at IS NOT NULL AND purges = FALSE
                    AND \(Self.isNamed) LIMIT 2
                """, [user] + Self.isNamed(text))
            guard let row = rows.first, rows.count == 1 else { return .notFound }
            var container = try Rows.container(row)
            let names = try database.values(
                String.self, "SELECT name FROM container WHERE user_id = ? AND deleted_at IS NULL", [user])
            if names.contains(container.spec.name) { return .nameTaken }
            if names.count >= limit { return .limitReached(current: names.count) }
            if let agent = container.agent {
                let isThere = try database.exists(
                    "SELECT 1 FROM agent WHERE id = ? AND deleted_at IS NULL", [agent.text])
                guard isThere else { return .hostIsGone }
            }
            container.deletedAt = nil
            // Whose session is over comes back stopped: a start would be refused too.
            container.wish = container.spec.expiresAt.map { $0 <= now } == true ? .stopped : .running
            container.generation += 1
            container.lastUsedAt = now
            let revision = try Rows.raiseRevision(of: container.agent, database)
            try database.execute(
                """
                UPDATE container SET deleted_at = NULL, removed_at = NULL, idempotency_key = NULL, wish = ?, generation = ?,
                    changed_revision = ?, last_used_at = ? WHERE id = ?
                """, [container.wish.rawValue, container.generation, revision, now, container.id.text])
            try remember()
            return .restored(container)
        }
    }
}
