/// PostgreSQL through libpq. Transactions are serializable and are run again where others came between, so that the store's
/// statements mean the same as with SQLite's single writer.
struct PostgresDatabase: SQLDatabase {
    let library: PostgresLibrary
    let address: String
    private let pool: PostgresPool
    /// A few connections that no request of a user can use up: leases and notices go over them.
    private let reserve: PostgresPool
    /// Yields where nobody knows whether a transaction was committed: its answer was lost.
    let uncertainties: AsyncStream<Void>
    private let uncertain: AsyncStream<Void>.Continuation

    /// So often one transaction is run again, at most.
    private static let mostAttempts = 40

    /// - Parameter connections: at most so many at a time, beside one for notices.
    init(_ library: PostgresLibrary, _ address: String, connections: Int) {
        self.library = library
        self.address = address
        pool = PostgresPool(library, address, most: connections)
        reserve = PostgresPool(library, address, most: 2)
        (uncertainties, uncertain) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    private init(reserveOf other: PostgresDatabase) {
        (library, address, pool, reserve) = (other.library, other.address, other.reserve, other.reserve)
        (uncertainties, uncertain) = (other.uncertainties, other.uncertain)
    }

    var urgent: any SQLDatabase { PostgresDatabase(reserveOf: self) }

    func noticeChannel() -> any NoticeChannel { PostgresNoticeChannel(database: PostgresDatabase(reserveOf: self)) }

    func version() -> StoreVersion? { nil }

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
        try await untilItFits {
            try await pool.lend { connection in
                try await connection.perform { session in
                    do {
                        return try body(session)
                    } catch let failure as StoreFailure {
                        // Done twice at worst, and it is a counter.
                        throw session.isBroken ? NotBegun(failure: failure) : failure
                    }
                }
            }
        }
    }

    func transaction<Value: Sendable>(
        _ begin: String, _ body: @escaping @Sendable (any SQLConnection) throws -> Value
    ) async throws -> Value {
        try await untilItFits {
            try await pool.lend { connection in
                try await connection.perform { [uncertain] session in
                    do {
                        try session.execute(begin)
                    } catch let failure as StoreFailure {
                        // Nothing was asked yet: a server that was restarted is asked over a new connection.
                        throw session.isBroken ? NotBegun(failure: failure) : failure
                    }
                    do {
                        let value = try body(session)
                        do {
                            try session.commit()
                        } catch let failure as StoreFailure {
                            uncertain.yield()
                            throw failure
                        }
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

    private func untilItFits<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value {
        var attempt = 1
        var hasNewConnections = false
        while true {
            do {
                return try await body()
            } catch let error as PostgresError where error.isWorthRetrying && attempt < Self.mostAttempts {
                // Longer the more often, and never in step with the others.
                try await Task.sleep(for: .microseconds(Int.random(in: 0...(min(attempt, 20) * 2000))))
                attempt += 1
            } catch let error as NotBegun {
                guard !hasNewConnections else { throw error.failure }
                hasNewConnections = true
                await pool.forgetIdle()
            } catch let error as PostgresError where error.isWorthRetrying {
                throw StoreFailure.unavailable("\(error), \(attempt) times")
            }
        }
    }

    // MARK: schema

    /// Any number that no other program on the same database takes.
    private static let migrationLock = 4_253_401_960

    var steps: [String] { PostgresSchema.steps.map(\.name) }

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
                let known = PostgresSchema.steps.map(\.name)
                let taken = try Self.taken(session)
                if let step = Set(taken).subtracting(known).max() { throw StoreFailure.newerSchema(step) }
                // Who may only read and write rows can work on tables that are up to date.
                if Set(taken) == Set(known) { return }
                try Self.takeSteps(session)
            }
        }
    }

    @Sendable private static func takeSteps(_ session: PostgresSession) throws {
        // Several control planes may start at the same time: one takes the steps, the others wait for it.
        try session.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        defer { try? session.execute("SET statement_timeout = '30s'; SET lock_timeout = '10s'") }
        try session.execute("SELECT pg_advisory_lock(\(migrationLock))")
        defer { try? session.execute("SELECT pg_advisory_unlock(\(migrationLock))") }
        // A step that waits for a table makes everybody wait behind it.
        try session.execute("SET lock_timeout = '10s'")
        try session.execute(
            """
            CREATE TABLE IF NOT EXISTS berth_migration
                (number BIGINT GENERATED ALWAYS AS IDENTITY, name TEXT PRIMARY KEY)
            """)
        let taken = try Set(Self.taken(session))
        for step in PostgresSchema.steps where !taken.contains(step.name) {
            try session.execute("BEGIN")
            do {
                try session.execute(step.sql)
                _ = try session.run("INSERT INTO berth_migration (name) VALUES (?)", [.text(step.name)])
                try session.commit()
            } catch {
                try? session.execute("ROLLBACK")
                throw error
            }
        }
    }
}
