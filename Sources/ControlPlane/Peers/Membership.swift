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
    private let log: Logger
    private var peers: Set<String> = []
    private var renewedAt = ContinuousClock.now

    /// Seconds.
    static let lease = 15.0
    private static let renewal = Duration.seconds(5)
    /// How long agents of a control plane that ended in order have to come back elsewhere.
    private static let moving = Duration.seconds(10)

    init(
        store: Store, board: NoticeBoard, gateway: AgentGateway, hub: EventHub, housekeeping: Doorbell, log: Logger
    ) {
        self.store = store
        self.board = board
        self.gateway = gateway
        self.hub = hub
        self.housekeeping = housekeeping
        self.log = log
    }

    /// Before the first session.
    func join() async throws {
        guard board.isShared else { return }
        _ = try await store.renewLease(of: board.server, seconds: Self.lease)
        peers = try await store.servers().subtracting([board.server])
    }

    func run() async throws {
        guard board.isShared else { return }
        while true {
            try await Task.sleep(for: Self.renewal)
            do {
                try await round()
            } catch {
                log.error("the lease cannot be renewed", metadata: ["error": "\(error)"])
                // The others take this one for dead by now, and its agents are of more use to them.
                if renewedAt.duration(to: .now) > .seconds(Self.lease), !peers.isEmpty { await gateway.sendAway() }
            }
        }
    }

    private func round() async throws {
        let wasHeld = try await store.renewLease(of: board.server, seconds: Self.lease)
        renewedAt = .now
        await board.post(.alive)
        if !wasHeld {
            log.error("the lease was over before it was renewed; sessions are announced again")
            await gateway.announceSessions()
        }
        let now = try await store.servers().subtracting([board.server])
        for gone in peers.subtracting(now) { await lost(gone) }
        peers = now
    }

    func alive(_ server: String) { if server != board.server { peers.insert(server) } }

    /// What it had on its way may be lost: whoever listens gets a new list, and agents hear what is wanted.
    private func lost(_ server: String) async {
        log.error("another control plane is gone", metadata: ["server": "\(server)"])
        peers.remove(server)
        await gateway.sessionsEnded(with: server)
        await gateway.repeatDesiredState()
        await hub.refresh()
        housekeeping.ring()
    }

    func leaving(_ server: String) {
        guard server != board.server else { return }
        log.info("another control plane ends", metadata: ["server": "\(server)"])
        peers.remove(server)
        Task {
            try await Task.sleep(for: Self.moving)
            await gateway.sessionsEnded(with: server)
        }
    }

    /// Its sessions have heard of the end.
    func leave() async {
        guard board.isShared else { return }
        await board.post(.leaving)
        await board.flush()
        try? await store.endLease(of: board.server)
    }
}
