import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Logging
import ServiceRuntime
import Synchronization
import WebSocketTransport

/// The sessions of the agents that are connected to this control plane, and what is known of those that are connected to
/// others. Pushes what the store says; nothing that matters lives here alone.
actor AgentGateway {
    /// One agent's newest session with this control plane. Every handler compares its epoch before it acts.
    struct Session {
        var presence: AgentPresence
        var process: String
        let outgoing: AgentOutgoing

        var epoch: Int { presence.epoch }
    }

    let store: Store
    let board: NoticeBoard
    let operations = OperationDesk()
    /// Of all that lists show and the store does not hold.
    nonisolated let changes = ChangeCounter()
    let errands: Errands
    /// Rung where containers that wait for a host may find one.
    let placement: Doorbell
    let log: Logger
    private let time = ContinuousClock.now
    var identities: [AgentID: IdentityWatch] = [:]
    var sessions: [AgentID: Session] = [:] { didSet { connectionsChanged() } }
    /// As the notices tell it: a moment behind, and the same everywhere.
    var presences = AgentPresences() { didSet { connectionsChanged() } }
    var stats: [AgentID: HostStats] = [:] { didSet { changes.add() } }
    var activity: [WorkloadID: ActivitySample] = [:] { didSet { changes.add() } }
    var scales: [WorkloadID: ProgressScale] = [:] { didSet { changes.add() } }
    /// Those whose owner has heard that they will be stopped for their idleness, and since when; and those that are being
    /// stopped for it.
    var idlePending: [WorkloadID: MonotonicInstant] = [:]
    var idleStops: Set<WorkloadID> = []
    /// Which agent runs what: a container never moves, so what is known stays true.
    private var runners: [WorkloadID: AgentID] = [:]
    /// Who waits for an agent to be gone.
    var departures: [AgentID: [CheckedContinuation<Void, Never>]] = [:]

    private nonisolated let knownOnline = Mutex<Set<AgentID>?>(nil)

    /// Ends of sessions that could not be stored.
    private var unstoredEnds: [AgentID: Int] = [:]
    var hasFailedToFindOut = false
    var mustLookAgain = false
    /// What was heard of sessions while the store was asked for them; nil where nobody asks.
    var heardWhileLooking: [SessionNews]?

    enum SessionNews: Sendable {
        case opened(AgentPresence)
        case closed(AgentID, epoch: Int)
    }

    init(store: Store, board: NoticeBoard, errands: Errands, placement: Doorbell, log: Logger) {
        self.store = store
        self.board = board
        self.errands = errands
        self.placement = placement
        self.log = log
    }

    // MARK: for the API

    /// Made once until somebody comes or goes: a creation is no work for the whole fleet, and mostly waits for nobody here.
    nonisolated var online: Set<AgentID> {
        get async {
            if let known = knownOnline.withLock({ $0 }) { return known }
            return await findOnline()
        }
    }

    private func findOnline() -> Set<AgentID> {
        let all = Set(sessions.keys).union(presences.all.values.filter { $0.server != board.server }.map(\.agent))
        knownOnline.withLock { $0 = all }
        return all
    }

    private func connectionsChanged() {
        knownOnline.withLock { $0 = nil }
        changes.add()
    }

    func isOnline(_ agent: AgentID?) -> Bool {
        guard let agent else { return false }
        return sessions[agent] != nil || isElsewhere(agent)
    }

    func isElsewhere(_ agent: AgentID) -> Bool { presences.all[agent].map { $0.server != board.server } ?? false }

    func stats(of agent: AgentID) -> HostStats? { stats[agent] }

    func state(of agent: AgentID?) async throws -> HostState {
        guard let agent, !isOnline(agent) else { return agent == nil ? .offline : .online }
        return try await store.deletedAgents(among: [agent]).isEmpty ? .offline : .gone
    }

    /// What lives in memory alone of a container.
    struct Live: Sendable {
        var host: HostState
        var activity: ActivitySample?
        var progress: ProgressScale.Shown?
    }

    /// In the order of `containers`.
    func live(_ containers: [ContainerRecord]) async throws -> [Live] {
        let away = Set(containers.compactMap(\.agent).filter { !isOnline($0) })
        let gone = away.isEmpty ? [] : try await store.deletedAgents(among: away)
        return containers.map { container in
            let isGone = container.agent.map(gone.contains) ?? false
            let host: HostState = isOnline(container.agent) ? .online : isGone ? .gone : .offline
            return Live(host: host, activity: activity[container.id], progress: scales[container.id]?.latest)
        }
    }

    /// The store holds something new for `agent`, whoever it is connected to.
    func desiredStateChanged(_ agent: AgentID?) async {
        guard let agent else { return }
        if board.isShared { tellDesiredState(agent) }
        await board.post(.desiredStateChanged(agent))
    }

    /// Ends the session of `agent` with a goodbye, whoever it is connected to; the listing says offline from now on.
    func disconnect(_ agent: AgentID, _ goodbye: ControlPlaneMessage.Goodbye) async {
        await disconnectHere(agent, goodbye)
        guard board.isShared else { return }
        // Also where nothing is known of a session elsewhere: it may have begun a moment ago.
        await board.post(.disconnect(agent, goodbye))
        await departure(of: agent)
    }

    /// All sessions end in order: the control plane restarts.
    func drain() async {
        for (agent, session) in sessions {
            sessions[agent] = nil
            await session.outgoing.end(
                with: .init(code: .draining, reason: "the control plane restarts", reconnectAfterSeconds: nil))
        }
    }

    func createRequested(_ container: ContainerRecord) async {
        if let shown = scales[container.id, default: ProgressScale()].validating(container.generation) {
            await publish(shown, container.id, container.generation, owner: container.userID)
        }
    }

    // MARK: for sessions

    func opened(_ agent: AgentRecord, epoch: Int, process: String, outgoing: AgentOutgoing) async {
        let before = sessions[agent.id]
        guard (before?.epoch ?? 0) < epoch else {
            return await outgoing.end(with: .init(code: .replaced, reason: "a newer session took over"))
        }
        let presence = AgentPresence(
            agent: agent.id, owner: agent.userID, name: agent.name, epoch: epoch, server: board.server)
        sessions[agent.id] = Session(presence: presence, process: process, outgoing: outgoing)
        await before?.outgoing.end(with: .init(code: .replaced, reason: "a newer session took over"))
        log.info("agent connected", metadata: ["agent": "\(agent.id)", "name": "\(agent.name)", "epoch": "\(epoch)"])
        await board.post(
            .opened(
                presence, process: process, entry: Presentation.agent(agent, isOnline: true, stats: nil)))
        placement.ring()
        // Deleted while it connected: whoever deleted it found no session to end.
        let isKnown = try? await store.agent(agent.id) != nil
        if isKnown == false {
            await disconnectHere(agent.id, .init(code: .deleted, reason: "this agent was deleted"))
        }
    }

    var now: MonotonicInstant {
        MonotonicInstant(milliseconds: Int(time.duration(to: .now) / .milliseconds(1)))
    }

    func heard(
        _ events: AgentMessage.Events, from agent: AgentID, epoch: Int, process: String
    ) async throws {
        try await store.keep(
            events.items.map { $0.bounded() }, from: agent, epoch: epoch, process: process)
    }

    /// The socket of this epoch is gone. A newer session of the same agent is not touched.
    func closed(_ agent: AgentID, epoch: Int) async {
        guard let session = sessions[agent], session.epoch == epoch else { return }
        sessions[agent] = nil
        await wentOffline(agent, session)
    }

    func wentOffline(_ agent: AgentID, _ session: Session) async {
        log.info("agent disconnected", metadata: ["agent": "\(agent)", "epoch": "\(session.epoch)"])
        await store(endOf: agent, session.epoch)
        await board.post(.closed(agent, epoch: session.epoch))
    }

    func storeLater(endOf agent: AgentID, _ epoch: Int) { unstoredEnds[agent] = max(epoch, unstoredEnds[agent] ?? 0) }

    private func store(endOf agent: AgentID, _ epoch: Int) async {
        do {
            try await store.closeSession(agent, epoch: epoch, now: Timestamp.now())
        } catch {
            storeLater(endOf: agent, epoch)
        }
    }

    /// Others read from the store who is connected.
    func storeEnds() async {
        let ends = unstoredEnds
        unstoredEnds = [:]
        for (agent, epoch) in ends {
            await store(endOf: agent, epoch)
            if unstoredEnds[agent] == nil { await board.post(.closed(agent, epoch: epoch)) }
        }
    }

    /// Places what waits whenever something has changed, one look at a time, until the task is cancelled.
    func runPlacement() async {
        for await _ in placement.rings {
            // Containers that come together are placed together, and nobody's request is held up by it.
            try? await Task.sleep(for: .milliseconds(20))
            await placeWaiting()
        }
    }

    /// Containers that wait for a host may fit now: one came, changed, or has room again.
    private func placeWaiting() async {
        do {
            var page: Store.WaitingPage? = .first
            while let current = page {
                let outcome = try await store.placeWaiting(current, online: online)
                for container in outcome.placed {
                    log.info(
                        "container placed",
                        metadata: ["container": "\(container.id)", "agent": "\(container.agent?.text ?? "-")"])
                    await desiredStateChanged(container.agent)
                    await board.post(
                        .event(
                            user: container.userID, type: "container_updated",
                            data: Presentation.container(container, activity: nil, host: .online)))
                }
                // A host was full by the time its container was stored: there may be another.
                if outcome.isOutdated { placement.ring() }
                page = outcome.next
            }
        } catch {
            log.error("waiting containers cannot be placed", metadata: ["error": "\(error)"])
        }
    }

    func isCurrent(_ agent: AgentID, epoch: Int) -> Bool { sessions[agent]?.epoch == epoch }

    func refused(_ agent: AgentID, _ nack: AgentMessage.Nack) {
        log.warning(
            "agent refused desired state",
            metadata: ["agent": "\(agent)", "workload": "\(nack.workload?.text ?? "-")", "reason": "\(nack.reason)"])
    }

    func heard(_ host: HostDescription, from agent: AgentID, epoch: Int) async throws {
        try await store.update(host, of: agent, epoch: epoch)
        placement.ring()
    }

    func heard(_ stats: HostStats, from agent: AgentID) async {
        if let session = sessions[agent] { await board.post(.stats(agent, owner: session.presence.owner, stats)) }
    }

    /// Samples count only for workloads that this agent runs.
    func heard(_ samples: [ActivitySample], from agent: AgentID) async {
        if samples.contains(where: { runners[$0.workload] == nil }) {
            for workload in (try? await store.workloads(of: agent)) ?? [] { runners[workload] = agent }
        }
        let own = samples.filter { runners[$0.workload] == agent }
        guard !own.isEmpty else { return }
        weighIdleness(own, from: agent)
        await board.post(.activity(own))
    }

    /// Read from the store each time: progress is rare, and what an agent may speak of can change.
    func heard(_ progress: WorkloadProgress, from agent: AgentID) async {
        guard let container = try? await store.container(progress.workload), container.agent == agent,
            progress.generation <= container.generation, container.wish != .removed,
            let shown = scales[progress.workload, default: ProgressScale()].heard(progress)
        else { return }
        await publish(shown, progress.workload, progress.generation, owner: container.userID)
    }

    /// Stores statuses and tells whoever waits for them.
    func heard(_ statuses: [WorkloadStatus], from agent: AgentID, epoch: Int) async throws {
        var hasRoomAgain = false
        for change in try await store.record(
            statuses, from: agent, epoch: epoch, now: Timestamp.now())
        {
            let container = change.container
            await announce(change)
            let isRemoved = container.observed?.phase == .removed
            if isRemoved || PresentedStatus.isSettled(container.observed, at: container.generation) {
                await board.post(.settled(container.id, generation: container.generation, isRemoved: isRemoved))
            }
            if isRemoved { hasRoomAgain = true }
        }
        if hasRoomAgain { placement.ring() }
    }

    /// Nothing more will be heard of it.
    func forget(_ workload: WorkloadID) {
        activity[workload] = nil
        scales[workload] = nil
        runners[workload] = nil
        idlePending[workload] = nil
    }

    private func announce(_ change: Store.StatusChange) async {
        let container = change.container
        let before = PresentedStatus.of(
            wish: container.wish, observed: change.before, everRan: container.everRan && change.before != nil)
        if let observed = container.observed, observed.phase == .running, change.before?.phase != .running,
            let shown = scales[container.id, default: ProgressScale()].ready(observed.generation)
        {
            await publish(shown, container.id, observed.generation, owner: container.userID)
        }
        guard container.status != before, container.wish != .removed else { return }
        let type: String
        switch container.status {
        case .running: type = "container_started"
        case .stopped: type = "container_stopped"
        case .creating, .configuring, .error: type = "container_updated"
        }
        await board.post(
            .event(
                user: container.userID, type: type,
                data: Presentation.container(container, activity: nil, host: .online)))
    }

    private func publish(
        _ shown: ProgressScale.Shown, _ workload: WorkloadID, _ generation: Generation, owner: String
    ) async {
        await board.post(.progress(workload, owner: owner, generation: generation, shown))
    }
}

/// Counts changes, for who keeps what was made before them.
final class ChangeCounter: Sendable {
    private let number = Atomic<Int>(0)
    var count: Int { number.load(ordering: .acquiring) }
    func add() { number.wrappingAdd(1, ordering: .acquiringAndReleasing) }
}
