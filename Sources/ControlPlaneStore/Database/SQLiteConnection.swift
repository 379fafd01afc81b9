import GRDB
import GRDBSQLite

/// Statements of one transaction, which GRDB prepares and keeps. Values go in and come out by SQLite's own calls: the
/// library's ways, which fit any type, cost more than most statements do.
struct SQLiteConnection: SQLConnection {
    let database: Database

    var clock: String { "((julianday('now') - 2440587.5) * 86400.0)" }

    func run(_ sql: String, _ arguments: [any SQLArgument]) throws -> SQLResult {
        let statement = try database.cachedStatement(sql: sql).sqliteStatement
        // One that is under way would keep its transaction from ending, and what is bound may be a secret.
        defer {
            sqlite3_reset(statement)
            sqlite3_clear_bindings(statement)
        }
        guard sqlite3_bind_parameter_count(statement) == arguments.count else {
            throw DatabaseError(
                resultCode: .SQLITE_MISUSE, message: "\(arguments.count) arguments for another number of places",
                sql: sql)
        }
        for (index, argument) in arguments.enumerated() {
            let code = Self.bind(argument.sqlValue, to: statement, at: Int32(index + 1))
            guard code == SQLITE_OK else { throw error(code, sql) }
        }
        var result = SQLResult()
        var columns: [String: Int] = [:]
        while true {
            switch sqlite3_step(statement) {
            case SQLITE_ROW:
                // A statement is prepared anew by its first step where the tables have changed.
                if result.rows.isEmpty { columns = Self.columns(of: statement) }
                guard let values = Self.values(of: statement) else { throw error(SQLITE_NOMEM, sql) }
                result.rows.append(SQLRow(columns: columns, values: values))
            case SQLITE_DONE:
                result.changes = Int(sqlite3_changes(database.sqliteConnection))
                return result
            case let code: throw error(code, sql)
            }
        }
    }

    func insert(_ sql: String, _ arguments: [any SQLArgument]) throws -> Int {
        _ = try run(sql, arguments)
        return Int(sqlite3_last_insert_rowid(database.sqliteConnection))
    }

    /// Another one whenever somebody has changed the file, as of the last statement; nil where it cannot be had.
    var dataVersion: Int? {
        var version: UInt32 = 0
        let code = sqlite3_file_control(database.sqliteConnection, "main", SQLITE_FCNTL_DATA_VERSION, &version)
        return code == SQLITE_OK ? Int(version) : nil
    }

    private func error(_ code: CInt, _ sql: String) -> DatabaseError {
        DatabaseError(resultCode: ResultCode(rawValue: code), message: database.lastErrorMessage, sql: sql)
    }

    /// SQLite makes a copy of text, for it is gone by the time the statement runs.
    private static var copied: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

    private static func bind(_ value: SQLValue, to statement: OpaquePointer, at index: Int32) -> Int32 {
        switch value {
        case .null: sqlite3_bind_null(statement, index)
        case .integer(let number): sqlite3_bind_int64(statement, index, Int64(number))
        case .double(let number): sqlite3_bind_double(statement, index, number)
        case .bool(let bool): sqlite3_bind_int64(statement, index, bool ? 1 : 0)
        case .text(let text): sqlite3_bind_text(statement, index, text, Int32(text.utf8.count), copied)
        }
    }

    private static func columns(of statement: OpaquePointer) -> [String: Int] {
        var columns: [String: Int] = [:]
        for index in 0..<sqlite3_column_count(statement) {
            guard let name = sqlite3_column_name(statement, index) else { continue }
            columns[String(cString: name)] = Int(index)
        }
        return columns
    }

    /// Nil where there is no memory for a text.
    private static func values(of statement: OpaquePointer) -> [SQLValue]? {
        var values: [SQLValue] = []
        for index in 0..<sqlite3_column_count(statement) {
            switch sqlite3_column_type(statement, index) {
            case SQLITE_INTEGER: values.append(.integer(Int(sqlite3_column_int64(statement, index))))
            case SQLITE_FLOAT: values.append(.double(sqlite3_column_double(statement, index)))
            case SQLITE_TEXT:
                guard let bytes = sqlite3_column_text(statement, index) else { return nil }
                let text = UnsafeBufferPointer(start: bytes, count: Int(sqlite3_column_bytes(statement, index)))
                values.append(.text(String(decoding: text, as: UTF8.self)))
            // No column holds bytes that are not text.
            default: values.append(.null)
            }
        }
        return values
    }
}
