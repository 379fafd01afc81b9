import AgentCore
import BerthModel
import Testing

/// The rows of docs/reconcile.md about replacing, changing in place, going back, and what hangs.
@Suite struct ReplacementTable {
    private let wanted = Sample.desired()
    private let stateless = Sample.spec(version: 1, volumes: [])
    private let statelessNew = Sample.spec(version: 2, volumes: [])

    private func first(_ desired: DesiredWorkload, _ host: ObservedHost, _ memory: ReconcileMemory = .init()) -> Step
        .Action?
    {
        Sample.plan([desired], host, memory: memory).steps.first?.action
    }

    private func memory(_ change: (inout ReconcileMemory.WorkloadMemory) -> Void, generation: Int = 1)
        -> ReconcileMemory
    {
        var memory = ReconcileMemory()
        var own = ReconcileMemory.WorkloadMemory(generation: generation)
        change(&own)
        memory.workloads[Sample.id] = own
        return memory
    }

    private func id(_ text: String) -> EngineContainerID { .init(validated: text) }

    // MARK: in place

    private let larger = Sample.spec(memory: 512)
    private var limits: EngineLimits { EngineLimits(larger.resources, cpus: 2) }

    @Test func `other limits under runc: changed on the container that runs`() {
        let host = Sample.host([Sample.container("c", Sample.up())])
        let plan = Sample.plan([Sample.desired(generation: 2, spec: larger)], host)
        #expect(plan.steps.map(\.action) == [.update(id("c"), limits)])
        #expect(plan.statuses.first?.phase == .running && plan.statuses.first?.observedGeneration == 0)
    }

    @Test func `other limits where the runtime cannot: stop, change, start; the same container, its layer stays`() {
        var running = Sample.container("c", Sample.up())
        running.settings?.runtime = "runsc"
        let desired = Sample.desired(generation: 2, spec: larger)
        #expect(first(desired, Sample.host([running])) == .stop(id("c"), graceSeconds: 10))
        running.state = Sample.exited(0)
        #expect(first(desired, Sample.host([running])) == .update(id("c"), limits))
        running.settings?.limits = limits
        #expect(first(desired, Sample.host([running])) == .start(id("c")))
    }

    @Test func `a change that the runtime refuses on a container that runs is made while it is stopped`() {
        let step = Step(workload: Sample.id, generation: 1, action: .update(id("c"), limits), reason: "")
        let refused = StepFailure(reason: "update_failed", message: "busy", isPermanent: false)
        let memory = ReconcileMemory().launching(step, at: Sample.now)
            .recording(.init(step: step, result: .failed(refused)), now: Sample.now, random: 0)
        let desired = Sample.desired(spec: larger)
        #expect(
            first(desired, Sample.host([Sample.container("c", Sample.up())]), memory)
                == .stop(id("c"), graceSeconds: 10))
    }

    @Test func `a job that was stopped for a change has not ended by itself`() {
        var spec = Sample.spec(memory: 512, restart: .never)
        spec.runtime = RuntimeChoice(name: "gvisor")
        let desired = Sample.desired(spec: spec)
        var stopped = Sample.container("c", Sample.exited(0), spec: spec)
        stopped.settings?.limits = EngineLimits(memory: 1, nanoCPUs: 1, pids: 1)
        #expect(first(desired, Sample.host([stopped])) == nil, "it ended by itself")
        let stop = Step(workload: Sample.id, generation: 1, action: .stop(id("c"), graceSeconds: 1), reason: "limits")
        // Even where the agent dies before it hears that the stop was done.
        let ours = ReconcileMemory().launching(stop, at: Sample.now)
        let again = ReconcileMemory(ours.stored(at: Sample.now), now: Sample.now)
        #expect(first(desired, Sample.host([stopped]), again) == .update(id("c"), limits))
    }

    @Test func `what the kernel makes of a limit is left so`() {
        let step = Step(workload: Sample.id, generation: 1, action: .update(id("c"), limits), reason: "")
        var container = Sample.container("c", Sample.up())
        container.settings?.limits.pids = 0
        let host = Sample.host([container])
        let desired = Sample.desired(spec: larger)
        let state = DesiredState(revision: Revision(1), workloads: [desired])
        let memory = ReconcileMemory().launching(step, at: Sample.now)
            .recording(.init(step: step, result: .succeeded), now: Sample.now, random: 0)
            .noticing(host, desired: state, now: Sample.now, random: 0)
        let later = Sample.now + .seconds(3600)
        #expect(Sample.plan([desired], host, memory: memory, now: later).steps.isEmpty)
        container.settings?.limits.pids = 7
        let drifted = Sample.plan([desired], Sample.host([container]), memory: memory, now: later)
        #expect(drifted.steps.map(\.action) == [.update(id("c"), limits)])
    }

    @Test func `rubbish that cannot be removed keeps nobody down, and a crash loop delays no stop`() {
        let dead = Sample.container("dead", .dead, generation: 1, attempt: 1)
        let current = Sample.container("c", Sample.exited(1), generation: 1, attempt: 2)
        #expect(first(wanted, Sample.host([dead, current])) == .start(id("c")))
        let looping = memory { $0.notBefore = Sample.now + .seconds(200) }
        let old = Sample.container("old", Sample.up(), spec: Sample.spec(version: 2))
        let both = Sample.host([old, Sample.container("c", Sample.up())])
        #expect(first(wanted, both, looping) == .stop(id("old"), graceSeconds: 10))
    }

    @Test func `a stop that was wanted for a change is no death`() {
        let stop = Step(
            workload: Sample.id, generation: 1, action: .stop(id("c"), graceSeconds: 10), reason: "limits")
        let seen = memory { $0.seenRunning = EngineContainerID(validated: "c") }
        let after = seen.recording(.init(step: stop, result: .succeeded), now: Sample.now, random: 0)
            .noticing(
                Sample.host([Sample.container("c", Sample.exited(143))]),
                desired: DesiredState(revision: Revision(1), workloads: [wanted]), now: Sample.now, random: 0)
        #expect(after.memory(of: wanted).restarts == 0)
    }

    @Test func `what does not stay as it was put is put right once a minute, not once a pass`() {
        let host = Sample.host([Sample.container("c", Sample.up())])
        let desired = Sample.desired(spec: larger)
        let lately = memory { $0.lastUpdate = Sample.now + Milliseconds(-59_000) }
        #expect(first(desired, host, lately) == nil)
        let longAgo = memory { $0.lastUpdate = Sample.now + Milliseconds(-60_000) }
        #expect(first(desired, host, longAgo) == .update(id("c"), limits))
    }

    @Test func `a restart policy that somebody set is taken back: the Engine must not revive an old copy`() {
        var container = Sample.container("c", Sample.up())
        container.settings?.isRestartedByEngine = true
        #expect(
            first(wanted, Sample.host([container]))
                == .update(id("c"), EngineLimits(wanted.spec.resources, cpus: 2)))
    }

    @Test func `a network that was taken away comes back; a sandbox is stopped for it`() {
        var container = Sample.container("c", Sample.up())
        container.settings?.isConnected = false
        #expect(first(wanted, Sample.host([container])) == .connect(id("c")))
        container.settings?.runtime = "runsc"
        #expect(first(wanted, Sample.host([container])) == .stop(id("c"), graceSeconds: 10))
        container.state = Sample.exited(0)
        #expect(first(wanted, Sample.host([container])) == .connect(id("c")))
    }

    // MARK: start first

    @Test
    func `without a volume to write to the candidate starts beside the old one, which stops when it has proved itself`()
    {
        let old = Sample.container("old", Sample.up(), spec: stateless)
        let desired = Sample.desired(generation: 2, spec: statelessNew)
        func new(_ state: ContainerState) -> ObservedContainer {
            Sample.container("new", state, generation: 2, spec: statelessNew)
        }
        #expect(first(desired, Sample.host([old, new(.created)])) == .start(id("new")))
        let young = Sample.plan([desired], Sample.host([old, new(Sample.up(3))]))
        #expect(young.steps.isEmpty && young.nextLook == Sample.now + .seconds(7))
        #expect(young.statuses.first?.observedGeneration == 0)
        #expect(
            first(desired, Sample.host([old, new(Sample.up(10))])) == .stop(id("old"), graceSeconds: 10))
    }

    @Test func `a health check that has not answered is waited for, bounded`() {
        #expect(WorkloadPlanner.proof(upFor: .seconds(20), health: .starting) == .pending)
        #expect(WorkloadPlanner.proof(upFor: .seconds(300), health: .starting) == .failed)
        #expect(WorkloadPlanner.proof(upFor: .seconds(20), health: .healthy) == .proven)
        #expect(WorkloadPlanner.proof(upFor: .seconds(20), health: .unhealthy) == .failed)
        #expect(WorkloadPlanner.proof(upFor: .seconds(9), health: .healthy) == .pending)
    }

    // MARK: going back

    private let proved = ContainerState.exited(.init(code: 0, startedAt: 100, finishedAt: 200))

    @Test func `a candidate that failed makes way for the old one where nobody can have written, and it is said`() {
        let failed = memory({ $0.failedStarts = 1 }, generation: 2)
        let desired = Sample.desired(generation: 2, spec: statelessNew)
        let candidate = Sample.container("new", Sample.exited(1), generation: 2, spec: statelessNew)
        let stopped = Sample.container("old", proved, spec: stateless)
        #expect(first(desired, Sample.host([stopped, candidate]), failed) == .start(id("old")))
        let serving = Sample.plan(
            [desired], Sample.host([Sample.container("old", Sample.up(), spec: stateless), candidate]), memory: failed)
        #expect(serving.steps.isEmpty)
        #expect(serving.statuses.first?.reason == "rolled_back" && serving.statuses.first?.observedGeneration == 0)
    }

    @Test func `with a volume the old one starts again only where the spec allows it`() {
        let failed = memory({ $0.failedStarts = 1 }, generation: 2)
        var spec = Sample.spec(version: 2)
        let stopped = Sample.container("old", proved)
        func host(_ spec: WorkloadSpec) -> ObservedHost {
            Sample.host([stopped, Sample.container("new", Sample.exited(1), generation: 2, spec: spec)])
        }
        #expect(first(Sample.desired(generation: 2, spec: spec), host(spec), failed) == .start(id("new")))
        spec.rollback = .always
        #expect(first(Sample.desired(generation: 2, spec: spec), host(spec), failed) == .start(id("old")))
    }

    @Test func `what failed is not tried again before the spec changes or somebody starts it`() {
        let failed = memory({ $0.failedStarts = 1 }, generation: 2)
        let again = Sample.desired(generation: 3, spec: statelessNew)
        let host = Sample.host([
            Sample.container("old", Sample.up(), spec: stateless),
            Sample.container("new", Sample.exited(1), generation: 2, spec: statelessNew),
        ])
        #expect(first(again, host, failed) == .start(id("new")))
    }

    @Test func `an Engine that went away in the middle of a start says nothing about the container`() {
        let start = Step(workload: Sample.id, generation: 1, action: .start(id("c")), reason: "")
        func failing(_ failure: StepFailure) -> Int {
            ReconcileMemory().recording(.init(step: start, result: .failed(failure)), now: Sample.now, random: 0)
                .memory(of: wanted).failedStarts
        }
        #expect(failing(.init(reason: "start_failed", message: "", isPermanent: false, mayHaveHappened: true)) == 0)
        #expect(failing(.init(reason: "start_failed", message: "", isPermanent: false)) == 1)
    }

    @Test func `a limit of restarts ends the tries, and says how to go on`() {
        var spec = Sample.spec()
        spec.restartLimit = 3
        let host = Sample.host([Sample.container("c", Sample.exited(9), spec: spec)])
        #expect(first(Sample.desired(spec: spec), host, memory { $0.falls = 3 }) == .start(id("c")))
        let plan = Sample.plan([Sample.desired(spec: spec)], host, memory: memory { $0.falls = 4 })
        #expect(plan.steps.isEmpty && plan.nextLook == nil)
        #expect(plan.statuses.first?.phase == .failed && plan.statuses.first?.reason == "restart_limit")
    }

    // MARK: volumes

    @Test func `volumes beside the spec's come along by name, without copying into them`() throws {
        var old = Sample.container("old", Sample.up())
        let anonymous = String(repeating: "a", count: 64)
        old.mounts += [
            ObservedMount(volume: anonymous, path: "/data", access: .readWrite),
            ObservedMount(volume: "berth-11111111-aaaa-extra", path: "/gone", access: .readWrite),
        ]
        let host = Sample.host(
            [old], images: ["alpine:latest": .present(imageID: "i", volumePaths: ["/data", "/var/lib", "/root"])],
            volumes: [Sample.volume])
        guard case .create(let order)? = first(Sample.desired(generation: 2, spec: Sample.spec(version: 2)), host)
        else {
            Issue.record("expected a create")
            return
        }
        let lib = VolumeMount.name(for: Sample.id, imageVolumeAt: "/var/lib")
        // What the image declares gets a name; a volume that the spec gave up on purpose stays where it is.
        #expect(order.volumes.map(\.volume) == [Sample.volume, anonymous, lib])
        #expect(order.volumes.map(\.path) == ["/root", "/data", "/var/lib"])
        #expect(order.existingVolumes == [Sample.volume, anonymous])
    }

    @Test func `what a replacement leaves behind outside the volumes is said before`() {
        var old = Sample.container("old", Sample.up())
        old.writableLayerMB = 12
        let plan = Sample.plan([Sample.desired(generation: 2, spec: Sample.spec(version: 2))], Sample.host([old]))
        #expect(plan.statuses.first?.warnings.first?.contains("12 MiB") == true)
        #expect(Sample.plan([wanted], Sample.host([old])).statuses.first?.warnings == [])
    }

    // MARK: hanging and left over

    @Test func `a start that did not answer is ended by the processes of its own cgroup, then counted`() {
        let start = Step(workload: Sample.id, generation: 1, action: .start(id("c")), reason: "")
        let late = StepFailure(
            reason: "start_failed_timeout", message: "after 60 s", isPermanent: false, mayHaveHappened: true,
            timedOut: true)
        let memory = ReconcileMemory().recording(.init(step: start, result: .failed(late)), now: Sample.now, random: 0)
        let later = Sample.now + .seconds(2)
        for state in [ContainerState.created, .unknown] {
            let plan = Sample.plan([wanted], Sample.host([Sample.container("c", state)]), memory: memory, now: later)
            #expect(plan.steps.map(\.action) == [.endProcesses(id("c"))])
        }
        #expect(memory.memory(of: wanted).failures == 1)
    }

    @Test func `processes that outlived their container are ended before anything else starts on its volume`() {
        var old = Sample.container("old", Sample.exited(137))
        old.leftoverProcesses = [12, 13]
        let candidate = Sample.container("new", .created, generation: 2, spec: Sample.spec(version: 2))
        let desired = Sample.desired(generation: 2, spec: Sample.spec(version: 2))
        #expect(first(desired, Sample.host([old, candidate])) == .endProcesses(id("old")))
        #expect(first(Sample.desired(.removed), Sample.host([old])) == .endProcesses(id("old")))
    }

    @Test func `a start that somebody else called is waited for`() {
        var starting = Sample.container("c", .created)
        starting.isStarting = true
        let plan = Sample.plan([wanted], Sample.host([starting]))
        #expect(plan.steps.isEmpty && plan.nextLook != nil && plan.statuses.first?.phase == .starting)
    }

    // MARK: generations

    @Test func `the observed generation is the last that was carried out, never the one on its way`() {
        let seen = memory { $0.observedGeneration = 1 }
        let old = Sample.container("old", Sample.up())
        let onItsWay = Sample.plan(
            [Sample.desired(generation: 2, spec: Sample.spec(version: 2))], Sample.host([old]), memory: seen)
        #expect(onItsWay.statuses.first?.observedGeneration == 1 && onItsWay.statuses.first?.generation == 2)
        let done = Sample.plan([Sample.desired(generation: 2)], Sample.host([old]), memory: seen)
        #expect(done.statuses.first?.observedGeneration == 2)
        #expect(seen.keeping(done.statuses).memory(of: Sample.desired(generation: 3)).observedGeneration == 2)
    }

    @Test func `what is kept of the memory comes back as it was, delays as what remains of them`() {
        var memory = memory {
            $0.failures = 4
            $0.notBefore = Sample.now + .seconds(90)
            $0.lastFailure = StepFailure(reason: "x", message: "y", isPermanent: false)
            $0.countedDeath = .init(code: 3, startedAt: 1, finishedAt: 2)
            $0.seenRunning = EngineContainerID(validated: "c")
            $0.failedStarts = 2
            $0.observedGeneration = 1
        }
        memory.lateCreates[Sample.id] = Sample.now + .seconds(5)
        let later = MonotonicInstant(milliseconds: 10)
        let back = ReconcileMemory(memory.stored(at: Sample.now), now: later)
        #expect(back.memory(of: wanted).notBefore == later + .seconds(90))
        #expect(back.lateCreates[Sample.id] == later + .seconds(5))
        var same = back.memory(of: wanted)
        same.notBefore = memory.memory(of: wanted).notBefore
        #expect(same == memory.memory(of: wanted))
    }

    @Test func `a memory file with impossible numbers is put right`() {
        var stored = memory { $0.failures = 1 }.stored(at: Sample.now)
        stored.entries[0].failures = -5
        stored.entries[0].observedGeneration = 99
        stored.entries[0].retryIn = Milliseconds(.max)
        let back = ReconcileMemory(stored, now: Sample.now).memory(of: wanted)
        #expect(back.failures == 0 && back.observedGeneration == 1)
        #expect(back.notBefore == Sample.now + .seconds(300))
    }
}
