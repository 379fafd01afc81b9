import BerthModel
import ControlPlaneCore
import Foundation
import Testing

@testable import ControlPlaneStore

/// A store with one user, and shorthands.
private struct LifetimeWorld {
    let database: TestDatabase
    let store: Store
    let user = UserRecord(id: "usr_1", name: "ada", tier: .pro, isAdmin: false)

    init(_ kind: DatabaseKind) async throws {
        database = try await TestDatabase(kind)
        store = try await database.open()
        _ = try await store.create(user, now: 0)
    }

    func agent(_ name: String) async throws -> AgentID {
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

    func create(
        _ id: String, on agent: AgentID? = nil, key: String? = nil, expiresAt: Double? = nil
    ) async throws -> WorkloadID {
        let id = WorkloadID(validated: id)
        let record = ContainerRecord(
            id: id, userID: user.id, image: "a", role: "",
            spec: WorkloadSpec(name: id.text, image: "a", runtime: .init(name: "runc"), expiresAt: expiresAt),
            createdAt: 0, lastUsedAt: 0)
        let made = try await store.create(
            record, limit: 3, idempotencyKey: key, wish: HostWish(agent: agent), online: agent.map { [$0] } ?? [])
        guard case .created(let container) = made else {
            Issue.record("\(made)")
            return id
        }
        #expect(container.agent == agent)
        return id
    }

    func delete(_ id: WorkloadID, at now: Double) async throws {
        _ = try await store.change(id, now: now) {
            $0.wish = .removed
            $0.deletedAt = now
        }
    }
}

/// What every store says about time, deletions and locks.
@Suite struct StoreLifetimes {
    @Test(arguments: DatabaseKind.allCases)
    func `a restoration makes the checks of a creation, and its idempotency key is free by then`(_ kind: DatabaseKind)
        async throws
    {
        let world = try await LifetimeWorld(kind)
        let one = try await world.create("one", key: "k")
        try await world.delete(one, at: 10)
        _ = try await world.create("two", key: "k")
        guard case .restored(let container) = try await world.store.restore("one", of: world.user.id, limit: 3, now: 20)
        else {
            Issue.record("not restored")
            return
        }
        #expect(container.wish == .running && container.generation == 3 && container.deletedAt == nil)
        #expect(try await world.store.restore("one", of: world.user.id, limit: 3, now: 20) == .notFound, "it is there")
        #expect(try await world.store.restore("none", of: world.user.id, limit: 3, now: 20) == .notFound)
        try await world.delete(one, at: 30)
        #expect(try await world.store.restore("one", of: "usr_2", limit: 3, now: 40) == .notFound, "another user's")
        #expect(try await world.store.restore("one", of: world.user.id, limit: 1, now: 40) == .limitReached(current: 1))
    }

    @Test(arguments: DatabaseKind.allCases)
    func `data goes by an order of its own, once, and what is on its way out is not restored`(_ kind: DatabaseKind)
        async throws
    {
        let world = try await LifetimeWorld(kind)
        let host = try await world.agent("host")
        let one = try await world.create("one", on: host)
        try await world.delete(one, at: 10)
        #expect(try await world.store.nextMoment(after: 20, retention: 100) == 110)
        #expect(try await world.store.beginPurges(deletedBefore: 5, now: 20).agents.isEmpty, "not yet")
        let before = try await world.store.desiredState(of: host).revision
        #expect(try await world.store.beginPurges(deletedBefore: 10, now: 120).agents == [host])
        #expect(try await world.store.beginPurges(deletedBefore: 10, now: 121).agents.isEmpty, "once")
        let (state, changed) = try await world.store.changes(of: host, after: before)
        #expect(changed.map(\.purgesVolumes) == [true] && state.workloads[one]?.purgesVolumes == true)
        #expect(try await world.store.restore("one", of: world.user.id, limit: 3, now: 130) == .notFound)
        #expect(try await world.store.deletedContainers(of: world.user.id).isEmpty)

        // An agent that does not say that the data is gone is told again.
        let generation = try #require(state.workloads[one]?.generation)
        var status = WorkloadStatus(
            workload: one, generation: generation, observedGeneration: generation, phase: .removed)
        _ = try await world.store.record([status], from: host, now: 140)
        #expect(try await world.store.desiredState(of: host).workloads[one] != nil)
        status.isPurged = true
        _ = try await world.store.record([status], from: host, now: 150)
        #expect(try await world.store.desiredState(of: host).workloads[one] == nil)
        #expect(try await world.store.nextMoment(after: 160, retention: 100) == nil)
    }

    @Test(arguments: DatabaseKind.allCases) func `what never had a host, or whose host is gone, holds up nothing`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await LifetimeWorld(kind)
        let host = try await world.agent("host")
        let (placed, unplaced) = (try await world.create("placed", on: host), try await world.create("unplaced"))
        for id in [placed, unplaced] { try await world.delete(id, at: 10) }
        guard case .changed = try await world.store.deleteAgent(host, now: 11) else {
            Issue.record("not deleted")
            return
        }
        #expect(try await world.store.deleteAgent(host, now: 12) == .notFound)
        #expect(try await world.store.restore("placed", of: world.user.id, limit: 3, now: 12) == .hostIsGone)
        #expect(try await world.store.beginPurges(deletedBefore: 10, now: 120).agents.isEmpty)
        #expect(try await world.store.deletedContainers(of: world.user.id).isEmpty)
        #expect(try await world.store.nextMoment(after: 120, retention: 100) == nil)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `of what nothing is left no secret stays, and after a time not even the row`(_ kind: DatabaseKind)
        async throws
    {
        let world = try await LifetimeWorld(kind)
        let host = try await world.agent("host")
        for id in ["placed", "unplaced"] {
            let made = try await world.create(id, on: id == "placed" ? host : nil)
            _ = try await world.store.change(made, now: 1) { $0.spec.environment = ["PASSWORD": "hunter2"] }
            try await world.delete(made, at: 10)
        }
        func kept() async throws -> [String] {
            try await world.store.database.read { try $0.values(String.self, "SELECT spec FROM container") }
        }
        #expect(try await kept().allSatisfy { $0.contains("hunter2") }, "it can still be restored")
        #expect(try await world.store.beginPurges(deletedBefore: 10, now: 120).agents == [host])
        #expect(try await kept().count { $0.contains("hunter2") } == 1, "what never had a host has nothing to wait for")
        let state = try await world.store.desiredState(of: host)
        let wanted = try #require(state.workloads[WorkloadID(validated: "placed")])
        var status = WorkloadStatus(
            workload: wanted.id, generation: wanted.generation, observedGeneration: wanted.generation, phase: .removed)
        status.isPurged = true
        _ = try await world.store.record([status], from: host, now: 130)
        #expect(try await kept().count == 2)
        #expect(try await kept().allSatisfy { !$0.contains("hunter2") })
        // A tombstone for hosts that come back with an older state.
        #expect(try await world.store.changes(of: host, after: .none).1.map(\.wish) == [.removed])

        #expect(try await world.store.forgetContainers(purgedBefore: 125) == 1)
        #expect(try await world.store.forgetContainers(purgedBefore: 130) == 1)
        #expect(try await kept().isEmpty)
        #expect(try await world.store.forgetContainers(purgedBefore: 1000) == 0)
    }

    @Test(arguments: DatabaseKind.allCases) func `sessions end in their order, and only of what is wanted running`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await LifetimeWorld(kind)
        let one = try await world.create("one", expiresAt: 50)
        _ = try await world.create("two", expiresAt: 40)
        _ = try await world.create("three")
        #expect(try await world.store.expired(at: 39).isEmpty)
        #expect(try await world.store.nextMoment(after: 30, retention: 100) == 40)
        #expect(try await world.store.expired(at: 50).map(\.id.text) == ["two", "one"])
        _ = try await world.store.change(one, now: 51) { $0.wish = .stopped }
        #expect(try await world.store.expired(at: 60).map(\.id.text) == ["two"])
        // One that is restored after its end comes back stopped.
        try await world.delete(one, at: 70)
        guard case .restored(let container) = try await world.store.restore("one", of: world.user.id, limit: 3, now: 80)
        else {
            Issue.record("not restored")
            return
        }
        #expect(container.wish == .stopped)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `a lock holds against every change but the end of a session, and needs something to open it`(
        _ kind: DatabaseKind
    )
        async throws
    {
        let world = try await LifetimeWorld(kind)
        let one = try await world.create("one", expiresAt: 50)
        #expect(try await !world.store.setLock(true, container: one), "nothing could open it")
        #expect(try await world.store.beginSecondFactor("AAAA", of: world.user.id))
        #expect(try await !world.store.setLock(true, container: one), "not confirmed")
        #expect(try await world.store.useCode(ofStep: 7, secret: "AAAA", of: world.user.id))
        #expect(try await !world.store.useCode(ofStep: 7, secret: "AAAA", of: world.user.id), "good once")
        #expect(try await !world.store.useCode(ofStep: 8, secret: "BBBB", of: world.user.id), "of another secret")
        #expect(try await !world.store.beginSecondFactor("BBBB", of: world.user.id), "not over one that counts")
        #expect(try await world.store.setLock(true, container: one))
        #expect(try await world.store.change(one, now: 10) { $0.wish = .stopped } == .locked)
        #expect(try await !world.store.removeSecondFactor(of: world.user.id))
        guard
            case .changed(let ended) = try await world.store.change(
                one, now: 60, respectsLock: false, { $0.wish = .stopped })
        else {
            Issue.record("the session did not end")
            return
        }
        #expect(ended.isLocked && ended.wish == .stopped)
        // Nor can its host be taken away from it.
        let host = try await world.agent("host")
        let two = try await world.create("two", on: host)
        #expect(try await world.store.setLock(true, container: two))
        #expect(try await world.store.deleteAgent(host, now: 70) == .containerLocked)
        #expect(try await world.store.setLock(false, container: two))
        #expect(try await world.store.setLock(true, agent: host))
        #expect(try await world.store.deleteAgent(host, now: 70) == .locked)
        #expect(try await world.store.update(host, name: "x", details: nil, tags: nil) == .locked)
        #expect(try await world.store.setLock(false, agent: host))
        guard case .changed(let named) = try await world.store.update(host, name: "x", details: nil, tags: nil) else {
            Issue.record("not changed")
            return
        }
        #expect(named.name == "x" && named.details == "")
        #expect(try await world.store.setLock(false, container: one))
        #expect(try await world.store.setLock(true, container: one))
        // The operator can, for who has lost it.
        #expect(try await world.store.resetSecondFactor(ofUserNamed: "ada"))
        #expect(try await world.store.container(one)?.isLocked == false)
        #expect(try await world.store.secondFactor(of: world.user.id) == nil)
    }

    @Test(arguments: DatabaseKind.allCases) func `at most ten of one host lose their data at a time`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await LifetimeWorld(kind)
        let host = try await world.agent("host")
        for number in 0..<14 {
            try await world.delete(try await world.create("c\(number)", on: host), at: Double(number))
        }
        let first = try await world.store.beginPurges(deletedBefore: 20, now: 100)
        #expect(first.agents == [host] && first.hasMore)
        let state = try await world.store.desiredState(of: host)
        let purged = state.workloads.values.filter(\.purgesVolumes)
        #expect(purged.count == Store.mostPurgesAtOnce)
        let statuses = purged.prefix(3).map { workload in
            var status = WorkloadStatus(
                workload: workload.id, generation: workload.generation, observedGeneration: workload.generation,
                phase: .removed)
            status.isPurged = true
            return status
        }
        _ = try await world.store.record(statuses, from: host, now: 110)
        #expect(try await world.store.beginPurges(deletedBefore: 20, now: 120).hasMore)
        #expect(try await world.store.desiredState(of: host).workloads.values.count(where: \.purgesVolumes) == 10)
    }

    @Test(arguments: DatabaseKind.allCases) func `a user of an issuer is one user, whatever they are called`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await LifetimeWorld(kind)
        func user(_ subject: String, _ name: String, issuer: String = "i") async throws -> UserRecord {
            try await world.store.user(
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
