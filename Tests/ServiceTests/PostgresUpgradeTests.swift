import BerthModel
import ControlPlaneCore
import Testing

@testable import ControlPlaneStore

/// A new version brings the tables up to date while an earlier one goes on with them.
@Suite struct PostgresUpgrades {
    /// Counts what the earlier version has done, for who waits for it.
    private actor Rounds {
        private(set) var number = 0
        private(set) var isOver = false
        private var waiting: (number: Int, continuation: CheckedContinuation<Void, Never>)?

        func count() {
            number += 1
            if let waiting, number >= waiting.number { resume() }
        }

        /// Also returns where there will be no more of them.
        func reached(_ wanted: Int) async {
            guard number < wanted, !isOver else { return }
            await withCheckedContinuation { waiting = (wanted, $0) }
        }

        func end() {
            isOver = true
            resume()
        }

        private func resume() {
            waiting?.continuation.resume()
            waiting = nil
        }
    }

    /// Lives one container after the other until it is told to end.
    private func live(_ earlier: EarlierVersion, _ rounds: Rounds) async throws {
        do {
            while await !rounds.isOver, !Task.isCancelled {
                let number = await rounds.number
                try await earlier.live("c\(number)")
                await rounds.count()
            }
        } catch {
            await rounds.end()
            throw error
        }
    }

    private func untilStepWaits(_ earlier: EarlierVersion) async throws {
        for _ in 0..<400 {
            if try await earlier.isWaitedForContainers() { return }
            // The server tells nobody that it waits.
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("the step did not wait for a transaction that was under way")
    }

    @Test(.timeLimit(.minutes(2)))
    func `an earlier version works on before, during and after the steps of a later one, and both read the same`()
        async throws
    {
        let database = try await TestDatabase(.postgres)
        let earlier = try await EarlierVersion(database)
        let rounds = Rounds()
        async let living: Void = live(earlier, rounds)
        await rounds.reached(3)

        // The step begins while a transaction of the earlier version is open, and another one comes behind it.
        guard case .postgres(let address, _) = database.place else { return }
        let held = try await PostgresConnection.open(try PostgresLibrary.shared.get(), address)
        try await held.perform { session in
            var isDone = false
            while !isDone {
                try session.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
                do {
                    try EarlierVersion.insert("held", session)
                    isDone = true
                } catch let error as PostgresError where error.isWorthRetrying {
                    // The loop beside it changes the same host.
                    try session.execute("ROLLBACK")
                }
            }
        }
        async let opening = database.open()
        try await untilStepWaits(earlier)
        async let behind: Void = earlier.create("behind")
        try await held.perform { try $0.commit() }
        let store = try await opening
        try await behind
        #expect(try await store.migrations() == PostgresSchema.steps.map(\.name))

        let atStep = await rounds.number
        await rounds.reached(atStep + 3)
        await rounds.end()
        try await living
        let lived = await rounds.number
        #expect(lived >= atStep + 3)
        try await isRead(store, ids: Set((0..<lived).map { "c\($0)" }).union(["held", "behind"]), lived: lived)
        try await isWritten(store, earlier)
    }

    /// What the earlier version wrote is what the later one reads.
    private func isRead(_ store: Store, ids: Set<String>, lived: Int) async throws {
        let containers = try await store.containers(of: "u1")
        #expect(Set(containers.map(\.id.text)) == ids)
        for container in containers {
            let isUntouched = ["held", "behind"].contains(container.id.text)
            let spec = container.spec
            #expect(container.agent?.text == "a1" && container.wish == .running && spec.image == "alpine:latest")
            #expect(spec.name == container.id.text && spec.environment == ["A": "b"] && spec.ports == nil)
            #expect(spec.resources.memoryMB == 256 && spec.volumes.map(\.volume) == ["berth-\(container.id)"])
            #expect(container.generation == (isUntouched ? 1 : 2) && container.everRan == !isUntouched)
            let phase: WorkloadPhase? = isUntouched ? nil : .running
            #expect(container.observed?.phase == phase)
        }
        let agent = AgentID(validated: "a1")
        #expect(Set(try await store.desiredState(of: agent).workloads.keys.map(\.text)) == ids)
        #expect(try await store.agent(agent)?.host.engine?.runtimes == ["runc"])
        let caller = try await store.authenticate(hash: "hash", now: 2)
        #expect(caller?.user.name == "ann" && caller?.token.scopes == [.read, .write])
        let records = try await store.audit(before: .max, user: "ann", limit: 1000)
        #expect(Set(records.compactMap(\.object)) == Set((0..<lived).map { "c\($0)" }))
    }

    /// What the later version writes is what the earlier one reads and goes on with.
    private func isWritten(_ store: Store, _ earlier: EarlierVersion) async throws {
        let bob = UserRecord(id: "u2", name: "bob", tier: .pro, isAdmin: false)
        _ = try await store.create(bob, now: 1)
        let made = try await ContainerStage(store).create("of-the-later", for: bob)
        #expect(try await earlier.list(of: "u2") == [made.id.text])
        let removed = WorkloadID(validated: "c0")
        let change = try await store.change(removed, now: 9) {
            $0.wish = .removed
            $0.deletedAt = 9
        }
        guard case .changed(let gone) = change else {
            Issue.record("\(change)")
            return
        }
        #expect(gone.generation == 3)
        let left = try await store.containers(of: "u1").map(\.id.text)
        #expect(!left.contains("c0"))
        #expect(try await earlier.list(of: "u1") == Set(left))
        try await earlier.live("last")
        #expect(try await store.container(WorkloadID(validated: "last"))?.observed?.phase == .running)
    }
}
