import AgentCore
import BerthModel
import Testing

/// The table of docs/reconcile.md, row by row.
@Suite struct PlannerTable {
    private func action(_ desired: DesiredWorkload, _ host: ObservedHost, memory: ReconcileMemory = .init()) -> Step
        .Action?
    {
        Sample.plan([desired], host, memory: memory).steps.first?.action
    }

    private let newSpec = Sample.spec(version: 2)
    private let old = Sample.container("old", Sample.up())

    @Test func `nothing there and no image: pull`() {
        #expect(
            action(Sample.desired(), Sample.host(images: ["alpine:latest": .absent])) == .pull(image: "alpine:latest"))
    }

    @Test func `nothing there: create under a unique name, on the volume that exists without copying into it`() throws {
        let host = Sample.host(volumes: [Sample.volume])
        guard case .create(let order)? = action(Sample.desired(), host) else {
            Issue.record("expected a create")
            return
        }
        #expect(order.name == "berth-one-11111111-aaaa-g1-a1")
        #expect(order.existingVolumes == [Sample.volume])
    }

    @Test func `an image that was not looked up is not absent: wait`() {
        let plan = Sample.plan([Sample.desired()], Sample.host(images: [:]))
        #expect(plan.steps.isEmpty && plan.nextLook != nil)
    }

    @Test func `created: start`() {
        #expect(
            action(Sample.desired(), Sample.host([Sample.container("c", .created)])) == .start(.init(validated: "c")))
    }

    @Test func `running as wanted: silence`() {
        let plan = Sample.plan([Sample.desired()], Sample.host([old]))
        #expect(plan.steps.isEmpty && plan.nextLook == nil)
        #expect(plan.statuses.first?.phase == .running && plan.statuses.first?.address == "10.0.0.2")
    }

    @Test func `old running, spec changed: candidate first, the old one serves on`() {
        let plan = Sample.plan([Sample.desired(generation: 2, spec: newSpec)], Sample.host([old]))
        guard case .create(let order)? = plan.steps.first?.action else {
            Issue.record("expected a create, found \(plan.steps)")
            return
        }
        #expect(order.generation == 2)
        #expect(plan.statuses.first?.startedAt != nil)
    }

    @Test func `old running, candidate created: stop the old one before the candidate starts`() {
        let candidate = Sample.container("new", .created, generation: 2, spec: newSpec)
        let wanted = Sample.desired(generation: 2, spec: newSpec)
        #expect(action(wanted, Sample.host([old, candidate])) == .stop(.init(validated: "old"), graceSeconds: 10))
    }

    @Test func `both stopped: start the candidate`() {
        let stopped = Sample.container("old", Sample.exited(0))
        let candidate = Sample.container("new", .created, generation: 2, spec: newSpec)
        let wanted = Sample.desired(generation: 2, spec: newSpec)
        #expect(action(wanted, Sample.host([stopped, candidate])) == .start(.init(validated: "new")))
    }

    @Test func `candidate running, old stopped: the old one is kept for an hour`() {
        let stopped = Sample.container("old", Sample.exited(0))
        let wanted = Sample.desired(generation: 2, spec: newSpec)
        func running(_ seconds: Int) -> ObservedContainer {
            Sample.container("new", Sample.up(seconds), generation: 2, spec: newSpec)
        }
        let young = Sample.plan([wanted], Sample.host([stopped, running(3)]))
        #expect(young.steps.isEmpty && young.nextLook == Sample.now + .seconds(7))
        let proven = Sample.plan([wanted], Sample.host([stopped, running(10)]))
        #expect(proven.steps.isEmpty && proven.nextLook == Sample.now + .seconds(3590))
        #expect(action(wanted, Sample.host([stopped, running(3600)])) == .remove(.init(validated: "old")))
    }

    @Test func `of several old ones the newest that proved itself is kept`() {
        let good = Sample.container("good", .exited(.init(code: 0, startedAt: 100, finishedAt: 200)))
        let dud = Sample.container(
            "dud", .exited(.init(code: 1, startedAt: 300, finishedAt: 301)), generation: 2,
            spec: Sample.spec(version: 4))
        let wanted = Sample.desired(generation: 3, spec: newSpec)
        #expect(action(wanted, Sample.host([good, dud])) == .remove(.init(validated: "dud")))
        let running = Sample.container("new", Sample.up(60), generation: 3, spec: newSpec)
        #expect(action(wanted, Sample.host([good, dud, running])) == .remove(.init(validated: "dud")))
    }

    @Test func `a create whose answer never came is waited for before its removal is confirmed`() {
        let order = ContainerOrder(
            name: "x", workload: Sample.id, generation: 1, attempt: 1, spec: Sample.spec(), imageID: "i",
            engineRuntime: "runc",
            fellBackTo: nil, volumes: [], existingVolumes: [], limits: EngineLimits(memory: 1, nanoCPUs: 1, pids: 1))
        let step = Step(workload: Sample.id, generation: 1, action: .create(order), reason: "")
        let lost = StepFailure(reason: "create_failed_timeout", message: "", isPermanent: false, mayHaveHappened: true)
        let memory = ReconcileMemory().launching(step, at: Sample.now)
            .recording(.init(step: step, result: .failed(lost)), now: Sample.now, random: 0)
        let gone = Sample.desired(.removed, generation: 2)
        let waiting = Sample.plan([gone], Sample.host(), memory: memory)
        #expect(waiting.statuses.first?.phase == .stopping && waiting.nextLook == Sample.now + .seconds(120))
        let later = Sample.plan([gone], Sample.host(), memory: memory, now: Sample.now + .seconds(120))
        #expect(later.statuses.first?.phase == .removed)
    }

    @Test func `both running: the one that is not wanted stops at once`() {
        let second = Sample.container("new", Sample.up(), generation: 2, spec: newSpec)
        let wanted = Sample.desired(generation: 2, spec: newSpec)
        #expect(action(wanted, Sample.host([old, second])) == .stop(.init(validated: "old"), graceSeconds: 10))
    }

    @Test func `a candidate of a generation that is no longer wanted is removed before the next is made`() {
        let abandoned = Sample.container("never", .created, generation: 2, spec: Sample.spec(version: 4))
        let wanted = Sample.desired(generation: 3, spec: newSpec)
        #expect(action(wanted, Sample.host([old, abandoned])) == .remove(.init(validated: "never")))
    }

    @Test func `somebody else writes to the volume: not started, and said so`() {
        let host = Sample.host(
            [Sample.container("c", .created)], writers: [Sample.volume: [.init(validated: "foreign")]])
        let plan = Sample.plan([Sample.desired()], host)
        #expect(plan.steps.isEmpty)
        #expect(plan.statuses.first?.reason == "volume_in_use")
    }

    @Test func `a container that cannot be inspected blocks its own workload only`() {
        let other = WorkloadID(validated: "22222222-bbbb")
        let plan = Sample.plan(
            [Sample.desired(), Sample.desired(id: other)],
            Sample.host([Sample.container("hung", .unknown), Sample.container("c", .created, id: other)]))
        #expect(plan.steps.map(\.workload) == [other])
        #expect(plan.statuses.first { $0.workload == Sample.id }?.reason == "engine_does_not_answer")
    }

    @Test func `a superseded container that is still kept is not shown as the workload`() {
        let kept = Sample.container("old", Sample.exited(0))
        let plan = Sample.plan([Sample.desired(.stopped, generation: 2, spec: newSpec)], Sample.host([kept]))
        #expect(plan.statuses.first?.phase == .stopped && plan.statuses.first?.engineContainer == nil)
    }

    @Test func `wanted stopped: stop, and keep`() {
        #expect(
            action(Sample.desired(.stopped), Sample.host([old])) == .stop(.init(validated: "old"), graceSeconds: 10))
        #expect(action(Sample.desired(.stopped), Sample.host([Sample.container("old", Sample.exited(0))])) == nil)
    }

    @Test func `tombstone: stop, remove each, then removed`() {
        #expect(
            action(Sample.desired(.removed), Sample.host([old])) == .stop(.init(validated: "old"), graceSeconds: 10))
        let stopped = Sample.host([Sample.container("old", Sample.exited(0))])
        #expect(action(Sample.desired(.removed), stopped) == .remove(.init(validated: "old")))
        #expect(Sample.plan([Sample.desired(.removed)], Sample.host()).statuses.first?.phase == .removed)
    }

    @Test func `absence removes nothing: an orphan is reported and left`() {
        let plan = Sample.plan([], Sample.host([old]))
        #expect(plan.steps.isEmpty && plan.orphans == [.init(validated: "old")])
    }

    @Test func `a runtime that is required and missing waits; one that is preferred falls back and says so`() {
        var spec = Sample.spec()
        spec.runtime = RuntimeChoice(name: "gvisor", necessity: .require)
        let waiting = Sample.plan([Sample.desired(spec: spec)], Sample.host())
        #expect(waiting.steps.isEmpty && waiting.statuses.first?.reason == "runtime_missing")
        spec.runtime.necessity = .prefer
        guard case .create(let order)? = action(Sample.desired(spec: spec), Sample.host()) else {
            Issue.record("expected a create")
            return
        }
        #expect(order.engineRuntime == "runc" && order.fellBackTo == "runc")
    }

    @Test func `a rename alone recreates nothing`() {
        var renamed = Sample.spec()
        renamed.name = "two"
        #expect(Sample.plan([Sample.desired(generation: 2, spec: renamed)], Sample.host([old])).steps.isEmpty)
    }

    @Test func `any order of containers and workloads gives the same plan`() {
        let other = WorkloadID(validated: "22222222-bbbb")
        let containers = [
            old, Sample.container("new", .created, generation: 2, spec: newSpec),
            Sample.container("x", Sample.exited(), id: other),
            Sample.container("y", .created, generation: 1, attempt: 2, id: other),
        ]
        let wanted = [Sample.desired(generation: 2, spec: newSpec), Sample.desired(id: other)]
        let expected = Sample.plan(wanted, Sample.host(containers))
        for _ in 0..<50 { #expect(Sample.plan(wanted.shuffled(), Sample.host(containers.shuffled())) == expected) }
    }

    @Test func `at most twelve launches at once, and one hung start leaves eleven places`() {
        let ids = (10..<40).map { WorkloadID(validated: "w-\($0)") }
        let hung = Step(
            workload: WorkloadID(validated: "hung"), generation: 1, action: .start(.init(validated: "h")), reason: "")
        let memory = ReconcileMemory().launching(hung, at: Sample.now)
        let plan = Sample.plan(ids.map { Sample.desired(id: $0) }, Sample.host(), memory: memory)
        #expect(plan.steps.count == Planner.mostLaunches - 1)
    }

    @Test func `a set-up goes on over a change that leaves its container as it is, and over no other`() {
        func spec(_ name: String = "one", memory: Int = 256, version: Int = 1, role: SetUp.Role = .node) -> WorkloadSpec
        {
            var spec = Sample.spec(memory: memory, version: version)
            spec.name = name
            spec.setUp = SetUp(role: role)
            return spec
        }
        let container = Sample.container("c", Sample.up(), spec: spec())
        let host = Sample.host([container])
        let first = Sample.plan([Sample.desired(spec: spec())], host)
        guard let step = first.steps.first, case .setUp = step.action else {
            Issue.record("\(first)")
            return
        }
        // It serves already.
        #expect(first.statuses.first?.phase == .configuring && first.statuses.first?.observedGeneration == 1)
        let memory = ReconcileMemory().launching(step, at: Sample.now)
        for (name, next) in [("start", spec()), ("name", spec("two"))] {
            let plan = Sample.plan([Sample.desired(generation: 2, spec: next)], host, memory: memory)
            #expect(plan.cancellations.isEmpty && plan.steps.isEmpty, "\(name)")
            #expect(
                plan.statuses.first?.phase == .configuring && plan.statuses.first?.observedGeneration == 2, "\(name)")
        }
        // And once it has ended, it has ended for these too.
        let ended = memory.noticing(
            host,
            desired: DesiredState(revision: Revision(1), workloads: [Sample.desired(generation: 2, spec: spec("two"))]),
            now: Sample.now, random: 1
        ).keeping(
            Sample.plan([Sample.desired(generation: 2, spec: spec("two"))], host, memory: memory).statuses
        ).recording(.init(step: step, result: .succeeded), now: Sample.now, random: 1)
        let settled = Sample.plan([Sample.desired(generation: 2, spec: spec("two"))], host, memory: ended)
        #expect(settled.steps.isEmpty && settled.statuses.first?.phase == .running, "\(settled)")
        // One that has died meanwhile does not serve.
        let dead = Sample.plan(
            [Sample.desired(generation: 2, spec: spec("two"))],
            Sample.host([Sample.container("c", Sample.exited(), spec: spec())]),
            memory: memory)
        #expect(dead.statuses.first?.phase == .starting && dead.statuses.first?.observedGeneration == 0)
        for (name, next) in [
            ("memory", spec(memory: 512)), ("environment", spec(version: 2)), ("role", spec(role: .go)),
        ] {
            let plan = Sample.plan([Sample.desired(generation: 2, spec: next)], host, memory: memory)
            #expect(plan.cancellations == [Sample.id], "\(name)")
        }
        for wish in [DesiredWorkload.Wish.stopped, .removed] {
            let plan = Sample.plan([Sample.desired(wish, generation: 2, spec: spec())], host, memory: memory)
            #expect(plan.cancellations == [Sample.id], "\(wish)")
        }
    }

    @Test func `a pull that nobody wants any more is cancelled`() {
        let pull = Step(workload: Sample.id, generation: 1, action: .pull(image: "alpine:latest"), reason: "")
        let memory = ReconcileMemory().launching(pull, at: Sample.now)
        #expect(
            Sample.plan([Sample.desired(.removed, generation: 2)], Sample.host(), memory: memory).cancellations == [
                Sample.id
            ])
        #expect(Sample.plan([Sample.desired()], Sample.host(), memory: memory).cancellations.isEmpty)
    }
}

/// Deaths, failures and their delays.
@Suite struct RestartRules {
    private let desired = Sample.desired()

    private func seen(_ state: ContainerState, _ memory: ReconcileMemory, spec: WorkloadSpec = Sample.spec())
        -> ReconcileMemory
    {
        memory.noticing(
            Sample.host([Sample.container("c", state, spec: spec)]),
            desired: DesiredState(revision: Revision(1), workloads: [Sample.desired(spec: spec)]), now: Sample.now,
            random: 1)
    }

    @Test func `the first death is answered at once, later ones after a growing delay`() {
        var memory = seen(Sample.up(), .init())
        memory = seen(Sample.exited(startedAt: 1), memory)
        #expect(
            Sample.plan([desired], Sample.host([Sample.container("c", Sample.exited(startedAt: 1))]), memory: memory)
                .steps.count == 1)
        var delays: [Int] = []
        for start in 2...13 {
            memory = seen(Sample.exited(startedAt: Double(start)), memory)
            let due = memory.memory(of: desired).notBefore ?? Sample.now
            delays.append((due - Sample.now).count)
        }
        #expect(delays.prefix(4) == [1000, 2000, 4000, 8000])
        #expect(delays.last == 300_000)
        let waiting = Sample.plan(
            [desired], Sample.host([Sample.container("c", Sample.exited(startedAt: 13))]), memory: memory)
        #expect(waiting.steps.isEmpty && waiting.statuses.first?.phase == .backoff)
        #expect(waiting.nextLook == Sample.now + Milliseconds(300_000))
    }

    @Test func `a process that ends before it was seen up is counted too`() {
        let start = Step(workload: Sample.id, generation: 1, action: .start(.init(validated: "c")), reason: "")
        var memory = ReconcileMemory()
        var delays: [Int] = []
        for round in 1...4 {
            memory = memory.launching(start, at: Sample.now).recording(
                .init(step: start, result: .succeeded), now: Sample.now, random: 0)
            memory = seen(Sample.exited(0, startedAt: Double(round)), memory)
            delays.append(((memory.memory(of: desired).notBefore ?? Sample.now) - Sample.now).count)
        }
        #expect(delays == [0, 1000, 2000, 4000])
    }

    @Test func `one death is counted once`() {
        var memory = seen(Sample.up(), .init())
        memory = seen(Sample.exited(), memory)
        #expect(seen(Sample.exited(), memory) == memory)
        #expect(memory.memory(of: desired).restarts == 1)
    }

    @Test func `ten minutes up forget the failures`() {
        var memory = seen(Sample.up(), .init())
        for start in 1...4 { memory = seen(Sample.exited(startedAt: Double(start)), memory) }
        memory = seen(Sample.up(600), memory)
        memory = seen(Sample.exited(startedAt: 9), memory)
        #expect(memory.memory(of: desired).notBefore == Sample.now)
    }

    @Test func `a new generation starts afresh`() {
        var memory = seen(Sample.up(), .init())
        for start in 1...6 { memory = seen(Sample.exited(startedAt: Double(start)), memory) }
        let again = Sample.desired(generation: 2)
        let plan = Sample.plan(
            [again], Sample.host([Sample.container("c", Sample.exited(startedAt: 6))]), memory: memory)
        #expect(plan.steps.map(\.action) == [.start(.init(validated: "c"))])
    }

    @Test func `exit code 0 with onFailure is an ordered end, not a crash`() {
        let spec = Sample.spec(restart: .onFailure)
        let memory = seen(Sample.exited(0), seen(Sample.up(), .init(), spec: spec), spec: spec)
        let plan = Sample.plan(
            [Sample.desired(spec: spec)], Sample.host([Sample.container("c", Sample.exited(0), spec: spec)]),
            memory: memory)
        #expect(plan.steps.isEmpty)
        #expect(plan.statuses.first?.phase == .stopped && plan.statuses.first?.reason == "completed")
    }

    @Test func `a step that always fails waits longer each time, and other workloads settle meanwhile`() {
        let failure = StepFailure(reason: "create_failed", message: "no", isPermanent: false)
        var memory = ReconcileMemory()
        var now = Sample.now
        var last = 0
        for _ in 0..<12 {
            let plan = Sample.plan([desired], Sample.host(), memory: memory, now: now)
            guard let step = plan.steps.first else {
                Issue.record("expected a try")
                return
            }
            memory = memory.launching(step, at: Sample.now).recording(
                .init(step: step, result: .failed(failure)), now: now, random: 0.5)
            let held = Sample.plan(
                [desired, Sample.desired(id: WorkloadID(validated: "other"))], Sample.host(), memory: memory, now: now)
            #expect(held.steps.map(\.workload.text) == ["other"])
            #expect(held.statuses.first?.phase == .failed && held.statuses.first?.message == "no")
            guard let due = memory.memory(of: desired).notBefore else { return }
            #expect((due - now).count >= min(last, 200_000))
            last = (due - now).count
            now = due
        }
        #expect(last >= 150_000)
    }
}
