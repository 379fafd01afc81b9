package import AgentCore
import AgentProtocol
package import BerthModel
import DockerEngine
import Logging
import NIOCore
package import ServiceRuntime

/// Runs a pass whenever something may have changed, and the steps of its plan beside each other. Owns the desired state,
/// the memory and the steps in flight; nobody else writes them. What it says is in `+Saying`.
package actor ReconcileLoop {
    /// What the loop works with.
    struct Parts: Sendable {
        var observer: HostObserver
        var executor: PlanExecutor
        var mailbox: OutgoingMailbox
        var memoryStore: MemoryStore
        var collector: ImageCollector
        var policy: HostPolicy
        var shaper: TrafficShaper
        var facts: HostFacts
        var time: MonotonicTime
        var serverTime: ServerTime
        var eventLoop: any EventLoop
        var log: Logger
    }

    let parts: Parts
    private let relistAfter: Milliseconds
    package nonisolated let doorbell: Doorbell

    private(set) var held: HeldDesiredState
    /// Written by passes only. A step that ends while a pass looks at the Engine counts as in flight until the next one:
    /// that look may be older than its effect.
    private(set) var memory: ReconcileMemory
    private var endedSteps: [StepOutcome] = []
    private var tasks: [WorkloadID: Task<Void, Never>] = [:]
    private var alarm: Scheduled<Void>?
    private var nextRelist: MonotonicInstant?
    /// What of the memory is on disk, and since when.
    private var saved = ReconcileMemory()
    private var savedAt: MonotonicInstant?
    private var saveFailed = false

    /// Nil before the first look.
    private(set) var lastObserved: ObservedHost?
    private(set) var lastPass: MonotonicInstant?
    private(set) var passes = 0
    private(set) var lastPassFailure: String?
    /// How long the last pass took, looking and planning.
    private(set) var lastPassTook: Duration = .zero
    var statuses: [WorkloadID: WorkloadStatus] = [:]
    var reportedOrphans: Set<EngineContainerID> = []
    var history: ActionHistory
    var orphanSandboxes: [OrphanSandbox] = []
    private(set) var hasEnded = false
    var askedCollections: [(isDryRun: Bool, answer: CheckedContinuation<CollectionReport, any Error>)] = []

    init(
        held: HeldDesiredState, history: ActionHistory, doorbell: Doorbell, relistAfter: Milliseconds, parts: Parts
    ) {
        self.held = held
        self.history = history
        self.doorbell = doorbell
        self.relistAfter = relistAfter
        self.parts = parts
        memory = ReconcileMemory(parts.memoryStore.load(log: parts.log), now: parts.time.now)
        saved = memory
    }

    // MARK: for the session

    package var heldState: HeldDesiredState { held }
    /// With the workloads that run, for the removal guard; before the first look, those that are wanted running.
    package var heldAndRunning: (HeldDesiredState, Set<WorkloadID>) {
        guard let lastObserved else {
            return (held, Set(held.state.workloads.values.filter { $0.wish == .running }.map(\.id)))
        }
        return (held, Set(lastObserved.managed.filter(\.state.mayWrite).map(\.workload)))
    }

    /// With the workloads that are up and as they are wanted: what is under way with one says nothing about its use.
    package var heldAndSettled: (DesiredState, Set<WorkloadID>) {
        (held.state, Set(statuses.values.filter { $0.phase == .running }.map(\.workload)))
    }

    /// The state is on disk; from now on it is what is wanted.
    package func accept(_ held: HeldDesiredState) {
        self.held = held
        doorbell.ring()
    }

    // MARK: the loop

    /// Ends when cancelled, with all steps ended.
    package func run() async throws {
        doorbell.ring()
        await withDiscardingTaskGroup { group in
            for await _ in doorbell.rings {
                if Task.isCancelled { break }
                for step in await pass() { group.addTask { await self.carryOut(step) } }
                keepMemory()
            }
            group.cancelAll()
        }
        alarm?.cancel()
        hasEnded = true
        for asked in askedCollections { asked.answer.resume(throwing: CancellationError()) }
        askedCollections = []
        keepMemory(atOnce: true)
        try Task.checkCancellation()
    }

    private func pass() async -> [Step] {
        let now = parts.time.now
        let desired = held.state
        for outcome in endedSteps { memory = memory.recording(outcome, now: now, random: .random(in: 0..<1)) }
        endedSteps = []
        await answerCollections()
        if nextRelist.map({ $0 <= now }) ?? true {
            nextRelist = now + Milliseconds(relistAfter.count * Int.random(in: 90...110) / 100)
            // A reload of its configuration may have given the Engine another runtime.
            await parts.observer.runtimesMayHaveChanged()
            await lookForOrphanSandboxes()
            await collectImages()
        }
        do {
            let started = ContinuousClock.now
            let result = try await ReconcilePass(
                desired: desired, memory: memory, now: now, random: .random(in: 0..<1), policy: parts.policy,
                serverTime: parts.serverTime.now
            ).run(parts.observer)
            lastPassTook = .now - started
            memory = result.memory
            lastObserved = result.observed
            lastPass = now
            passes += 1
            lastPassFailure = nil
            for (workload, exit) in result.deaths { await died(workload, exit) }
            await limitTraffic(desired)
            await report(result.plan)
            if await parts.observer.takeInfoChanged() {
                await parts.mailbox.say(.host(await parts.facts.describe(parts.observer)))
            }
            report(orphans: result.plan.orphans)
            for workload in result.plan.cancellations { tasks[workload]?.cancel() }
            setAlarm(min(result.plan.nextLook ?? nextRelist ?? now, nextRelist ?? now), now: now)
            return result.plan.steps
        } catch is CancellationError {
            return []
        } catch {
            if lastPassFailure == nil {
                parts.log.warning("pass failed; nothing is touched", metadata: ["error": "\(error)"])
            }
            lastPassFailure = String(describing: error)
            if let error = error as? EngineError { await parts.executor.link.failed(error) }
            setAlarm(now + .seconds(5), now: now)
            return []
        }
    }

    private func carryOut(_ step: Step) async {
        // A task of its own, so that a plan can cancel this step alone.
        let work = Task { await self.execute(step) }
        tasks[step.workload] = work
        await withTaskCancellationHandler {
            await work.value
        } onCancel: {
            work.cancel()
        }
        tasks[step.workload] = nil
    }

    private func execute(_ step: Step) async {
        let started = ContinuousClock.now
        await beginning(step)
        let mailbox = parts.mailbox
        FailPoint.reached("before-\(step.action.kind)")
        let outcome = await parts.executor.run(step) { done, total, message in
            await mailbox.progress(
                WorkloadProgress(
                    workload: step.workload, generation: step.generation, stage: step.action.stage ?? .pulling,
                    doneBytes: done, totalBytes: total, message: message))
        }
        FailPoint.reached("after-\(step.action.kind)")
        await ended(outcome, took: .now - started)
        switch step.action {
        case .create, .removeVolume: await parts.observer.volumesChanged()
        case .pull: await parts.observer.imagesChanged()
        case .start(let id), .stop(let id, _), .update(let id, _), .connect(let id), .setUp(let id, _),
            .endProcesses(let id), .remove(let id):
            await parts.observer.containerChanged(id.text)
        }
        if case .create = step.action, case .failed = outcome.result { await parts.observer.imagesChanged() }
        endedSteps.append(outcome)
        doorbell.ring()
    }

    private func setAlarm(_ moment: MonotonicInstant, now: MonotonicInstant) {
        alarm?.cancel()
        let doorbell = doorbell
        alarm = parts.eventLoop.scheduleTask(in: .milliseconds(Int64(max(1, (moment - now).count)))) { doorbell.ring() }
    }

    // MARK: memory

    /// After the steps were begun: a start must not wait for a disk. Several changes at once cost one write.
    private func keepMemory(atOnce: Bool = false) {
        guard memory.workloads != saved.workloads || memory.setUps != saved.setUps else { return }
        let now = parts.time.now
        guard atOnce || (savedAt.map { now - $0 >= Milliseconds(250) } ?? true) else {
            let doorbell = doorbell
            parts.eventLoop.scheduleTask(in: .milliseconds(260)) { doorbell.ring() }
            return
        }
        savedAt = now
        do {
            try parts.memoryStore.save(memory.stored(at: now))
            saved = memory
            saveFailed = false
        } catch {
            if !saveFailed {
                parts.log.warning("memory of failures cannot be stored", metadata: ["error": "\(error)"])
            }
            saveFailed = true
            saved = memory
        }
    }
}
