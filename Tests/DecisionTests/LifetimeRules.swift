import AgentCore
import BerthModel
import Testing

/// What the planner does with data that is to go, volumes that are too full, and sessions that are over.
@Suite struct LifetimeRules {
    private func overfull(
        used: Int?, state: ContainerState, stops: Bool = true, now: MonotonicInstant = Sample.now
    ) -> Plan {
        var desired = Sample.desired()
        desired.spec.resources.volumeMB = 100
        var host = Sample.host([Sample.container("a", state)], volumes: [Sample.volume])
        host.volumeMB = used.map { [Sample.volume: $0, "berth-somebody": 9999] } ?? [:]
        var policy = HostPolicy()
        policy.stopsOverfull = stops
        return Planner.plan(
            desired: DesiredState(revision: Revision(1), workloads: [desired]), observed: host, memory: .init(),
            now: now,
            policy: policy)
    }

    @Test func `what is over its limit is stopped where the owner wants it, and only told where not`() {
        #expect(
            overfull(used: 101, state: Sample.up()).steps.map(\.action) == [
                .stop(EngineContainerID(validated: "a"), graceSeconds: 10)
            ])
        let told = overfull(used: 101, state: Sample.up(), stops: false)
        #expect(told.steps.isEmpty && told.statuses[0].warnings.count == 1 && told.statuses[0].volumeUsedMB == 101)
        #expect(overfull(used: 100, state: Sample.up()).steps.isEmpty, "the limit itself is allowed")
        let down = overfull(used: 101, state: Sample.exited())
        #expect(down.steps.isEmpty && down.statuses[0].reason == "volume_full")
    }

    @Test func `an agent's start is no way around the limit, and an unmeasured volume holds nothing up for long`() {
        let early = MonotonicInstant(milliseconds: 5_000)
        let waiting = overfull(used: nil, state: Sample.exited(), now: early)
        #expect(waiting.steps.isEmpty && waiting.statuses[0].reason == "volume_unmeasured")
        #expect(overfull(used: nil, state: Sample.up(), now: early).steps.isEmpty, "what runs is not touched")
        #expect(overfull(used: nil, state: Sample.exited()).steps.count == 1, "a minute later it is started")
        #expect(overfull(used: 1, state: Sample.exited(), now: early).steps.count == 1)
    }

    @Test func `a volume goes only by its order, when no container is left and it is known what there is`() {
        var order = Sample.desired(.removed, generation: 2)
        func steps(_ containers: [ObservedContainer], own: [WorkloadID: [String]]?) -> [Step.Action] {
            var host = Sample.host(containers, volumes: [Sample.volume])
            host.ownVolumes = own
            return Sample.plan([order], host).steps.map(\.action)
        }
        let mine = [Sample.id: [Sample.volume]]
        #expect(steps([], own: mine).isEmpty, "a tombstone alone takes no volume")
        order.purgesVolumes = true
        #expect(
            steps([Sample.container("a", Sample.exited())], own: mine) == [.remove(EngineContainerID(validated: "a"))])
        #expect(steps([], own: nil).isEmpty)
        #expect(steps([], own: mine) == [.removeVolume(Sample.volume)])
        var host = Sample.host()
        host.ownVolumes = nil
        #expect(Sample.plan([order], host).statuses[0].isPurged == nil, "not looked up is not gone")
        host.ownVolumes = [WorkloadID(validated: "another"): ["berth-another"]]
        let done = Sample.plan([order], host)
        #expect(done.steps.isEmpty && done.statuses[0].isPurged == true && done.statuses[0].phase == .removed)
    }

    @Test func `a session that is over stops what runs, and nothing starts it`() {
        func plan(_ state: ContainerState) -> Plan {
            Planner.plan(
                desired: DesiredState(revision: Revision(1), workloads: [Sample.desired()]),
                observed: Sample.host([Sample.container("a", state)]), memory: .init(), now: Sample.now,
                expired: [Sample.id])
        }
        #expect(plan(Sample.up()).steps.map(\.action) == [.stop(EngineContainerID(validated: "a"), graceSeconds: 10)])
        #expect(plan(Sample.exited()).steps.isEmpty && plan(Sample.exited()).statuses[0].reason == "session_expired")
        var spec = Sample.spec()
        spec.expiresAt = 100
        let state = DesiredState(revision: Revision(1), workloads: [Sample.desired(spec: spec)])
        #expect(state.expired(at: 99).over.isEmpty && state.expired(at: 99).nextIn == 1)
        #expect(state.expired(at: 100).over == [Sample.id] && state.expired(at: 100).nextIn == nil)
    }
}
