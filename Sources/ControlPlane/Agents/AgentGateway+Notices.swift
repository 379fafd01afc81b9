import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Logging
import ServiceRuntime

/// What notices of all control planes, this one included, mean for sessions and for what is shown.
extension AgentGateway {
    /// How long whoever asks waits for another control plane.
    private static let patience = Duration.seconds(6)

    // MARK: what is shown

    func adopt(_ shown: ProgressScale.Shown, _ generation: Generation, of workload: WorkloadID) {
        scales[workload, default: ProgressScale()].adopt(shown, generation)
    }

    func adopt(_ latest: HostStats, of agent: AgentID) { stats[agent] = latest }

    func adopt(_ samples: [ActivitySample]) { for sample in samples { activity[sample.workload] = sample } }

    // MARK: sessions

    func tellDesiredState(_ agent: AgentID) { sessions[agent]?.outgoing.desiredStateChanged() }

    func sessionOpened(_ presence: AgentPresence, process: String) async -> AgentPresences.Opening {
        let agent = presence.agent
        heardWhileLooking?.append(.opened(presence))
        let isNewer = presences.all[agent].map { $0.epoch < presence.epoch } ?? true
        let replacesLiveSession = presences.all[agent] != nil
        let opening = presences.opened(presence)
        if presence.server != board.server, let mine = sessions[agent], mine.epoch < presence.epoch {
            sessions[agent] = nil
            await mine.outgoing.end(with: .init(code: .replaced, reason: "a newer session took over"))
        }
        // Announced again, it is the same session.
        guard isNewer,
            identities[agent, default: IdentityWatch()].opened(
                process: process, replacesLiveSession: replacesLiveSession, at: now)
        else { return opening }
        identities[agent] = nil
        errands.add { await self.freeze(agent) }
        return opening
    }

    /// Two processes take one identity from each other: both are sent away, and nothing is wanted of either until a person
    /// has looked.
    private func freeze(_ agent: AgentID) async {
        log.error("two programs use one agent's identity; it is frozen", metadata: ["agent": "\(agent)"])
        do {
            try await store.freeze(agent, now: Timestamp.now())
        } catch {
            log.error("the agent cannot be frozen", metadata: ["agent": "\(agent)", "error": "\(error)"])
        }
        await disconnectHere(
            agent,
            .init(
                code: .protocolViolation, reason: "two programs use this agent's identity", reconnectAfterSeconds: 300)
        )
    }

    /// - Returns: the session that was over; nil where the agent has a newer one.
    func sessionClosed(_ agent: AgentID, epoch: Int) -> AgentPresence? {
        heardWhileLooking?.append(.closed(agent, epoch: epoch))
        // Taken for dead by another control plane, and alive.
        if let mine = sessions[agent], mine.epoch == epoch { errands.add { await self.announce(mine) } }
        guard let closed = presences.closed(agent, epoch: epoch) else { return nil }
        stats[agent] = nil
        endDeparture(of: agent)
        return closed
    }

    func disconnectHere(_ agent: AgentID, _ goodbye: ControlPlaneMessage.Goodbye) async {
        guard let session = sessions.removeValue(forKey: agent) else { return }
        await session.outgoing.end(with: goodbye)
        await wentOffline(agent, session)
    }

    /// Until another control plane has said that the agent is gone, but not for long.
    func departure(of agent: AgentID) async {
        await withDiscardingTaskGroup { group in
            group.addTask {
                try? await Task.sleep(for: Self.patience)
                await self.endDeparture(of: agent)
            }
            await withCheckedContinuation { continuation in
                if isElsewhere(agent) {
                    departures[agent, default: []].append(continuation)
                } else {
                    continuation.resume()
                }
            }
            group.cancelAll()
        }
    }

    private func endDeparture(of agent: AgentID) {
        for waiter in departures.removeValue(forKey: agent) ?? [] { waiter.resume() }
    }

    // MARK: questions to an agent

    /// What the agent knows of a workload: asked now, through whoever it is connected to. Nil where it is not connected or
    /// does not answer in time.
    func explain(_ workload: WorkloadID, on agent: AgentID) async -> AgentMessage.OpResult? {
        if let session = sessions[agent] { return await operations.ask(.explain, workload, through: session.outgoing) }
        guard isElsewhere(agent) else { return nil }
        return await operations.ask(atMost: Self.patience) { [board] op in
            await board.post(.explain(op: op, workload, on: agent))
        }
    }

    /// Another control plane asks. It hears nothing of an agent that is not connected here.
    func answer(_ op: String, _ workload: WorkloadID, on agent: AgentID) async {
        guard let session = sessions[agent] else { return }
        var result = await operations.ask(.explain, workload, through: session.outgoing)
        // More than whoever asks would take.
        if let answer = result?.answer, answer.utf8.count > ContainerRoutes.mostExplanationBytes {
            result = AgentMessage.OpResult(op: op, ok: false, error: "the agent's answer is too long")
        }
        await board.post(.answered(op: op, result))
    }

    // MARK: when notices were missed, or others are gone

    /// Reads from the store who is connected, and tells each agent that is connected here to look.
    func findOutAnew() async {
        guard heardWhileLooking == nil else {
            // One look at a time; the one under way may have begun too early.
            mustLookAgain = true
            return
        }
        repeat {
            mustLookAgain = false
            heardWhileLooking = []
            await look()
            heardWhileLooking = nil
        } while mustLookAgain
        for agent in departures.keys where !isElsewhere(agent) { endDeparture(of: agent) }
        repeatDesiredState()
    }

    private func look() async {
        do {
            let stored = try await store.presences()
            let deleted = try await store.deletedAgents(with: board.server)
            hasFailedToFindOut = false
            var found = AgentPresences()
            for presence in stored where presence.server != board.server { _ = found.opened(presence) }
            for session in sessions.values { _ = found.opened(session.presence) }
            // Heard after the store had answered, or before: their epochs tell.
            for news in heardWhileLooking ?? [] {
                switch news {
                case .opened(let presence): _ = found.opened(presence)
                case .closed(let agent, let epoch): _ = found.closed(agent, epoch: epoch)
                }
            }
            presences = found
            stats = stats.filter { found.all[$0.key] != nil }
            for presence in found.all.values where presence.server != board.server {
                guard let mine = sessions.removeValue(forKey: presence.agent) else { continue }
                await mine.outgoing.end(with: .init(code: .replaced, reason: "a newer session took over"))
            }
            for agent in deleted {
                await disconnectHere(agent, .init(code: .deleted, reason: "this agent was deleted"))
            }
        } catch {
            if !hasFailedToFindOut { log.error("who is connected cannot be read", metadata: ["error": "\(error)"]) }
            hasFailedToFindOut = true
        }
    }

    func repeatDesiredState() { for session in sessions.values { session.outgoing.desiredStateChanged() } }

    /// What could not be done while the store was away.
    func makeUpForFailures() async {
        await storeEnds()
        if hasFailedToFindOut { await findOutAnew() }
        let now = now
        identities = identities.filter { !$0.value.isForgotten(at: now) }
    }

    /// Others may have taken them for over.
    func announceSessions() async { for session in sessions.values { await announce(session) } }

    private func announce(_ session: Session) async {
        guard let agent = try? await store.agent(session.presence.agent) else { return }
        await board.post(
            .opened(
                session.presence, process: session.process,
                entry: Presentation.agent(agent, isOnline: true, stats: nil)))
    }

    /// Says so once for each session of a control plane that is gone; who of several says it first does not matter.
    func sessionsEnded(with server: String) async {
        for presence in presences.with(server) { await board.post(.closed(presence.agent, epoch: presence.epoch)) }
    }

    /// The store cannot be reached from here: agents are of more use to control planes that can.
    func sendAway() async {
        guard !sessions.isEmpty else { return }
        log.error("sending the agents to other control planes", metadata: ["agents": "\(sessions.count)"])
        let leaving = sessions
        sessions = [:]
        for (agent, session) in leaving {
            await session.outgoing.end(
                with: .init(code: .draining, reason: "this control plane cannot reach its database"))
            // The store is what cannot be reached.
            storeLater(endOf: agent, session.epoch)
            await board.post(.closed(agent, epoch: session.epoch))
        }
    }
}
