package import AgentCore
import AgentProtocol
package import BerthModel
import Logging
import ServiceRuntime

/// What the loop says: to the log, the control plane, the history, and whoever asks.
extension ReconcileLoop {
    /// How the last passes went, for heartbeats and `berth-agent status`.
    package var health: (passAge: Milliseconds?, failure: String?, statuses: [WorkloadStatus]) {
        (lastPass.map { parts.time.now - $0 }, lastPassFailure, statuses.keys.sorted().compactMap { statuses[$0] })
    }

    // MARK: steps

    func beginning(_ step: Step) async {
        parts.log.info(
            "step",
            metadata: [
                "workload": "\(step.workload)", "generation": "\(step.generation)", "action": "\(step.action.summary)",
                "reason": "\(step.reason)",
            ])
        guard let stage = step.action.stage else { return }
        await parts.mailbox.progress(
            WorkloadProgress(workload: step.workload, generation: step.generation, stage: stage))
    }

    func ended(_ outcome: StepOutcome, took: Duration) async {
        let step = outcome.step
        var record = ActionRecord(
            number: 0, at: Timestamp.now(), workload: step.workload, generation: step.generation,
            action: step.action.summary, reason: step.reason, result: .succeeded,
            milliseconds: Int(took.components.seconds * 1000)
                + Int(took.components.attoseconds / 1_000_000_000_000_000))
        switch outcome.result {
        case .succeeded: break
        case .superseded: record.result = .superseded
        case .cancelled: record.result = .cancelled
        case .failed(let failure):
            record.result = .failed
            record.error = "\(failure.reason): \(failure.message)"
            parts.log.warning(
                "step failed",
                metadata: [
                    "workload": "\(step.workload)", "action": "\(step.action.summary)", "reason": "\(failure.reason)",
                    "error": "\(failure.message)",
                ])
        }
        await parts.mailbox.happened(history.add(record))
    }

    func died(_ workload: WorkloadID, _ exit: ContainerState.Exit) async {
        let reason = exit.outOfMemory ? "killed: out of memory" : "exit code \(exit.code)"
        let record = ActionRecord(
            number: 0, at: Timestamp.now(), workload: workload,
            generation: memory.workloads[workload]?.generation ?? 0, action: "died", reason: reason, result: .observed)
        await parts.mailbox.happened(history.add(record))
    }

    // MARK: states

    func report(_ plan: Plan) async {
        var kept: [WorkloadID: WorkloadStatus] = [:]
        let unenforced = await unenforcedLimits()
        for var status in plan.statuses {
            if let before = statuses[status.workload], before.saysTheSame(as: status) || before.phase == status.phase {
                status.since = before.since
            } else {
                status.since = Timestamp.now()
            }
            status.unenforced = unenforced[status.workload] ?? [:]
            kept[status.workload] = status
            guard await parts.mailbox.report(status), statuses[status.workload]?.phase != status.phase else { continue }
            parts.log.info(
                "workload",
                metadata: [
                    "workload": "\(status.workload)", "phase": "\(status.phase.word)",
                    "reason": "\(status.reason ?? "-")", "message": "\(status.message ?? "-")",
                ])
        }
        statuses = kept
    }

    /// Limits that nothing enforces on the containers that are there, each with the reason.
    private func unenforcedLimits() async -> [WorkloadID: [String: String]] {
        guard let lastObserved else { return [:] }
        let findings = await parts.observer.findings
        let traffic = await parts.shaper.problems
        let volumes = await parts.observer.volumeProblems
        var result: [WorkloadID: [String: String]] = [:]
        for container in lastObserved.managed where container.state.isUp || result[container.workload] == nil {
            guard let settings = container.settings else { continue }
            var limits: [String: String] = [:]
            if settings.diskMB == nil {
                limits["disk_mb"] =
                    findings.first { $0.engineRuntime == settings.runtime }?.diskProblem
                    ?? "this container was made before its disk could be limited"
            }
            if let resources = held.state.workloads[container.workload]?.spec.resources {
                if let problem = traffic[container.id.text], let wanted = resources.bandwidth {
                    if wanted.egressKbps != nil { limits["egress_kbps"] = problem }
                    if wanted.ingressKbps != nil { limits["ingress_kbps"] = problem }
                }
                if resources.volumeMB != nil {
                    limits["volume_mb"] =
                        volumes.first { VolumeMount.isName($0.key, of: container.workload) }?.value
                        ?? "it is measured now and then, and a write over it goes through"
                }
            }
            result[container.workload] = limits
        }
        return result
    }

    func report(orphans: [EngineContainerID]) {
        for orphan in orphans where !reportedOrphans.contains(orphan) {
            parts.log.warning(
                "container of a workload that nobody told us about; left as it is", metadata: ["container": "\(orphan)"]
            )
        }
        reportedOrphans = Set(orphans)
    }

    /// Said once each, shown for as long as they are there, ended by nobody but a person: they may be anybody's.
    func lookForOrphanSandboxes() async {
        let found = await parts.observer.orphanSandboxes()
        for orphan in found where !orphanSandboxes.contains(where: { $0.container == orphan.container }) {
            parts.log.warning(
                "processes of a container that does not run; end them by hand where they are not wanted",
                metadata: [
                    "container": "\(orphan.container)",
                    "pids": "\(orphan.pids.prefix(20).map(String.init).joined(separator: " "))",
                ])
        }
        orphanSandboxes = found
    }

    // MARK: answers

    /// From the last look at the Engine. Nil where nothing is wanted of such a workload.
    package func explain(_ workload: WorkloadID) -> WorkloadExplanation? {
        guard let lastObserved else { return nil }
        var explanation = Planner.explain(
            workload, desired: held.state, observed: lastObserved, memory: memory, now: parts.time.now,
            policy: parts.policy, expired: expired)
        explanation?.history = history.last(20, of: workload)
        return explanation
    }

    /// What would be done now, by the last look at the Engine; nothing is. Nil before the first look.
    package var planned: Plan? {
        lastObserved.map {
            Planner.plan(
                desired: held.state, observed: $0, memory: memory, now: parts.time.now, policy: parts.policy,
                expired: expired)
        }
    }

    private var expired: Set<WorkloadID> { held.state.expired(at: parts.serverTime.now).over }

    package func history(_ count: Int, of workload: WorkloadID?) -> [ActionRecord] {
        history.last(count, of: workload)
    }
}

extension Step.Action {
    /// A word for the fail points of test builds.
    var kind: String {
        switch self {
        case .pull: "pull"
        case .create: "create"
        case .start: "start"
        case .stop: "stop"
        case .update: "update"
        case .connect: "connect"
        case .setUp: "setup"
        case .endProcesses: "end"
        case .remove: "remove"
        case .removeVolume: "purge"
        }
    }

    var stage: WorkloadProgress.Stage? {
        switch self {
        case .pull: .pulling
        case .create: .creating
        case .start: .starting
        case .setUp: .configuring
        case .stop, .update, .connect, .endProcesses, .remove, .removeVolume: nil
        }
    }
}
