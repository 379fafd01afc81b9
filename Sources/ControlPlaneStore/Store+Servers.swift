package import BerthModel
package import ControlPlaneCore

/// Several control planes on one database: who is there, and with whom each agent has its session. Times are of the
/// database's clock, the one that they share.
extension Store {
    /// Says that `server` is there, for so many seconds.
    ///
    /// - Returns: false where its time was over before: others may have taken it for dead.
    package func renewLease(of server: String, seconds: Double) async throws -> Bool {
        try await database.urgent.write(.soon) { database in
            let clock = database.clock
            let held = try database.execute(
                "UPDATE server SET lease_until = \(clock) + ? WHERE id = ? AND lease_until > \(clock)",
                [seconds, server])
            guard held == 0 else { return true }
            try database.execute(
                """
                INSERT INTO server (id, lease_until) VALUES (?, \(clock) + ?)
                ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until
                """, [server, seconds])
            return false
        }
    }

    /// Who is there now.
    package func servers() async throws -> Set<String> {
        try await database.urgent.read { database in
            Set(try database.values(String.self, "SELECT id FROM server WHERE lease_until > \(database.clock)"))
        }
    }

    /// It leaves, and its sessions with it; those that have ended a day ago are forgotten.
    package func endLease(of server: String) async throws {
        try await database.urgent.write(.soon) { database in
            try database.execute("UPDATE agent SET server_id = NULL WHERE server_id = ?", [server])
            try database.execute(
                "DELETE FROM server WHERE id = ? OR lease_until < \(database.clock) - 86400", [server])
        }
    }

    /// Agents that are connected to a control plane that is there.
    package func presences() async throws -> [AgentPresence] {
        try await database.read { database in
            try database.rows(
                """
                SELECT agent.id AS id, user_id, name, epoch, server_id FROM agent JOIN server ON server.id = server_id
                WHERE deleted_at IS NULL AND lease_until > \(database.clock)
                """
            ).map { row in
                AgentPresence(
                    agent: AgentID(validated: row["id"]), owner: row["user_id"], name: row["name"],
                    epoch: row["epoch"], server: row["server_id"])
            }
        }
    }

    /// Agents that were deleted while they had a session with `server`.
    package func deletedAgents(with server: String) async throws -> [AgentID] {
        try await database.read { database in
            try database.values(
                String.self, "SELECT id FROM agent WHERE server_id = ? AND deleted_at IS NOT NULL", [server]
            ).map { AgentID(validated: $0) }
        }
    }

    /// The session of this epoch is over; a newer one is not touched.
    package func closeSession(_ agent: AgentID, epoch: Int, now: Double) async throws {
        try await database.write(.soon) { database in
            try database.execute("UPDATE agent SET last_seen_at = ? WHERE id = ?", [now, agent.text])
            try database.execute(
                "UPDATE agent SET server_id = NULL WHERE id = ? AND epoch = ?", [agent.text, epoch])
        }
    }

    /// Counts one request in a window that all control planes share.
    ///
    /// - Returns: the window with this request in it; a count above `limit` means that the request is one too many.
    package func countRequest(
        _ class: RateLimit.Class, by who: String, limit: Int
    ) async throws -> (window: RateLimit.Window, now: Double) {
        try await database.single { database in
            let clock = database.clock
            let isOver = "request_window.start + \(RateLimit.windowSeconds) <= excluded.start"
            let row = try database.row(
                """
                INSERT INTO request_window (who, class, start, count) VALUES (?, ?, \(clock), 1)
                ON CONFLICT (who, class) DO UPDATE SET
                    start = CASE WHEN \(isOver) THEN excluded.start ELSE request_window.start END,
                    count = CASE WHEN \(isOver) THEN 1 WHEN request_window.count > ? THEN request_window.count
                        ELSE request_window.count + 1 END
                RETURNING start, count, \(clock) AS now
                """, [who, `class`.rawValue, limit])
            guard let row else { throw StoreFailure.unavailable("the window of requests was not counted") }
            return (RateLimit.Window(start: row["start"], count: row["count"]), row["now"])
        }
    }

    package func forgetRequestWindows() async throws {
        _ = try await database.single { database in
            try database.execute(
                "DELETE FROM request_window WHERE start < \(database.clock) - \(RateLimit.windowSeconds)")
        }
    }
}
