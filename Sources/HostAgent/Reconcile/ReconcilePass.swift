import AgentCore
import BerthModel

/// One round: what is wanted, what is there, what to do, what to say. Reads top to bottom; decides nothing itself.
struct ReconcilePass {
    let desired: DesiredState
    let memory: ReconcileMemory
    let now: MonotonicInstant
    let random: Double
    let policy: HostPolicy
    /// Seconds since 1970 UTC, by the control plane's clock.
    let serverTime: Double

    struct Result {
        var plan: Plan
        var memory: ReconcileMemory
        var running: Set<WorkloadID>
        var observed: ObservedHost
        /// Main processes whose end this look found.
        var deaths: [WorkloadID: ContainerState.Exit]
    }

    /// Throws where the look was not complete: then nothing is planned and nothing is touched.
    func run(_ observer: HostObserver) async throws -> Result {
        let observed = try await observer.observe(
            for: desired, busy: Set(memory.inFlight.keys),
            pins: memory.workloads.compactMapValues(\.pinned?.imageID))
        var memory = self.memory.noticing(observed, desired: desired, now: now, random: random)
        let deaths = memory.workloads.compactMapValues(\.countedDeath)
            .filter { self.memory.workloads[$0.key]?.countedDeath != $0.value }
        let (expired, nextIn) = desired.expired(at: serverTime)
        var plan = Planner.plan(
            desired: desired, observed: observed, memory: memory, now: now, policy: policy, expired: expired)
        if let nextIn {
            // An hour at most: the clock that was meant may be corrected meanwhile.
            let look = now + Milliseconds(Int(min(nextIn, 3600) * 1000) + 1)
            plan.nextLook = min(plan.nextLook ?? look, look)
        }
        for step in plan.steps { memory = memory.launching(step, at: now) }
        memory = memory.keeping(plan.statuses)
        memory = memory.forgetting(memory.workloads.keys.filter { desired.workloads[$0] == nil })
        let running = Set(observed.managed.filter(\.state.mayWrite).map(\.workload))
        return Result(plan: plan, memory: memory, running: running, observed: observed, deaths: deaths)
    }
}
