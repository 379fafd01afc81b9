import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Logging
import ServiceRuntime
import WebSocketTransport

/// The sessions of the agents that are connected to this control plane. Pushes what the store says; nothing that matters
/// lives here alone.
actor AgentGateway {
    /// One agent's newest session. Every handler compares its epoch before it acts.
    struct Session {
        var epoch: Int
        var owner: String
        var name: String
        let outgoing: AgentOutgoing
        var stats: HostStats?
    }

    let store: SQLiteStore
    let hub: EventHub
    let desk: ConfirmationDesk
    let operations = OperationDesk()
    let log: Logger
    private let time = ContinuousClock.now
    private var identities: [AgentID: IdentityWatch] = [:]
    private var sessions: [AgentID: Session] = [:]
    private var activity: [WorkloadID: ActivitySample] = [:]
    private var scales: [WorkloadID: ProgressScale] = [:]
    /// Which agent runs what: a container never moves, so what is known stays true.
    private var runners: [WorkloadID: AgentID] = [:]

    init(store: SQLiteStore, hub: EventHub, desk: ConfirmationDesk, log: Logger) {
        self.store = store
        self.hub = hub
        self.desk = desk
        self.log = log
    }

    // MARK: for the API

    var online: Set<AgentID> { Set(sessions.keys) }
    func isOnline(_ agent: AgentID?) -> Bool { agent.map { sessions[$0] != nil } ?? false }
    func stats(of agent: AgentID) -> HostStats? { sessions[agent]?.stats }
    func activity(of workload: WorkloadID) -> ActivitySample? { activity[workload] }

    func progress(of workload: WorkloadID) -> ProgressScale.Shown? { scales[workload]?.latest }

    /// The store holds something new for `agent`.
    func desiredStateChanged(_ agent: AgentID?) {
        if let agent { sessions[agent]?.outgoing.desiredStateChanged() }
    }

    /// Ends the session of `agent` with a goodbye; the listing says offline from now on.
    func disconnect(_ agent: AgentID, _ goodbye: ControlPlaneMessage.Goodbye) async {
        guard let session = sessions.removeValue(forKey: agent) else { return }
        await session.outgoing.end(with: goodbye)
        await wentOffline(agent, session)
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
            await publish(shown, container.id, owner: container.userID)
        }
    }

    // MARK: for sessions

    func opened(_ agent: AgentRecord, epoch: Int, process: String, outgoing: AgentOutgoing) async {
        let before = sessions[agent.id]
        let isDoubled = identities[agent.id, default: IdentityWatch()].opened(
            process: process, replacesLiveSession: before != nil, at: now)
        guard !isDoubled else { return await freeze(agent, outgoing) }
        guard (before?.epoch ?? 0) < epoch else {
            await outgoing.end(with: .init(code: .replaced, reason: "a newer session took over"))
            return
        }
        sessions[agent.id] = Session(
            epoch: epoch, owner: agent.userID, name: agent.name, outgoing: outgoing, stats: before?.stats)
        await before?.outgoing.end(with: .init(code: .replaced, reason: "a newer session took over"))
        log.info("agent connected", metadata: ["agent": "\(agent.id)", "name": "\(agent.name)", "epoch": "\(epoch)"])
        if before == nil {
            await hub.publish(
                "agent_connected", to: agent.userID, Presentation.agent(agent, isOnline: true, stats: nil))
        }
        await placeWaiting()
    }

    private var now: MonotonicInstant {
        MonotonicInstant(milliseconds: Int(time.duration(to: .now) / .milliseconds(1)))
    }

    /// Two processes take one identity from each other: both are sent away, and nothing is wanted of either until a person
    /// has looked.
    private func freeze(_ agent: AgentRecord, _ outgoing: AgentOutgoing) async {
        log.error("two programs use one agent's identity; it is frozen", metadata: ["agent": "\(agent.id)"])
        identities[agent.id] = nil
        do {
            try await store.freeze(agent.id, now: Timestamp.now())
        } catch {
            log.error("the agent cannot be frozen", metadata: ["agent": "\(agent.id)", "error": "\(error)"])
        }
        let goodbye = ControlPlaneMessage.Goodbye(
            code: .protocolViolation, reason: "two programs use this agent's identity", reconnectAfterSeconds: 300)
        await outgoing.end(with: goodbye)
        await disconnect(agent.id, goodbye)
    }

    /// What the agent knows of a workload: asked now. Nil where it is not connected or does not answer in time.
    func explain(_ workload: WorkloadID, on agent: AgentID) async -> AgentMessage.OpResult? {
        guard let session = sessions[agent] else { return nil }
        return await operations.ask(.explain, workload, through: session.outgoing)
    }

    func heard(_ events: AgentMessage.Events, from agent: AgentID, process: String) async throws {
        try await store.keep(events.items.map { $0.bounded() }, from: agent, process: process)
    }

    /// The socket of this epoch is gone. A newer session of the same agent is not touched.
    func closed(_ agent: AgentID, epoch: Int) async {
        guard let session = sessions[agent], session.epoch == epoch else { return }
        sessions[agent] = nil
        await wentOffline(agent, session)
    }

    private func wentOffline(_ agent: AgentID, _ session: Session) async {
        log.info("agent disconnected", metadata: ["agent": "\(agent)", "epoch": "\(session.epoch)"])
        try? await store.sawAgent(agent, now: Timestamp.now())
        await hub.publish(
            "agent_disconnected", to: session.owner,
            .object(["id": .string("agent:\(agent)"), "name": .string(session.name), "status": .string("offline")]))
    }

    /// Containers that wait for a host may fit now: one came, changed, or has room again.
    func placeWaiting() async {
        do {
            for container in try await store.placeWaiting(online: online) {
                log.info(
                    "container placed",
                    metadata: ["container": "\(container.id)", "agent": "\(container.agent?.text ?? "-")"])
                desiredStateChanged(container.agent)
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

    func heard(_ host: HostDescription, from agent: AgentID) async throws {
        try await store.update(host, of: agent)
        await placeWaiting()
    }

    func heard(_ stats: HostStats, from agent: AgentID) async {
        sessions[agent]?.stats = stats
        if let session = sessions[agent] {
            await hub.publish(
                "agent_stats", to: session.owner,
                .object([
                    "id": .string("agent:\(agent)"), "cpu_percent": .number(stats.cpuPercent),
                    "memory": .integer(stats.memoryBytes), "memory_limit": .integer(stats.memoryLimitBytes),
                    "disk_usage": .integer(stats.diskBytes), "disk_limit": .integer(stats.diskLimitBytes),
                    "uptime": .integer(stats.uptimeSeconds),
                ]))
        }
    }

    /// Samples count only for workloads that this agent runs.
    func heard(_ samples: [ActivitySample], from agent: AgentID) async {
        for sample in samples where await runs(sample.workload, agent) { activity[sample.workload] = sample }
    }

    /// Read from the store each time: progress is rare, and what an agent may speak of can change.
    func heard(_ progress: WorkloadProgress, from agent: AgentID) async {
        guard let container = try? await store.container(progress.workload), container.agent == agent,
            progress.generation <= container.generation, container.wish != .removed,
            let shown = scales[progress.workload, default: ProgressScale()].heard(progress)
        else { return }
        await publish(shown, progress.workload, owner: container.userID)
    }

    /// Stores statuses and tells whoever waits for them.
    func heard(_ statuses: [WorkloadStatus], from agent: AgentID) async throws {
        var hasRoomAgain = false
        for change in try await store.record(statuses, from: agent, now: Timestamp.now()) {
            let container = change.container
            await announce(change)
            if PresentedStatus.isSettled(container.observed, at: container.generation) {
                await desk.settled(container.id, generation: container.generation)
            }
            if container.observed?.phase == .removed {
                forget(container.id)
                hasRoomAgain = true
            }
        }
        if hasRoomAgain { await placeWaiting() }
    }

    /// Nothing more will be heard of it.
    func forget(_ workload: WorkloadID) {
        activity[workload] = nil
        scales[workload] = nil
        runners[workload] = nil
    }

    private func announce(_ change: SQLiteStore.StatusChange) async {
        let container = change.container
        let before = PresentedStatus.of(
            wish: container.wish, observed: change.before, everRan: container.everRan && change.before != nil)
        if let observed = container.observed, observed.phase == .running, change.before?.phase != .running,
            let shown = scales[container.id, default: ProgressScale()].ready(observed.generation)
        {
            await publish(shown, container.id, owner: container.userID)
        }
        guard container.status != before, container.wish != .removed else { return }
        let type: String
        switch container.status {
        case .running: type = "container_started"
        case .stopped: type = "container_stopped"
        case .creating, .configuring, .error: type = "container_updated"
        }
        await hub.publish(
            type, to: container.userID,
            Presentation.container(container, activity: nil, agentIsOnline: true))
    }

    private func publish(_ shown: ProgressScale.Shown, _ workload: WorkloadID, owner: String) async {
        await hub.publish(
            "container_progress", to: owner,
            .object([
                "id": .string(workload.text), "stage": .string(shown.stage), "message": .string(shown.message),
                "progress": .integer(shown.percent),
            ]))
    }

    private func runs(_ workload: WorkloadID, _ agent: AgentID) async -> Bool {
        if let known = runners[workload] { return known == agent }
        guard let container = try? await store.container(workload), container.agent == agent, container.wish != .removed
        else { return false }
        runners[workload] = agent
        return true
    }
}
