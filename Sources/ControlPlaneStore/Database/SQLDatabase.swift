/// A database that the store's statements run on. They are written once, in what SQLite and PostgreSQL share; where the two
/// differ, it is said here.
protocol SQLDatabase: Sendable {
    /// Sees one state of the whole database, whatever is written meanwhile.
    func read<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value

    /// All of it or nothing, as if nobody else wrote at the time; `body` may run more than once.
    func write<Value: Sendable>(
        _ durability: Durability, _ body: @escaping @Sendable (any SQLConnection) throws -> Value
    ) async throws -> Value

    /// One statement that is a transaction by itself and need not be on disk: counters.
    func single<Value: Sendable>(_ body: @escaping @Sendable (any SQLConnection) throws -> Value) async throws -> Value

    /// The same database by a way that no other request can hold up.
    var urgent: any SQLDatabase { get }

    /// Nil where finding out costs as much as reading.
    func version() -> StoreVersion?

    /// Names of the schema's steps that were taken, in their order.
    func migrations() async throws -> [String]

    /// Those that this version has, in their order.
    var steps: [String] { get }

    /// Takes the steps that are missing.
    ///
    /// - Throws: `StoreFailure.newerSchema` where a later version of this program has taken steps that are unknown here.
    func migrate() async throws
}

/// How a database is: equal numbers are equal content.
package struct StoreVersion: Hashable, Sendable {
    /// Another one whenever anybody has changed anything.
    package var all: Int
    /// Another one whenever anybody has changed anything that a token stands for.
    package var tokens: Int
}

extension SQLDatabase {
    /// - Throws: `StoreFailure` where other steps were taken than this version has.
    func requireAllSteps() async throws {
        let taken = try await migrations()
        if let step = Set(taken).subtracting(steps).max() { throw StoreFailure.newerSchema(step) }
        if let step = steps.first(where: { !taken.contains($0) }) { throw StoreFailure.olderSchema(step) }
    }

    func write<Value: Sendable>(
        _ body: @escaping @Sendable (any SQLConnection) throws -> Value
    ) async throws -> Value {
        try await write(.now, body)
    }
}

enum Durability: Sendable {
    /// On disk when the call returns.
    case now
    /// On disk with the next write that is: a power cut can cost the last ones, a crash of the program none.
    case soon
}

/// What went wrong with the database itself; the rest is a defect of a statement.
package enum StoreFailure: Error, CustomStringConvertible {
    /// It does not answer, or cannot write now: the same may work later.
    case unavailable(String)
    /// A later version of this program has changed its tables.
    case newerSchema(String)
    /// They have not been brought up to date.
    case olderSchema(String)

    package var description: String {
        switch self {
        case .unavailable(let reason): "the database is unavailable: \(reason)"
        case .newerSchema(let step):
            "the database was brought up to date by a later version of this program (step \"\(step)\"); use that version"
        case .olderSchema(let step):
            "the database is not up to date (step \"\(step)\" is missing); berth-server migrate takes it"
        }
    }
}

/// One connection within a transaction. Not to be kept beyond it; and an error is to be passed on, for with it the
/// transaction may be over.
protocol SQLConnection {
    /// Runs one statement; each `?` in it stands for the next argument.
    func run(_ sql: String, _ arguments: [any SQLArgument]) throws -> SQLResult

    /// Inserts one row into a table whose column `id` is a number that the database gives.
    ///
    /// - Returns: that number.
    func insert(_ sql: String, _ arguments: [any SQLArgument]) throws -> Int

    /// An expression: seconds since 1970 UTC by the database's own clock, the one that all its clients share.
    var clock: String { get }
}

extension SQLConnection {
    func rows(_ sql: String, _ arguments: [any SQLArgument] = []) throws -> [SQLRow] { try run(sql, arguments).rows }

    func row(_ sql: String, _ arguments: [any SQLArgument] = []) throws -> SQLRow? { try rows(sql, arguments).first }

    /// The first column of the first row; nil where there is none, or it is null.
    func value<Value: SQLReadable>(
        _ type: Value.Type, _ sql: String, _ arguments: [any SQLArgument] = []
    ) throws -> Value? {
        try row(sql, arguments)?.values.first.flatMap(Value.read)
    }

    /// The first column of each row.
    func values<Value: SQLReadable>(
        _ type: Value.Type, _ sql: String, _ arguments: [any SQLArgument] = []
    ) throws -> [Value] {
        try rows(sql, arguments).compactMap { $0.values.first.flatMap(Value.read) }
    }

    /// Whether the query gives a row.
    func exists(_ query: String, _ arguments: [any SQLArgument] = []) throws -> Bool {
        try value(Bool.self, "SELECT EXISTS (\(query))", arguments) ?? false
    }

    /// - Returns: how many rows it inserted, changed or deleted.
    @discardableResult
    func execute(_ sql: String, _ arguments: [any SQLArgument] = []) throws -> Int { try run(sql, arguments).changes }
}
