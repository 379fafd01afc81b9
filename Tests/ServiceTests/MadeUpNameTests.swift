import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import HTTPTypes
import Logging
import ServiceRuntime
import Simulation
import Synchronization
import Testing

@testable import ControlPlane

/// What makes containers, on a store and without a server or a host.
struct ContainerStage: Sendable {
    let service: ContainerService

    /// - Parameter madeUpName: nil takes what the control plane makes up.
    init(_ store: Store, madeUpName: (@Sendable () -> String)? = nil) throws {
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let board = NoticeBoard(server: "s", channel: nil, log: log)
        var service = ContainerService(
            store: store,
            gateway: AgentGateway(store: store, board: board, errands: Errands(), placement: Doorbell(), log: log),
            board: board, desk: ConfirmationDesk(),
            configuration: try ServerConfiguration.load(file: nil, environment: [:]), housekeeping: Doorbell(),
            announcements: Announcements())
        if let madeUpName { service.madeUpName = madeUpName }
        self.service = service
    }

    func create(_ name: String? = nil, for user: UserRecord) async throws -> ContainerRecord {
        try await service.create(
            ContainerService.CreateOrder(
                name: name, image: "alpine", role: "", resources: ResourceRequest(), environment: [:], labels: [:]),
            for: user)
    }
}

/// Names from the seeds of a list; after its end from the last of them.
private final class MadeUpNames: Sendable {
    private struct State {
        var seeds: [UInt64]
        var asked = 0
    }

    private let state: Mutex<State>

    init(_ seeds: [UInt64]) { state = Mutex(State(seeds: seeds)) }

    static func name(_ seed: UInt64) -> String {
        var random = SplitMix(seed: seed)
        return ContainerName.generated(using: &random)
    }

    func next() -> String {
        let seed = state.withLock { state -> UInt64 in
            state.asked += 1
            return state.seeds.count > 1 ? state.seeds.removeFirst() : state.seeds.first ?? 0
        }
        return Self.name(seed)
    }

    /// How often a name was made up since the last look.
    func asked() -> Int {
        state.withLock { state -> Int in
            defer { state.asked = 0 }
            return state.asked
        }
    }
}

/// What becomes of a name that nobody has chosen and somebody has.
@Suite struct NamesMadeUp {
    private let user = UserRecord(id: "u1", name: "ann", tier: .pro, isAdmin: false)
    private let taken: UInt64 = 1
    private let free: UInt64 = 2

    @Test(arguments: DatabaseKind.allCases)
    func `a made-up name that is taken is made up again, and after five that are taken it is a 409`(
        _ kind: DatabaseKind
    ) async throws {
        let database = try await TestDatabase(kind)
        let store = try await database.open()
        _ = try await store.create(user, now: 1)
        let names = MadeUpNames([taken, taken, taken, taken, taken, free, taken])
        let stage = try ContainerStage(store) { names.next() }
        #expect(MadeUpNames.name(taken) != MadeUpNames.name(free))

        let first = try await stage.create(for: user)
        #expect(first.spec.name == MadeUpNames.name(taken) && names.asked() == 1)
        // Four that are taken, and one that is not.
        let second = try await stage.create(for: user)
        #expect(second.spec.name == MadeUpNames.name(free) && second.id != first.id)
        #expect(names.asked() == 5)
        // None is free: it ends.
        let refusal = await #expect(throws: APIError.self) { try await stage.create(for: user) }
        #expect(refusal?.status == .conflict)
        #expect(refusal?.fields == ["error": .string("container name already exists")])
        #expect(names.asked() == 5)
        // A name that was chosen is not made up again.
        let chosen = await #expect(throws: APIError.self) { try await stage.create(first.spec.name, for: user) }
        #expect(chosen?.status == .conflict && names.asked() == 0)
        let all = try await store.containers(of: user.id)
        #expect(Set(all.map(\.id)) == [first.id, second.id])
        // Of another user it is free.
        let other = UserRecord(id: "u2", name: "bob", tier: .pro, isAdmin: false)
        _ = try await store.create(other, now: 1)
        let same = try await stage.create(for: other)
        #expect(same.spec.name == first.spec.name && names.asked() == 1)
    }
}
