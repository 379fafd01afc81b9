import AgentProtocol
import BerthModel
import ControlPlaneStore
import Logging
import ServiceRuntime

/// Containers that are stopped because nobody uses them: their agents say when, their owners hear of it before, and
/// the stop is a change of what is wanted like any other. Decision 0023.
extension AgentGateway {
    /// Seconds before a stop at which its owner hears of it.
    static let idleNotice = 60.0
    /// Of one host at a time.
    static let mostIdleStops = 5

    /// - Parameter samples: of the agent's own workloads, one of each.
    func weighIdleness(_ samples: [ActivitySample], from agent: AgentID) {
        var stops = 0
        for sample in samples {
            let workload = sample.workload
            let told = idlePending[workload]
            guard let left = sample.stopsInSeconds, left <= Self.idleNotice else {
                // Nobody hears of one container more than once a minute.
                if let told, now - told >= .seconds(Int(Self.idleNotice)) { idlePending[workload] = nil }
                continue
            }
            if told == nil {
                idlePending[workload] = now
                let (idle, left) = (sample.idleSeconds ?? 0, max(0, left))
                errands.add { await self.announceIdle(workload, idleSeconds: idle, stopsInSeconds: left) }
            } else if left <= 0, stops < Self.mostIdleStops, idleStops.insert(workload).inserted {
                stops += 1
                errands.add { await self.stopIdle(workload, on: agent) }
            }
        }
    }

    private func announceIdle(_ workload: WorkloadID, idleSeconds: Double, stopsInSeconds: Double) async {
        guard let container = try? await store.container(workload), container.wish == .running,
            container.spec.idleTimeoutSeconds != nil
        else {
            // Nobody has heard of it.
            idlePending[workload] = nil
            return
        }
        await board.post(
            .event(
                user: container.userID, type: "container_idle_pending",
                data: Presentation.idlePending(container, idleSeconds: idleSeconds, stopsInSeconds: stopsInSeconds)))
    }

    private func stopIdle(_ workload: WorkloadID, on agent: AgentID) async {
        defer { idleStops.remove(workload) }
        do {
            guard let container = try await store.container(workload), container.agent == agent,
                container.wish == .running, container.spec.idleTimeoutSeconds != nil,
                // What its agent has not heard of yet is its owner's last word.
                container.observed?.generation == container.generation, let session = sessions[agent]
            else { return }
            // What was said may be old: the agent looks again.
            let answer = await operations.ask(.stopIfIdle, workload, through: session.outgoing)
            guard answer?.ok == true else {
                log.info(
                    "not idle any more",
                    metadata: ["container": "\(workload)", "answer": "\(answer?.error?.prefix(200) ?? "none")"])
                return
            }
            let now = Timestamp.now()
            let change = try await store.change(workload, now: now, respectsLock: false) { record in
                // Used or held meanwhile: its owner's word came first.
                guard record.generation == container.generation, record.spec == container.spec,
                    (record.spec.heldUntil ?? 0) <= now
                else { return }
                record.wish = .stopped
            }
            guard case .changed(let stopped) = change, stopped.wish == .stopped,
                stopped.generation == container.generation + 1
            else { return }
            log.info(
                "container stopped: idle",
                metadata: ["container": "\(workload)", "seconds": "\(container.spec.idleTimeoutSeconds ?? 0)"])
            await desiredStateChanged(agent)
        } catch {
            log.error(
                "an idle container cannot be stopped", metadata: ["container": "\(workload)", "error": "\(error)"])
        }
    }
}
