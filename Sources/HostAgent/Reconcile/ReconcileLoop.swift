package import AgentCore
import AgentProtocol
package import BerthModel
import DockerEngine
package import Logging
package import NIOCore
package import ServiceRuntime

/// Runs a pass whenever something may have changed, and the steps of its plan beside each other. Owns the desired state,
/// the memory and the steps in flight; nobody else writes them.
package actor ReconcileLoop {
    private let observer: HostObserver
    private let executor: PlanExecutor
    private let mailbox: OutgoingMailbox
    private let facts: HostFacts
    private let time: MonotonicTime
    private let log: Logger
    private let eventLoop: any EventLoop
    private let relistAfter: Milliseconds

    package nonisolated let doorbell: Doorbell
    private var held: HeldDesiredState
    /// Written by passes only. A step that ends while a pass looks at the Engine counts as in flight until the next one:
    /// that look may be older than its effect.
    private var memory = ReconcileMemory()
    private var endedSteps: [StepOutcome] = []
    /// Nil before the first look.
    private var running: Set<WorkloadID>?
    private var statuses: [WorkloadID: WorkloadStatus] = [:]
    private var tasks: [WorkloadID: Task<Void, Never>] = [:]
    private var reportedOrphans: Set<EngineContainerID> = []
    private var alarm: Scheduled<Void>?
    private var nextRelist: MonotonicInstant?
    private(set) var lastPass: MonotonicInstant?
    private(set) var lastPassFailure: String?

    package init(
        held: HeldDesiredState, doorbell: Doorbell, observer: HostObserver, executor: PlanExecutor,
        mailbox: OutgoingMailbox,
        facts: HostFacts, time: MonotonicTime, relistAfter: Milliseconds, eventLoop: any EventLoop, log: Logger
    ) {
        self.held = held
        self.doorbell = doorbell
        self.observer = observer
        self.executor = executor
        self.mailbox = mailbox
        self.facts = facts
        self.time = time
        self.relistAfter = relistAfter
        self.eventLoop = eventLoop
        self.log = log
    }

    // MARK: for the session

    package var heldState: HeldDesiredState { held }
    /// With the workloads that run, for the removal guard; before the first look, those that are wanted running.
    package var heldAndRunning: (HeldDesiredState, Set<WorkloadID>) {
        (held, running ?? Set(held.state.workloads.values.filter { $0.wish == .running }.map(\.id)))
    }

    /// The state is on disk; from now on it is what is wanted.
    package func accept(_ held: HeldDesiredState) {
        self.held = held
        doorbell.ring()
    }

    /// How the last passes went, for heartbeats and `berth-agent status`.
    package var health: (passAge: Milliseconds?, failure: String?, statuses: [WorkloadStatus]) {
        (lastPass.map { time.now - $0 }, lastPassFailure, statuses.keys.sorted().compactMap { statuses[$0] })
    }

    // MARK: the loop

    /// Ends when cancelled, with all steps ended.
    package func run() async throws {
        doorbell.ring()
        await withDiscardingTaskGroup { group in
            for await _ in doorbell.rings {
                if Task.isCancelled { break }
                for step in await pass() { group.addTask { await self.carryOut(step) } }
            }
            group.cancelAll()
        }
        alarm?.cancel()
        try Task.checkCancellation()
    }

    private func pass() async -> [Step] {
        let now = time.now
        let desired = held.state
        for outcome in endedSteps { memory = memory.recording(outcome, now: now, random: .random(in: 0..<1)) }
        endedSteps = []
        if nextRelist.map({ $0 <= now }) ?? true {
            nextRelist = now + Milliseconds(relistAfter.count * Int.random(in: 90...110) / 100)
            // A reload of its configuration may have given the Engine another runtime.
            await observer.runtimesMayHaveChanged()
        }
        do {
            let result = try await ReconcilePass(
                desired: desired, memory: memory, now: now, random: .random(in: 0..<1)
            ).run(observer)
            memory = result.memory
            running = result.running
            lastPass = now
            lastPassFailure = nil
            await report(result.plan)
            if await observer.takeInfoChanged() { await mailbox.say(.host(await facts.describe(observer))) }
            report(orphans: result.plan.orphans)
            for workload in result.plan.cancellations { tasks[workload]?.cancel() }
            setAlarm(min(result.plan.nextLook ?? nextRelist ?? now, nextRelist ?? now), now: now)
            return result.plan.steps
        } catch is CancellationError {
            return []
        } catch {
            if lastPassFailure == nil {
                log.warning("pass failed; nothing is touched", metadata: ["error": "\(error)"])
            }
            lastPassFailure = String(describing: error)
            if let error = error as? EngineError { await executor.link.failed(error) }
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
        log.info(
            "step",
            metadata: [
                "workload": "\(step.workload)", "generation": "\(step.generation)", "action": "\(step.action.summary)",
                "reason": "\(step.reason)",
            ])
        if let stage = step.action.stage {
            await mailbox.progress(WorkloadProgress(workload: step.workload, generation: step.generation, stage: stage))
        }
        let outcome = await executor.run(step) { [mailbox] done, total in
            await mailbox.progress(
                WorkloadProgress(
                    workload: step.workload, generation: step.generation, stage: .pulling, doneBytes: done,
                    totalBytes: total))
        }
        if case .failed(let failure) = outcome.result {
            log.warning(
                "step failed",
                metadata: [
                    "workload": "\(step.workload)", "action": "\(step.action.summary)", "reason": "\(failure.reason)",
                    "error": "\(failure.message)",
                ])
        }
        switch step.action {
        case .create: await observer.volumesChanged()
        case .pull: await observer.imagesChanged()
        case .start(let id), .stop(let id, _), .remove(let id): await observer.containerChanged(id.text)
        }
        if case .create = step.action, case .failed = outcome.result { await observer.imagesChanged() }
        endedSteps.append(outcome)
        doorbell.ring()
    }

    // MARK: saying

    private func report(_ plan: Plan) async {
        var kept: [WorkloadID: WorkloadStatus] = [:]
        for var status in plan.statuses {
            if let before = statuses[status.workload], before.saysTheSame(as: status) || before.phase == status.phase {
                status.since = before.since
            } else {
                status.since = Timestamp.now()
            }
            if let spec = held.state.workloads[status.workload]?.spec {
                status.unenforced = ContainerTemplate.unenforced(spec)
            }
            kept[status.workload] = status
            guard await mailbox.report(status), statuses[status.workload]?.phase != status.phase else { continue }
            log.info(
                "workload",
                metadata: [
                    "workload": "\(status.workload)", "phase": "\(status.phase.word)",
                    "reason": "\(status.reason ?? "-")", "message": "\(status.message ?? "-")",
                ])
        }
        statuses = kept
    }

    private func report(orphans: [EngineContainerID]) {
        for orphan in orphans where !reportedOrphans.contains(orphan) {
            log.warning(
                "container of a workload that nobody told us about; left as it is", metadata: ["container": "\(orphan)"]
            )
        }
        reportedOrphans = Set(orphans)
    }

    private func setAlarm(_ moment: MonotonicInstant, now: MonotonicInstant) {
        alarm?.cancel()
        let doorbell = doorbell
        alarm = eventLoop.scheduleTask(in: .milliseconds(Int64(max(1, (moment - now).count)))) { doorbell.ring() }
    }
}

extension Step.Action {
    /// For the log.
    var summary: String {
        switch self {
        case .pull(let image): "pull \(image)"
        case .create(let order): "create \(order.name)"
        case .start(let id): "start \(id.text.prefix(12))"
        case .stop(let id, let grace): "stop \(id.text.prefix(12)) grace \(grace) s"
        case .remove(let id): "remove \(id.text.prefix(12)), volumes kept"
        }
    }

    var stage: WorkloadProgress.Stage? {
        switch self {
        case .pull: .pulling
        case .create: .creating
        case .start: .starting
        case .stop, .remove: nil
        }
    }
}
