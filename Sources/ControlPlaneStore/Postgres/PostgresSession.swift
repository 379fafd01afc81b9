import Glibc

/// An error of PostgreSQL: its five characters of SQLSTATE, and its text.
struct PostgresError: Error, CustomStringConvertible {
    var state: String
    var message: String

    var description: String { "\(message) (SQLSTATE \(state))" }

    /// Somebody else's transaction came between: the same transaction may succeed when it is run again. One that finds a
    /// name taken behind its own check is of this kind too: the next time the check finds it.
    var isWorthRetrying: Bool { ["40001", "40P01", "23505"].contains(state) }

    /// The server is not able to do it now: shut down, out of connections, of memory or disk, read-only, or it gave up on time.
    var isUnavailability: Bool {
        ["08", "53", "57", "58"].contains(state.prefix(2)) || ["25006", "55P03", "3D000", "28P01"].contains(state)
    }
}

/// libpq's calls on one connection. They wait, so they are made on the connection's own queue and nowhere else.
final class PostgresSession {
    let library: PostgresLibrary
    let handle: PostgresLibrary.Handle

    /// What libpq is told unless the address says otherwise: a server that is gone is noticed within 20 seconds or so.
    private static let defaults = [
        "application_name": "berth-server", "connect_timeout": "5", "keepalives_idle": "10", "keepalives_interval": "3",
        "keepalives_count": "3", "tcp_user_timeout": "15000",
    ]
    /// Of every session. Whoever stops in the middle of a transaction, as a machine does that loses its power, must not keep
    /// others waiting for its locks. A look at a whole table would make transactions fail that have nothing in common.
    private static let settings = """
        SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s';
        SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3;
        SET tcp_user_timeout = 15000; SET enable_seqscan = off
        """
    /// 12.0, as libpq counts.
    private static let oldestServer = 120_000

    /// - Throws: `StoreFailure.unavailable`, with what libpq says of the connection.
    init(_ library: PostgresLibrary, address: String) throws {
        self.library = library
        // What it says of an address that it cannot read may hold a part of the password.
        _ = try PostgresAddress(address)
        var names: [String] = []
        var values: [String] = []
        for (name, value) in Self.defaults {
            names.append(name)
            values.append(value)
        }
        names += ["dbname", "client_encoding"]
        values += [address, "UTF8"]
        let opened = Self.withTexts(names) { names in
            Self.withTexts(values) { values in library.connect(names, values, 1) }
        }
        guard let opened else { throw StoreFailure.unavailable("out of memory") }
        handle = opened
        _ = library.ignoreNotices(handle, { _, _ in }, nil)
        guard library.status(handle) == PostgresLibrary.isConnected else { throw unavailability() }
        let version = Int(library.serverVersion(handle))
        guard version >= Self.oldestServer else {
            throw StoreFailure.unavailable("PostgreSQL 12 or later is needed; this is \(version / 10_000)")
        }
        try execute(Self.settings)
    }

    deinit { library.finish(handle) }

    var isBroken: Bool { library.status(handle) != PostgresLibrary.isConnected }
    var isIdle: Bool { library.transactionStatus(handle) == PostgresLibrary.outsideTransaction }

    /// Statements without parameters, several with `;` between.
    func execute(_ sql: String) throws { _ = try take(library.execute(handle, sql)) }

    /// - Throws: where the transaction was rolled back instead, as one is in which an error was overlooked.
    func commit() throws {
        let result = library.execute(handle, "COMMIT")
        let tag = result.flatMap { library.commandTag($0) }.map { String(cString: $0) }
        _ = try take(result)
        guard tag == "COMMIT" else { throw PostgresError(state: "25P02", message: "the transaction was rolled back") }
    }

    /// - Throws: `PostgresError`, `StoreFailure.unavailable`; for a text with a null character too, which PostgreSQL has no
    ///   way to keep and would cut.
    func run(_ sql: String, _ arguments: [SQLValue]) throws -> SQLResult {
        guard !arguments.contains(where: Self.hasNull) else {
            throw PostgresError(state: "22021", message: "a text with a null character cannot be kept")
        }
        let types = arguments.map(Self.type)
        let result = Self.withTexts(arguments.map(Self.text)) { values in
            library.executeWithParameters(
                handle, Self.numbered(sql), CInt(arguments.count), types, values, nil, nil, 0)
        }
        return try take(result)
    }

    // MARK: results

    private func take(_ result: PostgresLibrary.ResultHandle?) throws -> SQLResult {
        guard let result else { throw unavailability() }
        defer { library.clear(result) }
        guard PostgresLibrary.successes.contains(library.resultStatus(result)) else {
            if isBroken { throw unavailability() }
            let error = PostgresError(
                state: field(PostgresLibrary.stateField, of: result),
                message: field(PostgresLibrary.messageField, of: result))
            if error.isUnavailability { throw StoreFailure.unavailable(error.description) }
            throw error
        }
        var taken = SQLResult()
        taken.changes = library.changes(result).flatMap { Int(String(cString: $0)) } ?? 0
        let count = library.columnCount(result)
        guard count > 0 else { return taken }
        var columns: [String: Int] = [:]
        var types: [CUnsignedInt] = []
        for index in 0..<count {
            if let name = library.columnName(result, index) { columns[String(cString: name)] = Int(index) }
            types.append(library.columnType(result, index))
        }
        for row in 0..<library.rowCount(result) {
            taken.rows.append(
                SQLRow(
                    columns: columns,
                    values: (0..<count).map { column in
                        guard library.isNull(result, row, column) == 0, let text = library.value(result, row, column)
                        else { return .null }
                        let bytes = UnsafeRawBufferPointer(
                            start: text, count: Int(library.length(result, row, column)))
                        return Self.value(String(decoding: bytes, as: UTF8.self), of: types[Int(column)])
                    }))
        }
        return taken
    }

    private func field(_ field: CInt, of result: PostgresLibrary.ResultHandle) -> String {
        library.resultErrorField(result, field).map { String(cString: $0) } ?? "unknown"
    }

    private func unavailability() -> StoreFailure {
        let text = library.errorMessage(handle).map { String(cString: $0) } ?? "unknown"
        return .unavailable(
            text.split(whereSeparator: \.isNewline).map { $0.drop(while: \.isWhitespace) }.joined(separator: "; "))
    }

    // MARK: values

    /// Object identifiers of the types that are used, from PostgreSQL's catalogue.
    private enum TypeID {
        static let bool: CUnsignedInt = 16
        static let integers: Set<CUnsignedInt> = [20, 21, 23]
        static let integer: CUnsignedInt = 20
        static let text: CUnsignedInt = 25
        static let double: CUnsignedInt = 701
        /// The server finds out from where it stands.
        static let unknown: CUnsignedInt = 0
    }

    private static func type(_ value: SQLValue) -> CUnsignedInt {
        switch value {
        case .null: TypeID.unknown
        case .integer: TypeID.integer
        case .double: TypeID.double
        case .text: TypeID.text
        case .bool: TypeID.bool
        }
    }

    private static func hasNull(_ value: SQLValue) -> Bool {
        if case .text(let text) = value { text.utf8.contains(0) } else { false }
    }

    private static func text(_ value: SQLValue) -> String? {
        switch value {
        case .null: nil
        case .integer(let number): String(number)
        case .double(let number): String(number)
        case .text(let text): text
        case .bool(let bool): bool ? "t" : "f"
        }
    }

    private static func value(_ text: String, of type: CUnsignedInt) -> SQLValue {
        switch type {
        case TypeID.bool: .bool(text == "t")
        case TypeID.double: Double(text).map(SQLValue.double) ?? .null
        case let type where TypeID.integers.contains(type): Int(text).map(SQLValue.integer) ?? .null
        default: .text(text)
        }
    }

    /// `$1`, `$2`, … for each `?`: none of our statements has one elsewhere.
    static func numbered(_ sql: String) -> String {
        var text = ""
        text.reserveCapacity(sql.utf8.count + 16)
        var number = 0
        for character in sql.unicodeScalars {
            if character == "?" {
                number += 1
                text += "$\(number)"
            } else {
                text.unicodeScalars.append(character)
            }
        }
        return text
    }

    private static func withTexts<Value>(
        _ texts: [String?], _ body: (UnsafePointer<PostgresLibrary.Text?>) -> Value
    ) -> Value {
        let copies = texts.map { $0.flatMap { strdup($0) } }
        defer { for copy in copies { Glibc.free(copy) } }
        // libpq reads names up to a null.
        let pointers = copies.map { $0.map { UnsafePointer($0) } } + [nil]
        return pointers.withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else {
                preconditionFailure("an array with a null in it has an address")
            }
            return body(start)
        }
    }
}

extension PostgresSession: SQLConnection {
    var clock: String { "EXTRACT(EPOCH FROM clock_timestamp())::double precision" }

    func run(_ sql: String, _ arguments: [any SQLArgument]) throws -> SQLResult {
        try run(sql, arguments.map(\.sqlValue))
    }

    func insert(_ sql: String, _ arguments: [any SQLArgument]) throws -> Int {
        guard let number = try value(Int.self, sql + " RETURNING id", arguments) else {
            preconditionFailure("a row that was inserted has no number")
        }
        return number
    }
}
