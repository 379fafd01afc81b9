import GRDB

/// SQLite in one file, through GRDB: one writer, as many readers as like.
final class SQLiteDatabase: SQLDatabase {
    let pool: DatabasePool
    /// Only looks whether others have committed, which are all but itself.
    private let watcher: DatabaseQueue

    /// Opens or creates the file.
    init(path: String) throws {
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        configuration.foreignKeysEnabled = true
        pool = try DatabasePool(path: path, configuration: configuration)
        // The pool sets NORMAL on its writer after opening it; a 202 must mean that the row is on disk.
        try pool.barrierWriteWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
        }
        var watching = Configuration()
        watching.busyMode = .timeout(10)
        watcher = try DatabaseQueue(path: path, configuration: watching)
    }

    func read<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value {
        try await Self.naming { try readHere(body) }
    }

    /// On the caller's own thread: reading waits for no writer, and two changes of threads cost more than most reads.
    private func readHere<Value>(_ body: (any SQLConnection) throws -> Value) throws -> Value {
        try pool.read { try body(SQLiteConnection(database: $0)) }
    }

    func write<Value: Sendable>(
        _ durability: Durability, _ body: @escaping @Sendable (any SQLConnection) throws -> Value
    ) async throws -> Value {
        try await Self.naming {
            // Not by the pool's own `await`, which gives up with its task: what was begun is done.
            try await withCheckedThrowingContinuation { (done: CheckedContinuation<Value, any Error>) in
                pool.asyncWriteWithoutTransaction { database in
                    done.resume(with: Result { try Self.transaction(durability, database, body) })
                }
            }
        }
    }

    private static func transaction<Value>(
        _ durability: Durability, _ database: Database, _ body: (any SQLConnection) throws -> Value
    ) throws -> Value {
        if durability == .soon { try database.execute(sql: "PRAGMA synchronous = NORMAL") }
        defer { if durability == .soon { try? database.execute(sql: "PRAGMA synchronous = FULL") } }
        let connection = SQLiteConnection(database: database)
        // Prepared once; the library's own transactions prepare theirs each time.
        try connection.execute("BEGIN IMMEDIATE")
        do {
            let value = try body(connection)
            try connection.execute("COMMIT")
            return value
        } catch {
            // SQLite itself ends what a full disk has cut short. What went wrong first is what is told.
            if database.isInsideTransaction { _ = try? connection.execute("ROLLBACK") }
            throw error
        }
    }

    func single<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
    {
        try await write(.soon, body)
    }

    var urgent: any SQLDatabase { self }

    func version() -> StoreVersion? {
        try? watcher.unsafeRead { database in
            let connection = SQLiteConnection(database: database)
            guard let tokens = try connection.value(Int.self, "SELECT number FROM token_version") else { return nil }
            // As that statement has seen the file.
            return connection.dataVersion.map { StoreVersion(all: $0, tokens: tokens) }
        }
    }

    var steps: [String] { SQLiteSchema.migrator.migrations }

    func migrations() async throws -> [String] {
        try await pool.read { database in
            let known = try SQLiteSchema.migrator.appliedMigrations(database)
            // Those of a later version come last.
            return known + (try SQLiteSchema.migrator.appliedIdentifiers(database).subtracting(steps)).sorted()
        }
    }

    func migrate() async throws {
        if let step = Set(try await migrations()).subtracting(steps).max() { throw StoreFailure.newerSchema(step) }
        try SQLiteSchema.migrator.migrate(pool)
        // They know the tables as they were.
        pool.invalidateReadOnlyConnections()
    }

    /// A consistent copy, while others read and write.
    ///
    /// - Parameter path: of a file that is not there yet.
    func backUp(to path: String) throws {
        let copy = try DatabaseQueue(path: path)
        try pool.backup(to: copy)
        // The copy is one file: without it, what opens it would make two more beside it.
        try copy.writeWithoutTransaction { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
        try copy.close()
    }

    /// A disk that is full or a file that is locked is no defect of a statement.
    private static func naming<Value: Sendable>(_ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch let error as DatabaseError {
            switch error.resultCode {
            case .SQLITE_FULL, .SQLITE_IOERR, .SQLITE_BUSY, .SQLITE_CANTOPEN, .SQLITE_READONLY, .SQLITE_NOMEM:
                throw StoreFailure.unavailable(error.message ?? "\(error.resultCode)")
            default: throw error
            }
        }
    }
}
