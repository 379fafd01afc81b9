/// What a database holds in one place, whichever database it is.
enum SQLValue: Hashable, Sendable {
    case null
    case integer(Int)
    case double(Double)
    case text(String)
    /// SQLite keeps it as 0 or 1.
    case bool(Bool)
}

/// What can stand for a `?` of a statement.
protocol SQLArgument: Sendable { var sqlValue: SQLValue { get } }

/// What can be read from a row.
protocol SQLReadable { static func read(_ value: SQLValue) -> Self? }

extension String: SQLArgument, SQLReadable {
    var sqlValue: SQLValue { .text(self) }
    static func read(_ value: SQLValue) -> String? { if case .text(let text) = value { text } else { nil } }
}

extension Int: SQLArgument, SQLReadable {
    var sqlValue: SQLValue { .integer(self) }
    static func read(_ value: SQLValue) -> Int? { if case .integer(let number) = value { number } else { nil } }
}

extension Double: SQLArgument, SQLReadable {
    var sqlValue: SQLValue { .double(self) }
    static func read(_ value: SQLValue) -> Double? {
        switch value {
        case .double(let number): number
        case .integer(let number): Double(number)
        default: nil
        }
    }
}

extension Bool: SQLArgument, SQLReadable {
    var sqlValue: SQLValue { .bool(self) }
    static func read(_ value: SQLValue) -> Bool? {
        switch value {
        case .bool(let bool): bool
        case .integer(let number): number != 0
        default: nil
        }
    }
}

extension Optional: SQLArgument where Wrapped: SQLArgument {
    // Without a key path, which for a generic type is made anew each time.
    var sqlValue: SQLValue { map { $0.sqlValue } ?? .null }
}

/// One row of a result.
struct SQLRow: Sendable {
    let columns: [String: Int]
    let values: [SQLValue]

    /// - Precondition: the column is there and holds a value of this type: the tables say so.
    subscript<Value: SQLReadable>(_ column: String) -> Value {
        guard let index = columns[column], let value = Value.read(values[index]) else {
            preconditionFailure("the column \(column) is missing, or of another type")
        }
        return value
    }

    /// - Precondition: the column is there.
    subscript<Value: SQLReadable>(_ column: String) -> Value? {
        guard let index = columns[column] else { preconditionFailure("the column \(column) is missing") }
        return Value.read(values[index])
    }
}

/// What a statement gave.
struct SQLResult: Sendable {
    var rows: [SQLRow] = []
    /// Rows that it inserted, changed or deleted.
    var changes = 0
}
