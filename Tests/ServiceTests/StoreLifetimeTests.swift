import BerthModel
import ControlPlaneCore
import Foundation
import GRDB
import Testing

@testable import ControlPlaneStore

/// What the store says about time, deletions and locks.
@Suite struct StoreLifetimes {
    private let folder: Folder
    private let store: SQLiteStore
    private let user = UserRecord(id: "usr_1", name: "ada", tier: .pro, isAdmin: false)

    init() async throws {
        folder = try Folder()
        store = try SQLiteStore(path: folder.path + "/db")
        _ = try await store.create(user, now: 0)
    }

    private func agent(_ name: String) async throws -> AgentID {
        let id = AgentID(validated: name)
        try await store.register(
            AgentRecord(
                id: id, userID: user.id, name: name, details: "", tags: [], isShared: false,
                host: HostDescription(
                    capacity: .init(memoryMB: 10_000, cpuMillicores: 8000, diskMB: 1),
                    engine: .init(
                        version: "1", apiVersion: "1", cgroupVersion: "1", storageDriver: "x", runtimes: ["runc"],
                        findings: [])), createdAt: 0, lastSeenAt: 0),
            token: TokenRecord(id: name, userID: user.id, name: "", prefix: "", scopes: [.agent], createdAt: 0),
            hash: name)
        return id
    }

    private func create(
        _ id: String, on agent: AgentID? = nil, key: String? = nil, expiresAt: Double? = nil
    ) async throws -> WorkloadID {
        let id = WorkloadID(validated: id)
        let record = ContainerRecord(
            id: id, userID: user.id, image: "a", role: "",
            spec: WorkloadSpec(name: id.text, image: "a", runtime: .init(name: "runc"), expiresAt: expiresAt),
            createdAt: 0, lastUsedAt: 0)
        let made = try await store.create(
            record, limit: 3, idempotencyKey: key, wanted: agent, online: agent.map { [$0] } ?? [])
        guard case .created(let container) = made else {
            Issue.record("\(made)")
            return id
        }
        #expect(container.agent == agent)
        return id
    }

    private func delete(_ id: WorkloadID, at now: Double) async throws {
        _ = try await store.change(id, now: now) {
            $0.wish = .removed
            $0.deletedAt = now
        }
    }

    @Test func `a restoration makes the checks of a creation, and its idempotency key is free by then`() async throws {
        let one = try await create("one", key: "k")
        try await delete(one, at: 10)
        _ = try await create("two", key: "k")
        guard case .restored(let container) = try await store.restore("one", of: user.id, limit: 3, now: 20) else {
            Issue.record("not restored")
            return
        }
        #expect(container.wish == .running && container.generation == 3 && container.deletedAt == nil)
        #expect(try await store.restore("one", of: user.id, limit: 3, now: 20) == .notFound, "it is there")
        #expect(try await store.restore("none", of: user.id, limit: 3, now: 20) == .notFound)
        try await delete(one, at: 30)
        #expect(try await store.restore("one", of: "usr_2", limit: 3, now: 40) == .notFound, "another user's")
        #expect(try await store.restore("one", of: user.id, limit: 1, now: 40) == .limitReached(current: 1))
    }

    @Test func `data goes by an order of its own, once, and what is on its way out is not restored`() async throws {
        let host = try await agent("host")
        let one = try await create("one", on: host)
        try await delete(one, at: 10)
        #expect(try await store.nextMoment(after: 20, retention: 100) == 110)
        #expect(try await store.beginPurges(deletedBefore: 5, now: 20).agents.isEmpty, "not yet")
        let before = try await store.desiredState(of: host).revision
        #expect(try await store.beginPurges(deletedBefore: 10, now: 120).agents == [host])
        #expect(try await store.beginPurges(deletedBefore: 10, now: 121).agents.isEmpty, "once")
        let (state, changed) = try await store.changes(of: host, after: before)
        #expect(changed.map(\.purgesVolumes) == [true] && state.workloads[one]?.purgesVolumes == true)
        #expect(try await store.restore("one", of: user.id, limit: 3, now: 130) == .notFound)
        #expect(try await store.deletedContainers(of: user.id).isEmpty)

        // An agent that does not say that the data is gone is told again.
        let generation = try #require(state.workloads[one]?.generation)
        var status = WorkloadStatus(
            workload: one, generation: generation, observedGeneration: generation, phase: .removed)
        _ = try await store.record([status], from: host, now: 140)
        #expect(try await store.desiredState(of: host).workloads[one] != nil)
        status.isPurged = true
        _ = try await store.record([status], from: host, now: 150)
        #expect(try await store.desiredState(of: host).workloads[one] == nil)
        #expect(try await store.nextMoment(after: 160, retention: 100) == nil)
    }

    @Test func `what never had a host, or whose host is gone, holds up nothing`() async throws {
        let host = try await agent("host")
        let (placed, unplaced) = (try await create("placed", on: host), try await create("unplaced"))
        for id in [placed, unplaced] { try await delete(id, at: 10) }
        try await store.deleteAgent(host, now: 11)
        #expect(try await store.restore("placed", of: user.id, limit: 3, now: 12) == .hostIsGone)
        #expect(try await store.beginPurges(deletedBefore: 10, now: 120).agents.isEmpty)
        #expect(try await store.deletedContainers(of: user.id).isEmpty)
        #expect(try await store.nextMoment(after: 120, retention: 100) == nil)
    }

    @Test func `sessions end in their order, and only of what is wanted running`() async throws {
        let one = try await create("one", expiresAt: 50)
        _ = try await create("two", expiresAt: 40)
        _ = try await create("three")
        #expect(try await store.expired(at: 39).isEmpty)
        #expect(try await store.nextMoment(after: 30, retention: 100) == 40)
        #expect(try await store.expired(at: 50).map(\.id.text) == ["two", "one"])
        _ = try await store.change(one, now: 51) { $0.wish = .stopped }
        #expect(try await store.expired(at: 60).map(\.id.text) == ["two"])
        // One that is restored after its end comes back stopped.
        try await delete(one, at: 70)
        guard case .restored(let container) = try await store.restore("one", of: user.id, limit: 3, now: 80) else {
            Issue.record("not restored")
            return
        }
        #expect(container.wish == .stopped)
    }

    @Test func `a lock holds against every change but the end of a session, and needs something to open it`()
        async throws
    {
        let one = try await create("one", expiresAt: 50)
        #expect(try await !store.setLock(true, container: one), "nothing could open it")
        #expect(try await store.beginSecondFactor("AAAA", of: user.id))
        #expect(try await !store.setLock(true, container: one), "not confirmed")
        #expect(try await store.useCode(ofStep: 7, secret: "AAAA", of: user.id))
        #expect(try await !store.useCode(ofStep: 7, secret: "AAAA", of: user.id), "good once")
        #expect(try await !store.useCode(ofStep: 8, secret: "BBBB", of: user.id), "of another secret")
        #expect(try await !store.beginSecondFactor("BBBB", of: user.id), "not over one that counts")
        #expect(try await store.setLock(true, container: one))
        #expect(try await store.change(one, now: 10) { $0.wish = .stopped } == .locked)
        #expect(try await !store.removeSecondFactor(of: user.id))
        guard
            case .changed(let ended) = try await store.change(one, now: 60, respectsLock: false, { $0.wish = .stopped })
        else {
            Issue.record("the session did not end")
            return
        }
        #expect(ended.isLocked && ended.wish == .stopped)
        #expect(try await store.setLock(false, container: one))
        #expect(try await store.setLock(true, container: one))
        // The operator can, for who has lost it.
        #expect(try await store.resetSecondFactor(ofUserNamed: "ada"))
        #expect(try await store.container(one)?.isLocked == false)
        #expect(try await store.secondFactor(of: user.id) == nil)
    }

    @Test func `an upgrade gives what was deleted its time, and old sessions their end`() async throws {
        let path = folder.path + "/old"
        let old = try DatabasePool(path: path)
        try Schema.migrator.migrate(old, upTo: "2 history and frozen identities")
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
        let store = try SQLiteStore(path: path)
        let live = try #require(try await store.container(WorkloadID(validated: "u1-live")))
        #expect(live.spec.expiresAt == 181_000 && live.generation == 2)
        #expect(try await store.expired(at: 181_000).map(\.id) == [live.id])
        #expect(try await store.container(WorkloadID(validated: "u2-live"))?.spec.expiresAt == nil)
        let gone = try #require(try await store.deletedContainers(of: "u2").first?.deletedAt)
        #expect(gone > before - 5, "its time begins with the upgrade: \(gone)")
        #expect(try await store.beginPurges(deletedBefore: before - 5, now: before).agents.isEmpty)
        #expect(try await store.deletedContainers(of: "u2").count == 1)
    }

    @Test func `at most ten of one host lose their data at a time`() async throws {
        let host = try await agent("host")
        for number in 0..<14 { try await delete(try await create("c\(number)", on: host), at: Double(number)) }
        let first = try await store.beginPurges(deletedBefore: 20, now: 100)
        #expect(first.agents == [host] && first.hasMore)
        let state = try await store.desiredState(of: host)
        let purged = state.workloads.values.filter(\.purgesVolumes)
        #expect(purged.count == SQLiteStore.mostPurgesAtOnce)
        let statuses = purged.prefix(3).map { workload in
            var status = WorkloadStatus(
                workload: workload.id, generation: workload.generation, observedGeneration: workload.generation,
                phase: .removed)
            status.isPurged = true
            return status
        }
        _ = try await store.record(statuses, from: host, now: 110)
        #expect(try await store.beginPurges(deletedBefore: 20, now: 120).hasMore)
        #expect(try await store.desiredState(of: host).workloads.values.count(where: \.purgesVolumes) == 10)
    }

    @Test func `a user of an issuer is one user, whatever they are called`() async throws {
        func user(_ subject: String, _ name: String, issuer: String = "i") async throws -> UserRecord {
            try await store.user(
                ofIssuer: issuer, subject: subject, name: name, email: "", tier: .free, id: UUID().uuidString, now: 0)
        }
        let first = try await user("s1", "bob")
        #expect(try await user("s1", "renamed") == first && first.name == "bob" && !first.isAdmin)
        let taken = try await user("s2", "ada")
        #expect(taken.name == taken.id, "a name that is taken is not given again")
        #expect(try await user("s1", "eve", issuer: "other").id != first.id)
        #expect(try await user("s3", String(repeating: "x", count: 500)).name.utf8.count < 129)
    }
}
