import Synchronization

/// The record of the request that is being worked on. A change of a container takes it along in its own transaction: the two
/// are on disk together, and cost one wait for it.
package final class AuditNote: Sendable {
    @TaskLocal package static var current: AuditNote?

    private struct State {
        var record: AuditRecord
        var number: Int?
    }

    private let state: Mutex<State>

    package init(_ record: AuditRecord) { state = Mutex(State(record: record)) }

    /// With the status that is expected.
    package var record: AuditRecord { state.withLock { $0.record } }

    /// What the request has made: its route names nothing.
    package func concerns(_ object: String) { state.withLock { $0.record.object = object } }

    /// Of the row; nil where no change has taken it along.
    fileprivate var number: Int? { state.withLock { $0.number } }

    fileprivate func isStored(as number: Int) { state.withLock { $0.number = number } }
}

extension Store {
    /// A transaction that may make a change that somebody asked for; `remember` is called where it does.
    ///
    /// - Parameter made: id of what the change makes; nil where the route names what it changes.
    func changing<Value: Sendable>(
        making made: String? = nil,
        _ body: @escaping @Sendable (any SQLConnection, _ remember: () throws -> Void) throws -> Value
    ) async throws -> Value {
        // Not seen from the queues on which the database works.
        let note = AuditNote.current.flatMap { $0.number == nil ? $0 : nil }
        let (value, number) = try await database.write { database in
            var number: Int?
            let value = try body(database) {
                guard var record = note?.record else { return }
                record.object = record.object ?? made
                number = try Self.insert(record, database)
            }
            return (value, number)
        }
        // Only what is committed is there.
        if let number { note?.isStored(as: number) }
        return value
    }

    /// What came of the request of `note`. Where no change took it along it is durable with the next change that is: a power
    /// cut can cost the last ones, a crash of the program none. A refusal must not cost a wait for the disk.
    package func keep(_ note: AuditNote, status: Int) async throws {
        if note.number != nil, status == note.record.status { return }
        _ = try await database.write(.soon) { database in
            if let number = note.number {
                try database.execute("UPDATE audit SET status = ? WHERE id = ?", [status, number])
            } else {
                var record = note.record
                record.status = status
                _ = try Self.insert(record, database)
            }
        }
    }

    /// Of what was done beside the API.
    package func keep(_ record: AuditRecord) async throws {
        _ = try await database.write { try Self.insert(record, $0) }
    }

    /// - Returns: its number.
    private static func insert(_ record: AuditRecord, _ database: any SQLConnection) throws -> Int {
        try database.insert(
            """
            INSERT INTO audit (at, user_id, user_name, token_id, address, action, object, status)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                record.at, record.userID, record.userName, record.tokenID, record.address, record.action,
                record.object, record.status,
            ])
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

    /// All but the newest record: by its number the next one has a higher one.
    ///
    /// - Returns: how many were removed.
    package func forgetAudit(before moment: Double, now: Double) async throws -> Int {
        try await database.write { database in
            let newest = try database.value(Int.self, "SELECT MAX(id) FROM audit") ?? 0
            // Looks no further than the first that is kept.
            guard
                let kept = try database.value(
                    // A clock that was wrong once must not keep all that came after.
                    Int.self, "SELECT id FROM audit WHERE at >= ? AND at <= ? ORDER BY id LIMIT 1",
                    [moment, now + 86_400])
            else { return try database.execute("DELETE FROM audit WHERE id < ? AND at < ?", [newest, moment]) }
            return try database.execute("DELETE FROM audit WHERE id < ? AND at < ?", [kept, moment])
        }
    }
}
