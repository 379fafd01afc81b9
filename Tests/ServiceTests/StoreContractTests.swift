import BerthModel
import ControlPlane
import ControlPlaneCore
import Foundation
import Testing

@testable import ControlPlaneStore

/// A store with one user, and shorthands.
private struct ContractWorld {
    let database: TestDatabase
    let store: Store
    let user = UserRecord(id: "u1", name: "ann", tier: .free, isAdmin: false)

    init(_ kind: DatabaseKind) async throws {
        database = try await TestDatabase(kind)
        store = try await database.open()
    }

    func container(_ name: String, user: String = "u1") -> ContainerRecord {
        let id = WorkloadID(validated: Secrets.newUUID())
        return ContainerRecord(
            id: id, userID: user, image: "alpine:latest", role: "",
            spec: WorkloadSpec(name: name, image: "alpine:latest", runtime: .init(name: "runc")), createdAt: 1,
            lastUsedAt: 1)
    }

    func agent(_ id: String = "a1", user: String = "u1", isShared: Bool = false) async throws -> AgentRecord {
        let host = HostDescription(
            capacity: HostCapacity(memoryMB: 8000, cpuMillicores: 4000), engine: EngineDescription(runtimes: ["runc"]))
        let agent = AgentRecord(
            id: AgentID(validated: id), userID: user, name: id, details: "", tags: ["t"], isShared: isShared,
            host: host,
            createdAt: 1, lastSeenAt: 1)
        let token = TokenRecord(
            id: "t-\(id)", userID: user, name: "", prefix: "", scopes: [.agent], agent: agent.id, createdAt: 1)
        try await store.register(agent, token: token, hash: "hash-\(id)")
        return agent
    }

    func create(_ record: ContainerRecord, limit: Int = 5, key: String? = nil, online: Set<AgentID> = [])
        async throws
        -> Store.ContainerCreation
    {
        try await store.create(record, limit: limit, idempotencyKey: key, online: online)
    }
}

/// What every store must do.
@Suite struct StoreContract {
    @Test(arguments: DatabaseKind.allCases) func `a commit waits for the disk, also after one that need not`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        func setting() async throws -> String? {
            try await world.store.database.write { database in
                switch kind {
                case .sqlite: try database.value(Int.self, "PRAGMA synchronous").map(String.init)
                case .postgres: try database.value(String.self, "SELECT current_setting('synchronous_commit')")
                }
            }
        }
        // FULL, and on.
        let expected = kind == .sqlite ? "2" : "on"
        #expect(try await setting() == expected)
        _ = try await world.store.database.write(.soon) { try $0.execute("UPDATE account SET email = ''") }
        #expect(try await setting() == expected)
        await #expect(throws: (any Error).self) {
            _ = try await world.store.database.write(.soon) { try $0.execute("UPDATE nothing SET nowhere = 1") }
        }
        #expect(try await setting() == expected)
    }

    @Test(arguments: DatabaseKind.allCases) func `what is committed is there for whoever opens the store next`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        #expect(try await world.store.create(world.user, now: 1) == .created)
        #expect(
            try await world.store.create(UserRecord(id: "u2", name: "ann", tier: .pro, isAdmin: false), now: 1)
                == .nameTaken)
        // Whoever opens it next sees what was written.
        let again = try await world.database.open()
        #expect(try await again.user(named: "ann") == world.user)
    }

    @Test(arguments: DatabaseKind.allCases) func `parallel creates never exceed the limit, and one name is taken once`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        let outcomes = try await withThrowingTaskGroup(of: Store.ContainerCreation.self) { group in
            for number in 0..<40 { group.addTask { try await world.create(world.container("c\(number)")) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.count { if case .created = $0 { true } else { false } } == 5)
        #expect(outcomes.count { $0 == .limitReached(current: 5) } == 35)
        let racing = try await withThrowingTaskGroup(of: Store.ContainerCreation.self) { group in
            for _ in 0..<20 { group.addTask { try await world.create(world.container("same"), limit: 100) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(racing.count { if case .created = $0 { true } else { false } } == 1)
        #expect(racing.count { $0 == .nameTaken } == 19)
    }

    @Test(arguments: DatabaseKind.allCases) func `an idempotency key makes one container`(_ kind: DatabaseKind)
        async throws
    {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        guard case .created(let first) = try await world.create(world.container("one"), key: "k") else {
            Issue.record("expected a creation")
            return
        }
        #expect(try await world.create(world.container("two"), key: "k") == .repeated(first))
    }

    @Test(arguments: DatabaseKind.allCases) func `a token is void once revoked, expired, or its agent is deleted`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        let agent = try await world.agent()
        let token = TokenRecord(
            id: "t", userID: "u1", name: "", prefix: "", scopes: [.read], createdAt: 1, expiresAt: 100)
        try await world.store.create(token, hash: "h")
        #expect(try await world.store.authenticate(hash: "h", now: 50)?.user == world.user)
        #expect(try await world.store.authenticate(hash: "h", now: 101) == nil)
        #expect(try await world.store.revokeToken("t", of: "somebody", now: 50) == false)
        #expect(try await world.store.revokeToken("t", of: "u1", now: 50))
        #expect(try await world.store.authenticate(hash: "h", now: 50) == nil)
        #expect(try await world.store.authenticate(hash: "hash-a1", now: 50)?.token.agent == agent.id)
        #expect(try await world.store.deleteAgent(agent.id, now: 50) == .changed(agent))
        #expect(try await world.store.authenticate(hash: "hash-a1", now: 50) == nil)
        #expect(try await world.store.agent(agent.id) == nil)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `every change raises generation and revision, and a delta holds exactly what changed`(_ kind: DatabaseKind)
        async throws
    {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        let agent = try await world.agent()
        guard case .created(let first) = try await world.create(world.container("one"), online: [agent.id]),
            case .created(let second) = try await world.create(world.container("two"), online: [agent.id])
        else {
            Issue.record("expected creations")
            return
        }
        #expect(first.agent == agent.id)
        #expect(try await world.store.desiredState(of: agent.id).revision == Revision(2))
        guard case .changed(let stopped) = try await world.store.change(first.id, now: 2, { $0.wish = .stopped }) else {
            Issue.record("expected a change")
            return
        }
        #expect(stopped.generation == 2)
        let (state, changed) = try await world.store.changes(of: agent.id, after: Revision(2))
        #expect(state.revision == Revision(3) && changed.map(\.id) == [first.id] && state.workloads.count == 2)
        // Nothing changed: nothing is raised.
        guard case .changed(let same) = try await world.store.change(first.id, now: 3, { $0.wish = .stopped }) else {
            return
        }
        #expect(same.generation == 2)
        #expect(try await world.store.change(second.id, now: 3) { $0.spec.name = "one" } == .nameTaken)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `a tombstone stays until its agent has confirmed it, and is not undone by a late status`(_ kind: DatabaseKind)
        async throws
    {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        let agent = try await world.agent()
        guard case .created(let one) = try await world.create(world.container("one"), online: [agent.id]) else {
            return
        }
        _ = try await world.store.change(one.id, now: 2) {
            $0.wish = .removed
            $0.deletedAt = 2
        }
        #expect(try await world.store.desiredState(of: agent.id).workloads[one.id]?.wish == .removed)
        #expect(try await world.store.find(one.id.text, of: "u1") == .notFound)
        let late = WorkloadStatus(workload: one.id, generation: 1, phase: .running, startedAt: 5)
        _ = try await world.store.record([late], from: agent.id, now: 3)
        #expect(try await world.store.desiredState(of: agent.id).workloads[one.id]?.wish == .removed)
        _ = try await world.store.record(
            [WorkloadStatus(workload: one.id, generation: 2, phase: .removed)], from: agent.id, now: 3)
        #expect(try await world.store.desiredState(of: agent.id).workloads[one.id] == nil)
        // Its name is free again.
        guard case .created = try await world.create(world.container("one"), online: [agent.id]) else {
            Issue.record("the name must be free")
            return
        }
    }

    @Test(arguments: DatabaseKind.allCases)
    func `an agent speaks of its own workloads alone, and never of an older or a future generation`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        let (mine, other) = (try await world.agent("a1"), try await world.agent("a2"))
        guard case .created(let one) = try await world.create(world.container("one"), online: [mine.id]) else { return }
        let status = WorkloadStatus(workload: one.id, generation: 1, phase: .running)
        #expect(try await world.store.record([status], from: other.id, now: 1).isEmpty)
        var future = status
        future.generation = 99
        #expect(try await world.store.record([future], from: mine.id, now: 1).isEmpty)
        #expect(try await world.store.record([status], from: mine.id, now: 1).count == 1)
        _ = try await world.store.change(one.id, now: 2) { $0.wish = .stopped }
        _ = try await world.store.record(
            [WorkloadStatus(workload: one.id, generation: 2, phase: .stopped)], from: mine.id, now: 1)
        #expect(try await world.store.record([status], from: mine.id, now: 1).isEmpty)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `the newest session has the highest epoch, and a restored store goes beyond what an agent holds`(
        _ kind: DatabaseKind
    )
        async throws
    {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        let agent = try await world.agent()
        #expect(
            try await world.store.openSession(agent.id, host: .init(), heldRevision: .none, server: "s", now: 2)?.epoch
                == 1)
        let second = try await world.store.openSession(
            agent.id, host: .init(hostname: "h"), heldRevision: Revision(40), server: "s", now: 3)
        #expect(second?.epoch == 2 && second?.agent.revision == Revision(41) && second?.agent.host.hostname == "h")
        #expect(
            try await world.store.openSession(
                AgentID(validated: "none"), host: .init(), heldRevision: .none, server: "s", now: 2) == nil)
    }

    @Test(arguments: DatabaseKind.allCases) func `ids are found by prefix of twelve, for their owner alone`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        _ = try await world.store.create(UserRecord(id: "u2", name: "bob", tier: .free, isAdmin: false), now: 1)
        guard case .created(let one) = try await world.create(world.container("one")) else { return }
        for text in [one.id.text, String(one.id.text.prefix(12)), String(one.id.text.prefix(20))] {
            #expect(try await world.store.find(text, of: "u1") == .found(one))
            #expect(try await world.store.find(text, of: "u2") == .notFound)
        }
        for text in [String(one.id.text.prefix(11)), "%", "", "' OR 1=1 --", "____________"] {
            #expect(try await world.store.find(text, of: "u1") == .notFound, "\(text)")
        }
    }

    @Test(arguments: DatabaseKind.allCases) func `containers that no host could take are placed when one comes`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        guard case .created(let one) = try await world.create(world.container("one")) else { return }
        #expect(one.agent == nil && one.placement != nil)
        let agent = try await world.agent()
        #expect(try await world.store.placeWaiting(.first, online: []).placed.isEmpty)
        #expect(try await world.store.placeWaiting(.first, online: [agent.id]).placed.map(\.id) == [one.id])
        #expect(try await world.store.desiredState(of: agent.id).workloads[one.id] != nil)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `one look at what waits counts every host once for all users, each container with no more than the host`(
        _ kind: DatabaseKind
    ) async throws {
        let world = try await ContractWorld(kind)
        _ = try await world.store.create(world.user, now: 1)
        let other = UserRecord(id: "u2", name: "bob", tier: .free, isAdmin: false)
        _ = try await world.store.create(other, now: 1)
        for number in 0..<6 {
            var waiting = world.container("c\(number)", user: number % 2 == 0 ? "u1" : "u2")
            // More than the host has, so each counts as all of it.
            waiting.spec.resources.memoryMB = 100_000
            guard case .created = try await world.create(waiting) else {
                Issue.record("expected a creation")
                return
            }
        }
        let host = try await world.agent("shared", isShared: true)
        let outcome = try await world.store.placeWaiting(.first, online: [host.id])
        #expect(outcome.placed.count == Placement.overcommit && !outcome.isOutdated && outcome.next == nil)
        #expect(Set(outcome.placed.map(\.userID)) == ["u1", "u2"])
        #expect(try await world.store.placeWaiting(.first, online: [host.id]).placed.isEmpty)
    }
}
