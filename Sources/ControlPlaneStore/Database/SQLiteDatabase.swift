import GRDB
import Synchronization

/// SQLite in one file, through GRDB: one writer, as many readers as like.
final class SQLiteDatabase: SQLDatabase {
    let pool: DatabasePool
    /// Only looks whether others have committed, which are all but itself.
    private let watcher: DatabaseQueue
    /// What the watcher saw last.
    private let seen = Mutex<StoreVersion?>(nil)

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
            switch durability {
            case .now: try await pool.write { try body(SQLiteConnection(database: $0)) }
            case .soon:
                try await pool.writeWithoutTransaction { database in
                    try database.execute(sql: "PRAGMA synchronous = NORMAL")
                    defer { try? database.execute(sql: "PRAGMA synchronous = FULL") }
                    var value: Value?
                    try database.inTransaction {
                        value = try body(SQLiteConnection(database: database))
                        return .commit
                    }
                    guard let value else { throw StoreFailure.unavailable("the transaction did not run") }
                    return value
                }
            }
        }
    }

    func single<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value
    {
        try await write(.soon, body)
    }

    var urgent: any SQLDatabase { self }

    func version() -> StoreVersion? {
        try? watcher.unsafeRead { database in
            guard let all = try Int.fetchOne(try database.cachedStatement(sql: "PRAGMA data_version")) else {
                return nil
            }
            return try seen.withLock { seen in
                if let seen, seen.all == all { return seen }
                // Read afterwards: at worst it is newer than what it is remembered for.
                let tokens = try Int.fetchOne(try database.cachedStatement(sql: "SELECT number FROM token_version"))
                seen = tokens.map { StoreVersion(all: all, tokens: $0) }
                return seen
            }
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

private struct SQLiteConnection: SQLConnection {
    let database: Database

    var clock: String { "((julianday('now') - 2440587.5) * 86400.0)" }

    func run(_ sql: String, _ arguments: [any SQLArgument]) throws -> SQLResult {
        let statement = try database.cachedStatement(sql: sql)
        let arguments = StatementArguments(arguments.map { Self.stored($0.sqlValue) })
        guard statement.columnCount > 0 else {
            try statement.execute(arguments: arguments)
            return SQLResult(changes: database.changesCount)
        }
        var columns: [String: Int] = [:]
        for (index, name) in statement.columnNames.enumerated() { columns[name] = index }
        let cursor = try Row.fetchCursor(statement, arguments: arguments)
        var result = SQLResult()
        while let row = try cursor.next() {
            result.rows.append(SQLRow(columns: columns, values: row.databaseValues.map(Self.read)))
        }
        return result
    }

    private static func stored(_ value: SQLValue) -> DatabaseValue {
        switch value {
        case .null: .null
        case .integer(let number): number.databaseValue
        case .double(let number): number.databaseValue
        case .text(let text): text.databaseValue
        case .bool(let bool): bool.databaseValue
        }
    }

    private static func read(_ value: DatabaseValue) -> SQLValue {
        switch value.storage {
        case .null, .blob: .null
        case .int64(let number): .integer(Int(number))
        case .double(let number): .double(number)
        case .string(let text): .text(text)
        }
    }
}
