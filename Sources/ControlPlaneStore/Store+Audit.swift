extension Store {
    /// Durable with the next change that is: a power cut can cost the last ones, a crash of the program none. It must not
    /// double what a change costs.
    package func keep(_ record: AuditRecord) async throws {
        _ = try await database.write(.soon) { database in
            try database.execute(
                """
                INSERT INTO audit (at, user_id, user_name, token_id, address, action, object, status)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    record.at, record.userID, record.userName, record.tokenID, record.address, record.action,
                    record.object, record.status,
                ])
        }
    }

    /// Newest first.
    ///
    /// - Parameters:
    ///   - before: only those with a lower number.
    ///   - user: only what this user did, by id or name.
    package func audit(before: Int, user: String?, limit: Int) async throws -> [AuditRecord] {
        try await database.read { database in
            try database.rows(
                """
                SELECT * FROM audit WHERE id < ? AND \(user == nil ? "TRUE" : "? IN (user_id, user_name)")
                ORDER BY id DESC LIMIT ?
                """, user.map { [before, $0, limit] } ?? [before, limit]
            ).map { row in
                AuditRecord(
                    number: row["id"], at: row["at"], userID: row["user_id"], userName: row["user_name"],
                    tokenID: row["token_id"], address: row["address"], action: row["action"], object: row["object"],
                    status: row["status"])
            }
        }
    }

    /// - Returns: how many were removed.
    package func forgetAudit(before moment: Double) async throws -> Int {
        try await database.write { database in
            try database.execute("DELETE FROM audit WHERE at < ?", [moment])
        }
    }
}
