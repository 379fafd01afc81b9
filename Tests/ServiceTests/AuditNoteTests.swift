import BerthModel
import ControlPlaneCore
import Synchronization
import Testing

@testable import ControlPlaneStore

/// A change and the record of who asked for it are on disk together, or neither is.
@Suite struct AuditNotes {
    private struct World {
        let database: TestDatabase
        let store: Store
        let one = WorkloadID(validated: "c1")
        let two = WorkloadID(validated: "c2")

        init(_ kind: DatabaseKind) async throws {
            database = try await TestDatabase(kind)
            store = try await database.open()
            _ = try await store.create(UserRecord(id: "u1", name: "ann", tier: .pro, isAdmin: false), now: 1)
            for (id, name) in [(one, "one"), (two, "two")] {
                let spec = try Rows.json(WorkloadSpec(name: name, image: "a"))
                _ = try await store.database.write { database in
                    try database.execute(
                        """
                        INSERT INTO container (id, user_id, name, image, role, generation, wish, spec, memory_mb,
                            cpu_millicores, changed_revision, ever_ran, created_at, last_used_at)
                        VALUES (?, 'u1', ?, 'a', '', 1, 'running', ?, 1, 1, 0, ?, 1, 1)
                        """, [id.text, name, spec, false])
                }
            }
        }

        func wish(_ wish: DesiredWorkload.Wish) async throws -> Store.ContainerChange {
            try await store.change(one, now: 2) { $0.wish = wish }
        }

        var records: [AuditRecord] {
            get async throws { try await store.audit(before: .max, user: nil, limit: 100) }
        }
    }

    /// Of a request that is expected to be answered with 200.
    private func note() -> AuditNote {
        AuditNote(
            AuditRecord(
                at: 5, userID: "u1", userName: "ann", tokenID: "t1", address: "127.0.0.1",
                action: "POST /api/containers/{id}/stop", object: "c1", status: 200))
    }

    @Test(arguments: DatabaseKind.allCases)
    func `a change takes the record of its request along, and a request has one record`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await World(kind)
        let note = note()
        try await AuditNote.$current.withValue(note) {
            _ = try await world.wish(.stopped)
            let first = try await world.records
            #expect(first.count == 1)
            // Of a second change of the same request nothing is added.
            _ = try await world.wish(.running)
        }
        let records = try await world.records
        let number = try #require(records.first?.number)
        var expected = note.record
        expected.number = number
        #expect(records == [expected])
        // It is there already, as it was expected.
        try await world.store.keep(note, status: 200)
        #expect(try await world.records == [expected])
        // A change that nobody asked for has none.
        _ = try await world.wish(.stopped)
        #expect(try await world.records == [expected])
    }

    @Test(arguments: DatabaseKind.allCases)
    func `another answer than the expected one corrects the record that is there`(_ kind: DatabaseKind) async throws {
        let world = try await World(kind)
        let note = note()
        _ = try await AuditNote.$current.withValue(note) { try await world.wish(.stopped) }
        let number = try #require(try await world.records.first?.number)
        try await world.store.keep(note, status: 500)
        let records = try await world.records
        #expect(records.map(\.number) == [number] && records.map(\.status) == [500])
    }

    @Test(arguments: DatabaseKind.allCases)
    func `what was refused, or changed nothing, has a record when its answer is given and not before`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await World(kind)
        let refused = note()
        let outcome = try await AuditNote.$current.withValue(refused) {
            try await world.store.change(world.one, now: 2) { $0.spec.name = "two" }
        }
        #expect(outcome == .nameTaken)
        let same = note()
        _ = try await AuditNote.$current.withValue(same) { try await world.wish(.running) }
        #expect(try await world.records.isEmpty)
        try await world.store.keep(refused, status: 409)
        try await world.store.keep(same, status: 200)
        // Of a request that asked the store for no change.
        try await world.store.keep(note(), status: 403)
        let records = try await world.records
        // Newest first.
        #expect(records.map(\.status) == [403, 200, 409])
        #expect(records.allSatisfy { $0.userID == "u1" && $0.object == "c1" && $0.at == 5 })
    }

    private struct Accident: Error {}

    @Test(arguments: DatabaseKind.allCases)
    func `a change that is rolled back takes its record along`(_ kind: DatabaseKind) async throws {
        let world = try await World(kind)
        let note = note()
        let change: @Sendable (any SQLConnection, () throws -> Void) throws -> Void = { database, remember in
            try database.execute("UPDATE container SET wish = 'stopped'")
            try remember()
            throw Accident()
        }
        await #expect(throws: Accident.self) {
            try await AuditNote.$current.withValue(note) { try await world.store.changing(change) }
        }
        #expect(try await world.records.isEmpty)
        #expect(try await world.store.container(world.one)?.wish == .running)
        // It is not taken for stored.
        try await world.store.keep(note, status: 500)
        #expect(try await world.records.map(\.status) == [500])
    }

    private final class Tally: Sendable {
        private let number = Mutex(0)
        func count() -> Int {
            number.withLock { number -> Int in
                number += 1
                return number
            }
        }
    }

    @Test func `a transaction that is run again because others came between has one record`() async throws {
        let world = try await World(.postgres)
        let note = note()
        let attempts = Tally()
        let change: @Sendable (any SQLConnection, () throws -> Void) throws -> Void = { _, remember in
            try remember()
            guard attempts.count() == 3 else { throw PostgresError(state: "40001", message: "somebody came between") }
        }
        try await AuditNote.$current.withValue(note) { try await world.store.changing(change) }
        #expect(try await world.records.map(\.status) == [200])
        try await world.store.keep(note, status: 200)
        #expect(try await world.records.count == 1)
        #expect(attempts.count() == 4)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `what is old is forgotten, also behind a record of a clock that was ahead`(_ kind: DatabaseKind) async throws {
        let world = try await World(kind)
        for at in [1, 1e12, 2, 3, 2.2] {
            var record = note().record
            record.at = at
            try await world.store.keep(AuditNote(record), status: 200)
        }
        #expect(try await world.store.forgetAudit(before: 2.5, now: 10) == 2, "up to the first that is kept")
        #expect(try await world.records.map(\.at) == [2.2, 3, 1e12])
        #expect(try await world.store.forgetAudit(before: 4, now: 10) == 1)
        #expect(try await world.records.map(\.at) == [2.2, 1e12], "the newest stays")
        let last = try #require(try await world.records.first).number
        try await world.store.keep(AuditNote(note().record), status: 200)
        #expect(try #require(try await world.records.first).number > last)
    }
}
