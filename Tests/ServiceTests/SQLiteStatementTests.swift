import Foundation
import GRDB
import Testing

@testable import ControlPlaneStore

/// Statements by SQLite's own calls: values, and what becomes of a transaction that fails.
@Suite struct SQLiteStatements {
    private let folder: Folder
    private let database: SQLiteDatabase

    init() throws {
        folder = try Folder()
        database = try SQLiteDatabase(path: folder.path + "/db")
        try database.pool.write { try $0.execute(sql: "CREATE TABLE thing (id INTEGER PRIMARY KEY, value)") }
    }

    private func count() async throws -> Int? {
        try await database.read { try $0.value(Int.self, "SELECT COUNT(*) FROM thing") }
    }

    @Test(
        arguments: [
            .null, .integer(.min), .integer(.max), .integer(0), .double(-0.5), .double(1e300), .text(""), .text("a"),
            .text("a\u{0}b"), .text("'\";--ä\u{1F600}"), .text(String(repeating: "long ", count: 100_000)),
        ] as [SQLValue])
    func `a value comes back as it was`(value: SQLValue) async throws {
        struct Argument: SQLArgument { let sqlValue: SQLValue }
        let number = try await database.write {
            try $0.insert("INSERT INTO thing (value) VALUES (?)", [Argument(sqlValue: value)])
        }
        let row = try await database.read { try $0.row("SELECT * FROM thing WHERE id = ?", [number]) }
        #expect(row?.values == [.integer(number), value])
        #expect(row?.columns == ["id": 0, "value": 1])
    }

    @Test func `a truth value is a number there`() async throws {
        let read = try await database.read { try $0.row("SELECT ? AS yes, ? AS no", [true, false]) }
        #expect(read?["yes"] == true && read?["no"] == false)
    }

    @Test func `each row has its own values, and a statement that is used again forgets those of before`() async throws
    {
        try await database.write { database in
            for number in 1...3 { try database.execute("INSERT INTO thing VALUES (?, ?)", [number, "v\(number)"]) }
        }
        for most in [3, 1, 2] {
            let values = try await database.read {
                try $0.values(Int.self, "SELECT id FROM thing WHERE id <= ? ORDER BY id", [most])
            }
            #expect(values == Array(1...most))
        }
        #expect(try await database.write { try $0.execute("DELETE FROM thing WHERE id > ?", [1]) } == 2)
    }

    @Test func `too few or too many arguments are an error, and no statement`() async throws {
        for arguments in [[], [1, 2]] as [[Int]] {
            await #expect(throws: DatabaseError.self) {
                try await database.write { try $0.execute("INSERT INTO thing VALUES (?, 1)", arguments) }
            }
        }
        #expect(try await count() == 0)
    }

    @Test func `a transaction that fails leaves nothing, and the next one works`() async throws {
        struct Reason: Error {}
        await #expect(throws: Reason.self) {
            try await database.write { database in
                try database.execute("INSERT INTO thing VALUES (1, 1)")
                throw Reason()
            }
        }
        await #expect(throws: DatabaseError.self) {
            try await database.write { database in
                try database.execute("INSERT INTO thing VALUES (1, 1)")
                try database.execute("INSERT INTO thing VALUES (1, 2)")
            }
        }
        await #expect(throws: DatabaseError.self) {
            try await database.write(.soon) { try $0.execute("INSERT INTO nothing VALUES (1)") }
        }
        #expect(try await count() == 0)
        try await database.write { _ = try $0.execute("INSERT INTO thing VALUES (1, 1)") }
        #expect(try await count() == 1)
        // What need not be on disk at once was an exception.
        let synchronous = try await database.pool.write { try Int.fetchOne($0, sql: "PRAGMA synchronous") }
        #expect(synchronous == 2)
    }

    @Test func `a disk that is full is no defect, and once there is room it goes on`() async throws {
        let text = String(repeating: "x", count: 100_000)
        let pages = try await database.pool.writeWithoutTransaction { database in
            let pages = try Int.fetchOne(database, sql: "PRAGMA page_count") ?? 0
            try database.execute(sql: "PRAGMA max_page_count = \(pages)")
            return pages
        }
        await #expect {
            try await database.write { try $0.execute("INSERT INTO thing VALUES (1, ?)", [text]) }
        } throws: { error in
            if case .unavailable? = error as? StoreFailure { true } else { false }
        }
        #expect(try await count() == 0)
        try await database.pool.writeWithoutTransaction {
            try $0.execute(sql: "PRAGMA max_page_count = \(pages + 100)")
        }
        try await database.write { _ = try $0.execute("INSERT INTO thing VALUES (1, ?)", [text]) }
        #expect(try await count() == 1)
    }

    @Test func `the data version changes with every change, and with nothing else`() async throws {
        try SQLiteSchema.migrator.migrate(database.pool)
        let first = try #require(database.version())
        #expect(database.version() == first)
        _ = try await count()
        #expect(database.version() == first)
        try await database.write { _ = try $0.execute("INSERT INTO thing VALUES (1, 1)") }
        let second = try #require(database.version())
        #expect(second.all != first.all && second.tokens == first.tokens)
        // By another program.
        let other = try DatabaseQueue(path: folder.path + "/db")
        try await other.write { try $0.execute(sql: "UPDATE thing SET value = 2") }
        let third = try #require(database.version())
        #expect(third.all != second.all && third.tokens == first.tokens)
        try await other.write {
            try $0.execute(sql: "INSERT INTO account VALUES ('u', 'u', '', 'free', 0, 0, NULL, 0, NULL, NULL, 0)")
            try $0.execute(sql: "UPDATE account SET tier = 'pro'")
        }
        #expect(try #require(database.version()).tokens != first.tokens)
    }
}
