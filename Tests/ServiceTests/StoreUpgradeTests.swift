import BerthModel
import ControlPlaneCore
import Foundation
import GRDB
import Testing

@testable import ControlPlaneStore

/// What becomes of a database of an earlier version, or a later one.
@Suite struct StoreUpgrades {
    @Test func `an upgrade gives what was deleted its time, and old sessions their end`() async throws {
        let folder = try Folder()
        let path = folder.path + "/old"
        let old = try DatabasePool(path: path)
        try SQLiteSchema.migrator.migrate(old, upTo: "2 history and frozen identities")
        let spec = try Rows.json(WorkloadSpec(name: "x", image: "a"))
        try await old.write { database in
            for (user, tier) in [("u1", "free"), ("u2", "pro")] {
                try database.execute(
                    sql: "INSERT INTO user VALUES (?, ?, '', ?, 0, 0)", arguments: [user, user, tier])
                for (id, deletedAt) in [("live", nil), ("gone", 100.0)] as [(String, Double?)] {
                    try database.execute(
                        sql: """
                            INSERT INTO container (id, user_id, name, image, role, generation, wish, spec, memory_mb,
                                cpu_millicores, changed_revision, ever_ran, created_at, last_used_at, deleted_at)
                            VALUES (?, ?, ?, 'a', '', 1, ?, ?, 1, 1, 0, 0, 1000, 1000, ?)
                            """,
                        arguments: [
                            "\(user)-\(id)", user, id, deletedAt == nil ? "running" : "removed", spec, deletedAt,
                        ])
                }
            }
        }
        try old.close()
        let before = Date().timeIntervalSince1970
        let store = try await Store.open(.sqlite(path: path))
        let live = try #require(try await store.container(WorkloadID(validated: "u1-live")))
        #expect(live.spec.expiresAt == 181_000 && live.generation == 2)
        #expect(try await store.expired(at: 181_000).map(\.id) == [live.id])
        #expect(try await store.container(WorkloadID(validated: "u2-live"))?.spec.expiresAt == nil)
        let gone = try #require(try await store.deletedContainers(of: "u2").first?.deletedAt)
        #expect(gone > before - 5, "its time begins with the upgrade: \(gone)")
        #expect(try await store.beginPurges(deletedBefore: before - 5, now: before).agents.isEmpty)
        #expect(try await store.deletedContainers(of: "u2").count == 1)
    }

    @Test func `audit records keep their numbers through an upgrade, and the next one is higher`() async throws {
        let folder = try Folder()
        let path = folder.path + "/old"
        let old = try DatabasePool(path: path)
        try SQLiteSchema.migrator.migrate(
            old, upTo: "5 what was deleted is no work for what is there, hosts by what they are")
        try await old.write { database in
            for number in [3, 7] {
                try database.execute(
                    sql: "INSERT INTO audit VALUES (?, ?, 'u1', 'ann', 't1', '::1', 'POST /x', ?, 200)",
                    arguments: [number, Double(number), number == 3 ? nil : "c1"])
            }
        }
        try old.close()
        let store = try await Store.open(.sqlite(path: path))
        let record = AuditRecord(
            at: 9, userID: "u1", userName: "ann", tokenID: "t1", address: "::1", action: "POST /y", object: nil,
            status: 204)
        try await store.keep(record)
        let kept = try await store.audit(before: .max, user: nil, limit: 10)
        #expect(kept.map(\.number) == [8, 7, 3])
        #expect(kept.map(\.object) == [nil, "c1", nil] && kept.map(\.at) == [9, 7, 3])
    }

    @Test(arguments: DatabaseKind.allCases)
    func `a database that a later version has changed is refused, and names the step`(_ kind: DatabaseKind) async throws
    {
        let database = try await TestDatabase(kind)
        let store = try await database.open()
        let table = kind == .sqlite ? "grdb_migrations (identifier)" : "berth_migration (name)"
        _ = try await store.database.write { try $0.execute("INSERT INTO \(table) VALUES ('99 of tomorrow')") }
        let refusal = await #expect(throws: StoreFailure.self) { try await database.open() }
        #expect(refusal?.description.contains("99 of tomorrow") == true)
        // Nor may a command change something in it.
        let again = try await database.open(migrates: false)
        let command = await #expect(throws: StoreFailure.self) { try await again.requireUpToDate() }
        #expect(command?.description.contains("99 of tomorrow") == true)
        // To look and to copy it is still of use.
        #expect(try await database.open(migrates: false).hasUsers() == false)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `several that start at the same time take each step once`(_ kind: DatabaseKind) async throws {
        let database = try await TestDatabase(kind)
        let counts = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<6 { group.addTask { try await database.open().migrations().count } }
            return try await group.reduce(into: Set<Int>()) { $0.insert($1) }
        }
        #expect(counts == [kind == .sqlite ? SQLiteSchema.migrator.migrations.count : PostgresSchema.steps.count])
    }
}
