import ControlPlaneCore
import ServiceRuntime

/// Brings each notice to whom it concerns. Nothing here waits for the store: the notices behind would wait too.
struct NoticeReader: NoticeBoard.Reader {
    let gateway: AgentGateway
    let hub: EventHub
    let desk: ConfirmationDesk
    let revocations: Revocations
    let membership: Membership
    let errands: Errands
    /// Rung where containers that wait for a host may find one.
    let placement: Doorbell

    func heard(_ envelope: NoticeEnvelope, number: Int?) async {
        let stamp = EventHub.Stamp(number: number, time: envelope.at)
        switch envelope.notice {
        case .alive: await membership.alive(envelope.from)
        case .leaving: await membership.leaving(envelope.from)
        case .event(let user, let type, let data): await hub.publish(type, to: user, data, stamp)
        case .desiredStateChanged(let agent): await gateway.tellDesiredState(agent)
        case .settled(let workload, let generation, let isRemoved):
            await desk.settled(workload, generation: generation)
            if isRemoved { await gateway.forget(workload) }
        case .progress(let workload, let owner, let generation, let shown):
            await gateway.adopt(shown, generation, of: workload)
            await hub.publish("container_progress", to: owner, Presentation.progress(shown, of: workload), stamp)
        case .stats(let agent, let owner, let stats):
            await gateway.adopt(stats, of: agent)
            await hub.publish("agent_stats", to: owner, Presentation.stats(stats, of: agent), stamp)
        case .activity(let samples): await gateway.adopt(samples)
        case .opened(let presence, let process, let entry):
            if await gateway.sessionOpened(presence, process: process) == .connected {
                await hub.publish("agent_connected", to: presence.owner, entry, stamp)
            }
        case .closed(let agent, let epoch):
            if let presence = await gateway.sessionClosed(agent, epoch: epoch) {
                await hub.publish("agent_disconnected", to: presence.owner, Presentation.offline(presence), stamp)
            }
        case .disconnect(let agent, let goodbye):
            errands.add { await gateway.disconnectHere(agent, goodbye) }
        case .explain(let op, let workload, let agent):
            errands.add { await gateway.answer(op, workload, on: agent) }
        case .answered(let op, let result): await gateway.operations.answered(op, result)
        case .placementWanted: placement.ring()
        case .missed: await missedSomething(before: number)
        case .revoked(let token): await revocations.revoked(token)
        }
        if let number { await hub.heard(number) }
    }

    func missedSomething(before number: Int?) async {
        if let number { await hub.begin(at: number) }
        await revocations.checkAll()
        await desk.checkAll()
        errands.add {
            await gateway.findOutAnew()
            // With what was found out.
            await hub.refresh()
            placement.ring()
        }
    }
}
