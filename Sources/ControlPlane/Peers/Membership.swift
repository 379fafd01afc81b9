import ControlPlaneStore
import Logging
import ServiceRuntime

/// Says that this control plane is there, and finds out who is gone. Each has a lease in the store; whoever does not renew
/// it is taken for dead, and its sessions for over.
actor Membership {
    private let store: Store
    private let board: NoticeBoard
    private let gateway: AgentGateway
    private let hub: EventHub
    private let housekeeping: Doorbell
    private let errands: Errands
    private let log: Logger
    private var peers: Set<String> = []
    private var renewedAt = ContinuousClock.now
    /// Others could not renew either while the database was away: until then nobody is taken for dead.
    private var judgesFrom = ContinuousClock.now
    private var isLeaving = false
    private var isFailing = false

    /// Longer than a server takes to be found out to be gone, and a standby to take over.
    static let lease = Duration.seconds(30)
    private static let renewal = Duration.seconds(5)
    /// How long agents of a control plane that ended in order have to come back elsewhere.
    private static let moving = Duration.seconds(10)
    /// A control plane that cannot reach the store for so long is of no use to its agents.
    private static let useless = Duration.seconds(60)

    init(
        store: Store, board: NoticeBoard, gateway: AgentGateway, hub: EventHub, housekeeping: Doorbell,
        errands: Errands, log: Logger
    ) {
        self.store = store
        self.board = board
        self.gateway = gateway
        self.hub = hub
        self.housekeeping = housekeeping
        self.errands = errands
        self.log = log
    }

    /// Before the first session.
    func join() async throws {
        guard board.isShared else { return }
        _ = try await renew()
        // The others know at once that their agents have somewhere else to go.
        await board.post(.alive)
        peers = try await store.servers().subtracting([board.server])
    }

    func run() async throws {
        guard board.isShared else { return }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                while true {
                    try await Task.sleep(for: Self.renewal)
                    await self.round()
                }
            }
            group.addTask {
                // Beside the rounds: one that waits for the database must not hold this up.
                while true {
                    try await Task.sleep(for: Self.renewal)
                    await self.sendAgentsAwayIfUseless()
                }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private func renew() async throws -> Bool {
        try await store.renewLease(of: board.server, seconds: Self.lease / .seconds(1))
    }

    private func round() async {
        guard !isLeaving else { return }
        do {
            let wasHeld = try await renew()
            guard !isLeaving else { return try await store.endLease(of: board.server) }
            if isFailing { log.notice("the lease is renewed again") }
            isFailing = false
            renewedAt = .now
            await board.post(.alive)
            await gateway.makeUpForFailures()
            if !wasHeld {
                log.error("the lease was over before it was renewed; sessions are announced again")
                judgesFrom = .now + Self.lease
                await gateway.announceSessions()
            }
            let now = try await store.servers().subtracting([board.server])
            guard ContinuousClock.now >= judgesFrom else { return peers.formUnion(now) }
            for gone in peers.subtracting(now) { await lost(gone) }
            peers = now
        } catch {
            if !isFailing { log.error("the lease cannot be renewed", metadata: ["error": "\(error)"]) }
            isFailing = true
        }
    }

    private func sendAgentsAwayIfUseless() async {
        guard renewedAt.duration(to: .now) > Self.useless, !peers.isEmpty else { return }
        await gateway.sendAway()
    }

    func alive(_ server: String) { if server != board.server { peers.insert(server) } }

    private func lost(_ server: String) async {
        log.error("another control plane is gone", metadata: ["server": "\(server)"])
        peers.remove(server)
        await makeUp(for: server)
    }

    /// What it had on its way may be lost: whoever listens gets a new list, and agents hear what is wanted.
    private func makeUp(for server: String) async {
        await gateway.sessionsEnded(with: server)
        await gateway.repeatDesiredState()
        await hub.refresh()
        housekeeping.ring()
    }

    func leaving(_ server: String) {
        guard server != board.server else { return }
        log.info("another control plane ends", metadata: ["server": "\(server)"])
        peers.remove(server)
        errands.add {
            do {
                try await Task.sleep(for: Self.moving)
                await self.makeUp(for: server)
            } catch {
                // This one ends, too.
            }
        }
    }

    /// After the last answer is given.
    func leave() async {
        guard board.isShared else { return }
        isLeaving = true
        await board.post(.leaving)
        await board.flush()
        try? await store.endLease(of: board.server)
    }
}
