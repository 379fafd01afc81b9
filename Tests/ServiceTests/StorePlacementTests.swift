import BerthModel
import ControlPlane
import ControlPlaneCore
import ControlPlaneStore
import Testing

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
}
