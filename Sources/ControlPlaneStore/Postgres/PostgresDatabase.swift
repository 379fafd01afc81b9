/// PostgreSQL through libpq. Transactions are serializable and are run again where others came between, so that the store's
/// statements mean the same as with SQLite's single writer.
struct PostgresDatabase: SQLDatabase {
    let library: PostgresLibrary
    let address: String
    let pool: PostgresPool

    /// So often one transaction is run again, at most.
    private static let mostAttempts = 40

    /// - Parameter connections: at most so many at a time, beside one for notices.
    init(_ library: PostgresLibrary, _ address: String, connections: Int) {
        self.library = library
        self.address = address
        pool = PostgresPool(library, address, most: connections)
    }

    /// - Throws: what is wrong with an address, without asking anybody.
    static func check(_ address: String) throws {
        let library = try PostgresLibrary.shared.get()
        var problem: UnsafeMutablePointer<CChar>?
        let options = library.parse(address, &problem)
        defer {
            library.freeOptions(options)
            library.free(problem)
        }
        guard options == nil else { return }
        throw StoreFailure.unavailable(problem.map { String(cString: $0) } ?? "the address cannot be read")
    }

    func noticeChannel() -> any NoticeChannel { PostgresNoticeChannel(database: self) }

    func read<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value {
        try await transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", body)
    }

    func write<Value: Sendable>(
        _ durability: Durability, _ body: @escaping @Sendable (any SQLConnection) throws -> Value
    ) async throws -> Value {
        try await transaction(
            "BEGIN ISOLATION LEVEL SERIALIZABLE" + (durability == .soon ? "; SET LOCAL synchronous_commit = off" : ""),
            body)
    }

    func single<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
    {
        try await again { try await pool.lend { connection in try await connection.perform { try body($0) } } }
    }

    func transaction<Value: Sendable>(
        _ begin: String, _ body: @escaping @Sendable (any SQLConnection) throws -> Value
    ) async throws -> Value {
        try await again {
            try await pool.lend { connection in
                try await connection.perform { session in
                    do {
                        try session.execute(begin)
                    } catch let failure as StoreFailure {
                        // Nothing was asked yet: a server that was restarted is asked over a new connection.
                        throw session.isBroken ? NotBegun(failure: failure) : failure
                    }
                    do {
                        let value = try body(session)
                        try session.execute("COMMIT")
                        return value
                    } catch {
                        if !session.isIdle { try? session.execute("ROLLBACK") }
                        throw error
                    }
                }
            }
        }
    }

    private struct NotBegun: Error { var failure: StoreFailure }

    private func again<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value {
        var attempt = 1
        var isFresh = false
        while true {
            do {
                return try await body()
            } catch let error as PostgresError where error.isWorthRetrying && attempt < Self.mostAttempts {
                // Longer the more often, and never in step with the others.
                try await Task.sleep(for: .microseconds(Int.random(in: 0...(min(attempt, 20) * 2000))))
                attempt += 1
            } catch let error as NotBegun {
                guard !isFresh else { throw error.failure }
                isFresh = true
                await pool.forgetIdle()
            } catch let error as PostgresError where error.isWorthRetrying {
                throw StoreFailure.unavailable("\(error), \(attempt) times")
            }
        }
    }

    // MARK: schema

    /// Any number that no other program on the same database takes.
    private static let migrationLock = 4_253_401_960

    func migrations() async throws -> [String] {
        try await pool.lend { connection in try await connection.perform(Self.taken) }
    }

    @Sendable private static func taken(_ session: PostgresSession) throws -> [String] {
        guard try session.value(Bool.self, "SELECT to_regclass('berth_migration') IS NOT NULL") == true else {
            return []
        }
        return try session.values(String.self, "SELECT name FROM berth_migration ORDER BY number")
    }

    func migrate() async throws {
        try await pool.lend { connection in
            try await connection.perform { session in
                // Several control planes may start at the same time: one takes the steps, the others wait for it.
                try session.execute("SET statement_timeout = 0; SET lock_timeout = 0")
                defer { try? session.execute("SET statement_timeout = '30s'; SET lock_timeout = '10s'") }
                try session.execute("SELECT pg_advisory_lock(\(Self.migrationLock))")
                defer { try? session.execute("SELECT pg_advisory_unlock(\(Self.migrationLock))") }
                try session.execute(
                    """
                    CREATE TABLE IF NOT EXISTS berth_migration
                        (number BIGINT GENERATED ALWAYS AS IDENTITY, name TEXT PRIMARY KEY)
                    """)
                let taken = try Set(Self.taken(session))
                if let step = taken.subtracting(PostgresSchema.steps.map(\.name)).max() {
                    throw StoreFailure.newerSchema(step)
                }
                for step in PostgresSchema.steps where !taken.contains(step.name) {
                    try session.execute("BEGIN")
                    do {
                        try session.execute(step.sql)
                        _ = try session.run("INSERT INTO berth_migration (name) VALUES (?)", [.text(step.name)])
                        try session.execute("COMMIT")
                    } catch {
                        try? session.execute("ROLLBACK")
                        throw error
                    }
                }
            }
        }
    }
}
