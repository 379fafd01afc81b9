import BerthModel
import ControlPlaneCore
import Foundation
import Testing

@testable import ControlPlaneStore

/// What is PostgreSQL's alone: connections that break, notices, and transactions that come between each other.
@Suite struct PostgresStore {
    @Test func `notices of any length reach everybody in one order, with growing numbers`() async throws {
        let database = try await TestDatabase(.postgres)
        let (first, second) = (try await database.open(), try await database.open())
        let long = String(repeating: "ä€😀", count: 4000)
        let texts = (0..<60).map { $0 % 20 == 7 ? "\($0) \(long)" : "\($0)" }
        let listening = Tally()
        async let atFirst = Self.hear(first, texts.count, listening)
        async let atSecond = Self.hear(second, texts.count, listening)
        await listening.reached(2)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, store) in [first, second].enumerated() {
                group.addTask {
                    let channel = try #require(store.noticeChannel())
                    for number in stride(from: index, to: texts.count, by: 2) {
                        try await channel.send([texts[number]])
                    }
                }
            }
            try await group.waitForAll()
        }
        let (heard, same) = (try await atFirst, try await atSecond)
        #expect(heard == same)
        #expect(Set(heard.map(\.text)) == Set(texts))
        #expect(zip(heard, heard.dropFirst()).allSatisfy { $0.number < $1.number })
    }

    @Test(.timeLimit(.minutes(1))) func `whoever listens is told when the connection broke, and when it hears again`()
        async throws
    {
        let database = try await TestDatabase(.postgres)
        let store = try await database.open()
        let channel = try #require(store.noticeChannel())
        var signals = channel.signals().makeAsyncIterator()
        #expect(await signals.next() == .opened(number: 0))
        try await Self.endConnections(of: database)
        guard case .lost? = await signals.next() else {
            Issue.record("expected to be told")
            return
        }
        #expect(await signals.next() == .opened(number: 0))
        try await channel.send(["again"])
        guard case .notice(1, "again")? = await signals.next() else {
            Issue.record("expected the notice")
            return
        }
    }

    @Test func `a store whose connections were ended goes on with new ones`() async throws {
        let database = try await TestDatabase(.postgres)
        let store = try await database.open()
        #expect(try await store.hasUsers() == false)
        try await Self.endConnections(of: database)
        let user = UserRecord(id: "u1", name: "ann", tier: .free, isAdmin: false)
        #expect(try await store.create(user, now: 1) == .created)
        #expect(try await store.users() == [user])
    }

    @Test func `more callers than connections wait their turn`() async throws {
        let database = try await TestDatabase(.postgres)
        let store = try await database.open()
        let names = try await withThrowingTaskGroup(of: String.self) { group in
            for number in 0..<200 {
                group.addTask {
                    let user = UserRecord(id: "u\(number)", name: "n\(number)", tier: .free, isAdmin: false)
                    let made = try await store.create(user, now: 1)
                    #expect(made == .created)
                    return user.name
                }
            }
            return try await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(Set(try await store.users().map(\.name)) == names)
    }

    @Test func `a server that is not there is said to be unavailable, without the password`() async throws {
        let place = DatabasePlace.postgres(
            address: "postgresql://ann:secret@127.0.0.1:1/db?password=secret&connect_timeout=2", connections: 2)
        let failure = await #expect(throws: StoreFailure.self) { try await Store.open(place) }
        guard case .unavailable(let reason)? = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        #expect(!reason.contains("secret") && reason.contains("127.0.0.1"))
        #expect("\(place)" == "postgresql://127.0.0.1:1/db")
    }

    @Test(arguments: [
        "postgresql://ann:100%secretpw@h/db", "postgresql://ann:se/cret@h/db", "postgresql://ann:se@cret@h/db",
        "postgresql://h/db?nonsense=secret", "postgresql://ann:se?cret@h/db@", "postgresql://h:secret@x/db",
    ])
    func `an address that cannot be read is refused without a part of it`(_ address: String) async throws {
        let place = DatabasePlace.postgres(address: address, connections: 2)
        for text in ["\(place)", "\(await #expect(throws: StoreFailure.self) { try await Store.open(place) } as Any)"] {
            for part in ["secret", "cret", "100%", "ann:"] { #expect(!text.contains(part), "\(text)") }
        }
    }

    @Test func `a text with a null character is refused, not cut`() async throws {
        let database = try await TestDatabase(.postgres)
        let store = try await database.open()
        let user = UserRecord(id: "u", name: "ann\0x", tier: .free, isAdmin: false)
        await #expect(throws: PostgresError.self) { try await store.create(user, now: 1) }
        #expect(try await !store.hasUsers())
    }

    @Test func `who stops in the middle of a transaction does not stop the others`() async throws {
        let database = try await TestDatabase(.postgres)
        let store = try await database.open()
        let setting = try await store.database.read { database in
            try database.value(String.self, "SELECT current_setting('idle_in_transaction_session_timeout')")
        }
        #expect(setting == "10s")
    }

    @Test func `a role that may only use the tables can open them once they are up to date`() async throws {
        let database = try await TestDatabase(.postgres)
        _ = try await database.open()
        guard case .postgres(let address, _) = database.place, let name = database.name else { return }
        let role = "r" + name
        try await TestDatabase.execute("CREATE ROLE \(role) LOGIN", in: name)
        for sql in ["ALL TABLES", "ALL SEQUENCES"] {
            try await TestDatabase.execute("GRANT ALL ON \(sql) IN SCHEMA public TO \(role)", in: name)
        }
        let limited = DatabasePlace.postgres(
            address: address.replacing("user=postgres", with: "user=\(role)"), connections: 2)
        #expect(try await Store.open(limited).hasUsers() == false)
    }

    @Test func `texts with anything in them are kept as they are`() async throws {
        let database = try await TestDatabase(.postgres)
        let store = try await database.open()
        for (number, name) in [
            "'; DROP TABLE account; --", "$1 ? \\ \"", "ä\u{0301}€😀", String(repeating: "x", count: 128),
        ]
        .enumerated() {
            let user = UserRecord(id: "u\(number)", name: name, email: "?", tier: .free, isAdmin: false)
            #expect(try await store.create(user, now: 1) == .created)
            #expect(try await store.user(named: name) == user)
        }
    }

    @Test func `a transaction that was rolled back unseen is no success`() async throws {
        let database = try await TestDatabase(.postgres)
        let store = try await database.open()
        await #expect(throws: PostgresError.self) {
            try await store.database.write { database in
                // What a body must not do, and might.
                try? database.execute("INSERT INTO nowhere VALUES (1)")
            }
        }
    }

    @Test func `parts of a notice are put together as they were, wherever they are cut`() throws {
        let text = "aä€😀" + String(repeating: "b", count: 20) + " 3 € x"
        for size in 4...40 {
            var joining = NoticeParts.Joining()
            let parts = NoticeParts.split(text, mostBytes: size)
            #expect(parts.allSatisfy { $0.utf8.count <= size + 4 })
            #expect(parts.compactMap { joining.take(Substring($0)) } == [text])
        }
        var joining = NoticeParts.Joining()
        for garbage in ["", " ", "x", "-", "9999999999999999999999 a"] {
            #expect(joining.take(Substring(garbage)) == nil)
        }
        #expect(joining.take("0 a") == "a")
    }

    // MARK: parts

    private struct Heard: Hashable, Sendable {
        var number: Int
        var text: String
    }

    private static func hear(_ store: Store, _ count: Int, _ listening: Tally) async throws -> [Heard] {
        var heard: [Heard] = []
        for await signal in try #require(store.noticeChannel()).signals() {
            switch signal {
            case .opened: await listening.count()
            case .notice(let number, let text): heard.append(Heard(number: number, text: text))
            case .lost, .uncertain: break
            }
            if heard.count == count { break }
        }
        return heard
    }

    private actor Tally {
        private var number = 0
        private var waiting: (number: Int, continuation: CheckedContinuation<Void, Never>)?

        func count() {
            number += 1
            guard let waiting, number >= waiting.number else { return }
            waiting.continuation.resume()
            self.waiting = nil
        }

        func reached(_ wanted: Int) async {
            guard number < wanted else { return }
            await withCheckedContinuation { waiting = (wanted, $0) }
        }
    }

    private static func endConnections(of database: TestDatabase) async throws {
        let name = try #require(database.name)
        try await TestDatabase.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(name)'")
    }
}

/// Several control planes on one store: who is there, who is connected to whom, and what they count together.
@Suite struct StoreServers {
    private let user = UserRecord(id: "u1", name: "ann", tier: .free, isAdmin: false)

    private func agent(_ id: String, in store: Store) async throws -> AgentID {
        let agent = AgentRecord(
            id: AgentID(validated: id), userID: "u1", name: "host \(id)", details: "", tags: [], isShared: false,
            host: HostDescription(), createdAt: 1, lastSeenAt: 1)
        let token = TokenRecord(
            id: "t-\(id)", userID: "u1", name: "", prefix: "", scopes: [.agent], agent: agent.id, createdAt: 1)
        try await store.register(agent, token: token, hash: id)
        return agent.id
    }

    private func open(_ agent: AgentID, _ server: String, in store: Store) async throws -> Int {
        try #require(
            try await store.openSession(agent, host: .init(), heldRevision: .none, server: server, now: 1)?.epoch)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `an agent is present where its newest session is, as long as that control plane has its lease`(
        _ kind: DatabaseKind
    ) async throws {
        let database = try await TestDatabase(kind)
        let store = try await database.open()
        _ = try await store.create(user, now: 1)
        let (one, two) = (try await agent("a1", in: store), try await agent("a2", in: store))
        #expect(try await store.renewLease(of: "s1", seconds: 60) == false, "it had none")
        #expect(try await store.renewLease(of: "s1", seconds: 60))
        _ = try await store.renewLease(of: "s2", seconds: 60)
        #expect(try await store.servers() == ["s1", "s2"])
        let first = try await open(one, "s1", in: store)
        _ = try await open(two, "s2", in: store)
        let second = try await open(one, "s2", in: store)
        // The end of the older session takes nothing away.
        try await store.closeSession(one, epoch: first, now: 2)
        #expect(
            Set(try await store.presences()) == [
                AgentPresence(agent: one, owner: "u1", name: "host a1", epoch: second, server: "s2"),
                AgentPresence(agent: two, owner: "u1", name: "host a2", epoch: 1, server: "s2"),
            ])
        try await store.closeSession(one, epoch: second, now: 3)
        #expect(try await store.presences().map(\.agent) == [two])
        // A lease that is over is no lease.
        _ = try await store.renewLease(of: "s2", seconds: -1)
        #expect(try await store.presences().isEmpty)
        #expect(try await store.servers() == ["s1"])
        _ = try await store.renewLease(of: "s2", seconds: 60)
        #expect(try await store.presences().map(\.agent) == [two])
        try await store.endLease(of: "s2")
        #expect(try await store.presences().isEmpty)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `what an older session still brings is not stored`(_ kind: DatabaseKind) async throws {
        let database = try await TestDatabase(kind)
        let store = try await database.open()
        _ = try await store.create(user, now: 1)
        let agent = try await agent("a1", in: store)
        let (older, newer) = (try await open(agent, "s1", in: store), try await open(agent, "s2", in: store))
        try await store.update(
            HostDescription(
                hostname: "h", capacity: HostCapacity(memoryMB: 8000, cpuMillicores: 4000),
                engine: EngineDescription(runtimes: ["runc"])), of: agent, epoch: newer)
        let id = WorkloadID(validated: "c1")
        let record = ContainerRecord(
            id: id, userID: "u1", image: "a", role: "",
            spec: WorkloadSpec(name: "c", image: "a", runtime: .init(name: "runc")), createdAt: 1, lastUsedAt: 1)
        _ = try await store.create(record, limit: 5, idempotencyKey: nil, online: [agent])
        let exited = WorkloadStatus(workload: id, generation: 1, phase: .stopped, exitCode: 3)
        #expect(try await store.record([exited], from: agent, epoch: newer, now: 2).count == 1)
        let running = WorkloadStatus(workload: id, generation: 1, phase: .running)
        #expect(try await store.record([running], from: agent, epoch: older, now: 3).isEmpty)
        try await store.update(HostDescription(hostname: "old"), of: agent, epoch: older)
        let action = ActionRecord(
            number: 1, at: 1, workload: id, generation: 1, action: "start", reason: "", result: .succeeded,
            milliseconds: 1)
        try await store.keep([action], from: agent, epoch: older, process: "p")
        #expect(try await store.container(id)?.observed?.exitCode == 3)
        #expect(try await store.agent(agent)?.host.hostname == "h")
        #expect(try await store.history(of: id, limit: 10).isEmpty)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `requests are counted together, up to one above the limit, each user and class apart`(
        _ kind: DatabaseKind
    ) async throws {
        let database = try await TestDatabase(kind)
        let stores = [try await database.open(), try await database.open()]
        let counts = try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 0..<50 {
                group.addTask { try await stores[number % 2].countRequest(.create, by: "ann", limit: 20).window.count }
            }
            return try await group.reduce(into: [Int]()) { $0.append($1) }
        }
        #expect(counts.count { $0 <= 20 } == 20)
        #expect(counts.max() == 21)
        #expect(try await stores[0].countRequest(.create, by: "bob", limit: 20).window.count == 1)
        #expect(try await stores[0].countRequest(.list, by: "ann", limit: 20).window.count == 1)
        // What is not over is not forgotten.
        try await stores[0].forgetRequestWindows()
        #expect(try await stores[1].countRequest(.create, by: "ann", limit: 20).window.count == 21)
    }

    @Test(arguments: DatabaseKind.allCases)
    func `the first administrator is made once`(_ kind: DatabaseKind) async throws {
        let database = try await TestDatabase(kind)
        let stores = [try await database.open(), try await database.open()]
        let made = try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<8 {
                group.addTask {
                    try await stores[number % 2].createFirst(
                        UserRecord(id: "u\(number)", name: "admin", tier: .enterprise, isAdmin: true),
                        TokenRecord(
                            id: "t\(number)", userID: "u\(number)", name: "", prefix: "", scopes: [], createdAt: 1),
                        hash: "h\(number)", now: 1)
                }
            }
            return try await group.reduce(into: [Bool]()) { $0.append($1) }
        }
        #expect(made.count { $0 } == 1)
        #expect(try await stores[0].users().count == 1)
    }
}
