package import BerthModel

/// Decides what one pass does. Pure: the same input, in any order, gives the same plan.
///
/// `docs/reconcile.md` has the table of states that this file and `WorkloadPlanner` implement.
package enum Planner {
    /// Most creates and starts at once on a host: more make each of them slower without finishing all of them sooner.
    package static let mostLaunches = 12

    /// - Parameters:
    ///   - desired: the last accepted and stored state.
    ///   - observed: one complete look at the Engine.
    ///   - memory: with the deaths of this look already counted (`ReconcileMemory.noticing`).
    ///   - policy: what the owner of the host allows.
    ///   - expired: workloads whose session is over.
    package static func plan(
        desired: DesiredState, observed: ObservedHost, memory: ReconcileMemory, now: MonotonicInstant,
        policy: HostPolicy = HostPolicy(), expired: Set<WorkloadID> = []
    ) -> Plan {
        var plan = Plan()
        let containers = Dictionary(grouping: observed.managed, by: \.workload)
        let surplus = policy.surplus(of: desired, observed: observed)
        var candidates: [(urgency: Int, step: Step)] = []

        for id in desired.workloads.keys.sorted() {
            guard let workload = desired.workloads[id] else { continue }
            let decision = WorkloadPlanner(
                workload: workload, containers: containers[id] ?? [], observed: observed,
                memory: memory.memory(of: workload), inFlight: memory.inFlight[id],
                lateCreateUntil: memory.lateCreates[id], now: now, setUps: memory.setUps, policy: policy,
                isSurplus: surplus.contains(id), isExpired: expired.contains(id)
            ).decide()
            plan.statuses.append(decision.status)
            if decision.cancelsInFlight { plan.cancellations.append(id) }
            if let look = decision.nextLook { plan.nextLook = min(plan.nextLook ?? look, look) }
            if let step = decision.step {
                // What has failed before comes after what may work at once.
                let isRetry = memory.memory(of: workload).failures > 0
                candidates.append((urgency(of: step) + (isRetry ? 10 : 0), step))
            }
        }

        // One that takes this long hangs: it holds up no others.
        var launches = memory.inFlight.values.count { step in
            step.isLaunch && (memory.inFlightSince[step.workload].map { now - $0 < .seconds(10) } ?? true)
        }
        for (_, step) in candidates.sorted(by: { ($0.urgency, $0.step.workload) < ($1.urgency, $1.step.workload) }) {
            if step.isLaunch {
                guard launches < mostLaunches else { continue }
                launches += 1
            }
            plan.steps.append(step)
        }
        plan.orphans = observed.managed.filter { desired.workloads[$0.workload] == nil }.map(\.id).sorted()
        return plan
    }

    /// A workload that is down between two containers comes first, tidying up last.
    private static func urgency(of step: Step) -> Int {
        switch step.action {
        case .start: 0
        case .stop, .endProcesses, .connect: 1
        case .update, .create: 2
        case .pull, .setUp: 3
        case .remove, .removeVolume: 4
        }
    }
}

extension Step {
    var isRemoval: Bool { if case .remove = action { true } else { false } }

    /// True for the steps that cost the host work and are therefore limited in number.
    package var isLaunch: Bool {
        switch action {
        case .create, .start: true
        case .pull, .stop, .update, .connect, .setUp, .endProcesses, .remove, .removeVolume: false
        }
    }
}
