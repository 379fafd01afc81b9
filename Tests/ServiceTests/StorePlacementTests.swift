import BerthModel
import ControlPlane
import ControlPlaneCore
import Testing

@testable import ControlPlaneStore

/// One host is chosen among many without a look at all of them, on every store.
@Suite struct StorePlacement {
    private struct Fleet {
        let database: TestDatabase
        let store: Store

        init(_ kind: DatabaseKind) async throws {
            database = try await TestDatabase(kind)
            store = try await database.open()
            for name in ["u1", "u2"] {
                let user = UserRecord(id: name, name: name, tier: .pro, isAdmin: false)
                _ = try await store.create(user, now: 1)
            }
        }

        /// Connected, each with room for one container of 4,000 MB and its like.
        func hosts(
            _ count: Int, _ prefix: String, of user: String = "u1", isShared: Bool = false, runtime: String = "runc",
            tags: [String] = []
        ) async throws -> Set<AgentID> {
            var all: Set<AgentID> = []
            for number in 0..<count {
                // Ids are spread as those of real hosts are.
                let id = AgentID(validated: Secrets.newUUID())
                let host = HostDescription(
                    capacity: HostCapacity(memoryMB: 1000, cpuMillicores: 4000),
                    engine: EngineDescription(runtimes: [runtime]))
                let agent = AgentRecord(
                    id: id, userID: user, name: "\(prefix)\(number)", details: "", tags: tags, isShared: isShared,
                    host: host, createdAt: 1, lastSeenAt: 1)
                let token = TokenRecord(
                    id: "t\(id)", userID: user, name: "", prefix: "", scopes: [.agent], agent: id, createdAt: 1)
                try await store.register(agent, token: token, hash: "h\(id)")
                _ = try await store.openSession(id, host: host, heldRevision: .none, server: "s", now: 1)
                all.insert(id)
            }
            return all
        }

        func place(
            _ online: Set<AgentID>, memoryMB: Int = 1000, wish: HostWish = .any
        ) async throws -> (agent: AgentID?, reason: String?) {
            let id = WorkloadID(validated: Secrets.newUUID())
            let spec = WorkloadSpec(
                name: "c-\(id.text.prefix(13))", image: "alpine", runtime: .init(name: "runc"),
                resources: Resources(memoryMB: memoryMB))
            let record = ContainerRecord(
                id: id, userID: "u1", image: "alpine", role: "", spec: spec, createdAt: 1, lastUsedAt: 1)
            let outcome = try await store.create(record, limit: 10_000, idempotencyKey: nil, wish: wish, online: online)
            guard case .created(let made) = outcome else { return (nil, "\(outcome)") }
            return (made.agent, made.placement)
        }
    }

    @Test(arguments: DatabaseKind.allCases)
    func `of a few hosts the least loaded is taken, of many one that fits, and all get their share`(
        _ kind: DatabaseKind
    ) async throws {
        let fleet = try await Fleet(kind)
        let few = try await fleet.hosts(3, "few")
        var taken: [AgentID: Int] = [:]
        for _ in 0..<6 { if let agent = try await fleet.place(few).agent { taken[agent, default: 0] += 1 } }
        #expect(taken.count == 3 && taken.values.allSatisfy { $0 == 2 }, "\(taken)")
        let many = few.union(try await fleet.hosts(90, "shared", of: "u2", isShared: true))
        var used: Set<AgentID> = []
        for _ in 0..<60 { if let agent = try await fleet.place(many).agent { used.insert(agent) } }
        #expect(used.count > 20, "\(used.count) hosts have 60 containers")
    }

    @Test(arguments: DatabaseKind.allCases)
    func `the only host that fits is found among many, and where none does it is said why`(_ kind: DatabaseKind)
        async throws
    {
        let fleet = try await Fleet(kind)
        let foreign = try await fleet.hosts(40, "foreign", of: "u2")
        let unable = try await fleet.hosts(80, "unable", of: "u2", isShared: true, runtime: "other")
        let online = foreign.union(unable)
        #expect(try await fleet.place(online).reason == #"no online host offers the runtime "runc""#)
        let away = try await fleet.hosts(1, "away")
        #expect(try await fleet.place(foreign).reason == "none of 81 hosts is online")
        for _ in 0..<3 { #expect(try await fleet.place(online.union(away)).agent == away.first) }
        #expect(try await fleet.place(online.union(away)).agent == away.first, "four times over")
        let full = try await fleet.place(online.union(away))
        #expect(full.reason == "no online host has 1000 MB of memory left to promise", "\(full)")
        // Room for what is small, and by its name one is found where it is.
        let tagged = try await fleet.hosts(1, "tagged", tags: ["gpu"])
        let all = online.union(away).union(tagged)
        #expect(try await fleet.place(all, wish: HostWish(labels: LabelSelector("gpu"))).agent == tagged.first)
        #expect(try await fleet.place(all, wish: HostWish(agent: tagged.first)).agent == tagged.first)
        #expect(try await fleet.place(all, wish: HostWish(agent: foreign.first)).agent == nil, "not its owner's")
        let missing = try await fleet.place(all, wish: HostWish(labels: LabelSelector("tpu")))
        #expect(missing.reason == #"none of 82 hosts has the labels "tpu""#, "\(missing)")
    }

    @Test(arguments: DatabaseKind.allCases)
    func `a row that cannot be read holds up nobody else`(_ kind: DatabaseKind) async throws {
        let fleet = try await Fleet(kind)
        for _ in 0..<3 { #expect(try await fleet.place([]).agent == nil) }
        let host = try await fleet.hosts(1, "late")
        let agent = try #require(host.first)
        #expect(try await fleet.place(host).agent == agent)
        let all = try await fleet.store.containers(of: "u1")
        let waiting = all.filter { $0.agent == nil }.map(\.id)
        let damaged = try #require(all.first { $0.agent == nil })
        let placed = try #require(all.first { $0.agent != nil })
        func damage(_ container: ContainerRecord) async throws {
            _ = try await fleet.store.database.write { database in
                try database.execute(
                    "UPDATE container SET spec = '{', expires_at = 5 WHERE id = ?", [container.id.text])
            }
        }
        try await damage(damaged)
        let outcome = try await fleet.store.placeWaiting(.first, online: host)
        #expect(Set(outcome.placed.map(\.id)) == Set(waiting).subtracting([damaged.id]) && outcome.next == nil)
        #expect(try await fleet.store.desiredState(of: agent).workloads.count == all.count - 1)
        // On the host it stays what it was: only an order takes it away.
        try await damage(placed)
        let desired = try await fleet.store.desiredState(of: agent)
        #expect(desired.workloads.count == all.count - 2 && desired.workloads[placed.id] == nil)
        #expect(try await fleet.store.changes(of: agent, after: .none).1.count == all.count - 2)
        #expect(try await fleet.store.expired(at: 10).isEmpty)
        await #expect(throws: (any Error).self) { try await fleet.store.container(damaged.id) }
    }

    @Test(arguments: DatabaseKind.allCases)
    func `the least loaded of one's own hosts is taken wherever among all others the look begins`(
        _ kind: DatabaseKind
    ) async throws {
        let fleet = try await Fleet(kind)
        let own = try await fleet.hosts(3, "own")
        let online = own.union(try await fleet.hosts(60, "foreign", of: "u2"))
        var taken: [AgentID: Int] = [:]
        for _ in 0..<12 { if let agent = try await fleet.place(online).agent { taken[agent, default: 0] += 1 } }
        #expect(Set(taken.keys) == own && taken.values.allSatisfy { $0 == 4 }, "\(taken)")
    }
}
