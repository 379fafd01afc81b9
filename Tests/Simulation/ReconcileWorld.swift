package import AgentCore
package import BerthModel

/// One agent's decisions over one simulated Engine, in virtual time: what a schedule of happenings is played in.
package struct ReconcileWorld: Hashable, Sendable {
    package private(set) var host: SimulatedHost
    package private(set) var memory = ReconcileMemory()
    /// What of the memory is on the agent's disk.
    package private(set) var stored = StoredMemory.nothing
    package private(set) var desired: DesiredState
    package private(set) var now = MonotonicInstant(milliseconds: 5_000_000)
    /// What was done and what happened, for people.
    package private(set) var story: [String] = []
    /// Broken properties, in the order of their discovery.
    package private(set) var broken: [String] = []

    private var everSeenVolumes: Set<String> = []
    private var observedGenerations: [WorkloadID: Generation] = [:]
    private var foreign: [String: SimulatedHost.Container] = [:]
    private var stepsDone = 0
    private var fileWasLost = false
    /// Steps from here on end as it says; for trying one fault at each call.
    package var fault: (at: Int, fate: SimulatedHost.Fate)? {
        get { faultAt >= 0 ? (faultAt, faultFate) : nil }
        set {
            faultAt = newValue?.at ?? -1
            faultFate = newValue?.fate ?? .works
        }
    }
    private var faultAt = -1
    private var faultFate = SimulatedHost.Fate.works
    package var stepCount: Int { stepsDone }

    package init(_ workloads: [DesiredWorkload], host: SimulatedHost = SimulatedHost()) {
        self.host = host
        desired = DesiredState(revision: Revision(1), workloads: workloads)
        for container in host.containers.values where container.workload == nil { foreign[container.id] = container }
    }

    // MARK: as part of a larger world

    /// What the agent holds now.
    package mutating func accept(_ desired: DesiredState) { self.desired = desired }

    /// Of the last pass.
    package private(set) var statuses: [WorkloadStatus] = []

    /// The process ends; what is on its disk stays.
    package mutating func killAgent() { restartAgent() }

    // MARK: what can happen

    package mutating func play(_ happening: Happening, jitter: Double = 0.5) {
        tell(happening.told)
        switch happening {
        case .pass(let fate): pass(fate, jitter: jitter)
        case .timePasses(let span): advance(span)
        case .agentIsKilled: restartAgent()
        case .agentLosesItsFile:
            stored = .nothing
            fileWasLost = true
            restartAgent()
        case .engineRestarts: host.restarted()
        case .processDies(let pick, let code): withContainer(pick, where: \.isUp) { $0.exit($1, code: code) }
        case .removedByHand(let pick): withContainer(pick) { $0.removedByHand($1) }
        case .stoppedByHand(let pick): withContainer(pick, where: \.isUp) { $0.exit($1, code: 143) }
        case .pausedByHand(let pick):
            withContainer(pick) { host, id in
                host.byHand(id) { if case .running(let since) = $0.state { $0.state = .paused(since: since) } }
            }
        case .unpausedByHand(let pick):
            withContainer(pick) { host, id in
                host.byHand(id) { if case .paused(let since) = $0.state { $0.state = .running(since: since) } }
            }
        case .limitsChangedByHand(let pick):
            withContainer(pick) { host, id in
                host.byHand(id) {
                    $0.limits.memory += 1_048_576
                    $0.restartPolicy = "always"
                }
            }
        case .disconnectedByHand(let pick):
            withContainer(pick) { host, id in host.byHand(id) { $0.isConnected = false } }
        case .imageIsRemoved(let image): host.images[image] = nil
        case .imageBreaks(let image, let how): host.broken[image] = how
        case .purge(let id):
            guard var next = desired.workloads[id], next.wish == .removed, !next.purgesVolumes else { return }
            next.purgesVolumes = true
            next.generation += 1
            desired = desired.applying([next], resultingIn: desired.revision.next)
        case .restore(let id):
            // As a control plane does it: not once the data is to go.
            guard var next = desired.workloads[id], next.wish == .removed, !next.purgesVolumes else { return }
            next.wish = .running
            next.generation += 1
            desired = desired.applying([next], resultingIn: desired.revision.next)
        case .wish(let id, let wish, let spec):
            guard let current = desired.workloads[id] else { return }
            // A tombstone is never undone.
            guard current.wish != .removed else { return }
            var next = current
            next.wish = wish
            if let spec { next.spec = spec }
            next.generation += 1
            desired = desired.applying([next], resultingIn: desired.revision.next)
        }
        check()
    }

    private mutating func withContainer(
        _ pick: Int, where fits: (SimulatedHost.Container) -> Bool = { _ in true },
        _ body: (inout SimulatedHost, String) -> Void
    ) {
        let ids = host.containers.values.filter { $0.workload != nil && fits($0) }.map(\.id).sorted()
        guard !ids.isEmpty else { return }
        body(&host, ids[pick % ids.count])
    }

    package mutating func advance(_ span: Milliseconds) {
        now = now + span
        host.pass(span)
    }

    private mutating func restartAgent() {
        memory = ReconcileMemory(stored, now: now)
        lastStarts = [:]
    }

    /// One pass of the agent, as `ReconcilePass` and `ReconcileLoop` make it.
    package mutating func pass(_ fate: SimulatedHost.Fate = .works, jitter: Double = 0.5) {
        let observed = host.observe(for: desired, pins: memory.workloads.compactMapValues(\.pinned?.imageID))
        memory = memory.noticing(observed, desired: desired, now: now, random: jitter)
        let plan = Planner.plan(desired: desired, observed: observed, memory: memory, now: now)
        note(plan)
        statuses = plan.statuses
        memory = memory.keeping(plan.statuses)
        stored = memory.stored(at: now)
        for step in plan.steps {
            if let workload = desired.workloads[step.workload],
                let due = memory.memory(of: workload).notBefore(step.action),
                due > now
            {
                broken.append("backoff: \(step.action.told) before its time")
            }
            memory = memory.launching(step, at: now)
            let fate = stepsDone == faultAt ? faultFate : fate
            if fate != .crashBefore, fate != .crashAfter { noteStart(step) }
            stepsDone += 1
            tell("  \(step.action.told): \(step.reason)\(fate == .works ? "" : " [\(fate.rawValue)]")")
            let result = host.perform(step, fate)
            check()
            guard let result else { return restartAgent() }
            memory = memory.recording(.init(step: step, result: result), now: now, random: jitter)
        }
        stored = memory.stored(at: now)
        advance(Milliseconds(100))
    }

    /// A start that changed nothing is not tried again at once.
    private mutating func noteStart(_ step: Step) {
        guard case .start(let id) = step.action, let container = host.containers[id.text] else { return }
        if let last = lastStarts[id.text], last.container == container, last.generation == step.generation,
            (now - last.at).count < 400
        {
            // Twice can be one death that was noticed late; three times is a circle.
            if last.isSecond {
                broken.append("backoff: \(container.name) is started again and again in the same state")
            }
            lastStarts[id.text]?.isSecond = true
            lastStarts[id.text]?.at = now
            return
        }
        lastStarts[id.text] = StartNote(container: container, at: now, generation: step.generation)
    }

    private struct StartNote: Hashable {
        var container: SimulatedHost.Container
        var at: MonotonicInstant
        var generation: Generation
        var isSecond = false
    }
    private var lastStarts: [String: StartNote] = [:]

    /// Nothing is in the way any more: passes and time, until nothing is planned.
    package mutating func settle(rounds: Int = 120) {
        host.broken = [:]
        fault = nil
        for _ in 0..<rounds {
            pass()
            advance(.seconds(150))
        }
    }

    // MARK: what must hold, after everything

    private mutating func note(_ plan: Plan) {
        for status in plan.statuses {
            let before = observedGenerations[status.workload] ?? 0
            if status.observedGeneration > status.generation {
                broken.append("observed generation \(status.observedGeneration) passes \(status.generation)")
            }
            if status.observedGeneration < before, !fileWasLost {
                broken.append("observed generation of \(status.workload) went down from \(before)")
            }
            // An agent that lost its file may not know; its control plane does, and keeps the highest.
            observedGenerations[status.workload] = max(before, status.observedGeneration)
            if status.observedGeneration == status.generation, let problem = lie(status) { broken.append(problem) }
        }
    }

    /// The observed generation never lies: what that generation wants is what there is.
    private func lie(_ status: WorkloadStatus) -> String? {
        guard let wanted = desired.workloads[status.workload], status.observedGeneration == wanted.generation,
            status.phase == .running || status.phase == .stopped || status.phase == .removed,
            memory.memory(of: wanted).observedGeneration < wanted.generation
        else { return nil }
        let own = host.containers.values.filter { $0.workload == status.workload.text }
        let up = own.filter(\.isUp)
        switch wanted.wish {
        case .running where status.phase == .running:
            let fits = up.contains { $0.labels["berth.spec"] == wanted.spec.fingerprint.text }
            return fits ? nil : "generation \(wanted.generation) is called carried out, and nothing of it runs"
        case .running: return nil
        case .stopped: return up.isEmpty ? nil : "called stopped while \(up[0].name) runs"
        case .removed where wanted.purgesVolumes:
            let left = host.volumes.filter { $0.hasPrefix(VolumeMount.name(for: wanted.id)) }
            return own.isEmpty && left.isEmpty ? nil : "called purged while \(own.map(\.name)) \(left) are there"
        case .removed: return own.isEmpty ? nil : "called removed while \(own[0].name) is there"
        }
    }

    private mutating func check() {
        // Only what somebody said is to go may go.
        let doomed = desired.workloads.values.filter(\.purgesVolumes).map { VolumeMount.name(for: $0.id) }
        let kept = everSeenVolumes.filter { volume in !doomed.contains { volume.hasPrefix($0) } }
        for property in SafetyProperty.allCases {
            if let problem = property.problem(host, ever: kept, foreign: foreign) {
                broken.append("\(property.rawValue): \(problem)")
            }
        }
        everSeenVolumes.formUnion(host.volumes)
    }

    private mutating func tell(_ line: String) {
        if story.count < 400 { story.append(line) }
    }

    package static func == (left: Self, right: Self) -> Bool {
        left.host == right.host && left.memory == right.memory && left.desired == right.desired && left.now == right.now
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(host)
        hasher.combine(desired)
    }
}

/// What is true of the Engine at every moment, whatever happens: numbers 1, 2, 4 and 6 of docs/reconcile.md. The simulated
/// host notices 2 and 4 when a call of ours would break them; a hand on the host may.
package enum SafetyProperty: String, CaseIterable, Sendable {
    case volumesNeverDisappear
    case noCallBreaksARule
    case foreignContainersAreNotTouched

    func problem(_ host: SimulatedHost, ever: Set<String>, foreign: [String: SimulatedHost.Container]) -> String? {
        switch self {
        case .volumesNeverDisappear:
            let lost = ever.subtracting(host.volumes)
            return lost.isEmpty ? nil : "\(lost) is gone"
        case .noCallBreaksARule: return host.violations.first
        case .foreignContainersAreNotTouched:
            return foreign.first { host.containers[$0.key] != $0.value }.map { "\($0.key) is not as it was" }
        }
    }
}

/// One thing that happens in a schedule.
package enum Happening: Hashable, Sendable {
    case pass(SimulatedHost.Fate)
    case timePasses(Milliseconds)
    case agentIsKilled
    case agentLosesItsFile
    case engineRestarts
    case processDies(Int, code: Int)
    case removedByHand(Int)
    case stoppedByHand(Int)
    case pausedByHand(Int)
    case unpausedByHand(Int)
    case limitsChangedByHand(Int)
    case disconnectedByHand(Int)
    case imageIsRemoved(String)
    case imageBreaks(String, SimulatedHost.Breakage?)
    case wish(WorkloadID, DesiredWorkload.Wish, WorkloadSpec?)
    case purge(WorkloadID)
    case restore(WorkloadID)

    package var told: String {
        switch self {
        case .pass(.works): "a pass"
        case .pass(let fate): "a pass whose calls end as \(fate.rawValue)"
        case .timePasses(let span): "\(span.count) ms pass"
        case .agentIsKilled: "the agent is killed and started"
        case .agentLosesItsFile: "the agent is killed and its memory file is lost"
        case .engineRestarts: "the Engine restarts"
        case .processDies(let pick, let code): "main process \(pick) ends with \(code)"
        case .removedByHand(let pick): "container \(pick) is removed by hand"
        case .stoppedByHand(let pick): "container \(pick) is stopped by hand"
        case .pausedByHand(let pick): "container \(pick) is paused by hand"
        case .unpausedByHand(let pick): "container \(pick) is unpaused by hand"
        case .limitsChangedByHand(let pick): "limits and restart policy of \(pick) are changed by hand"
        case .disconnectedByHand(let pick): "container \(pick) is taken off its network by hand"
        case .imageIsRemoved(let image): "image \(image) is removed by hand"
        case .imageBreaks(let image, let how): "image \(image) now \(how?.rawValue ?? "works")"
        case .purge(let id): "the data of \(id.text.prefix(4)) is to go"
        case .restore(let id): "\(id.text.prefix(4)) is restored"
        case .wish(let id, let wish, let spec):
            "workload \(id.text.prefix(4)) is wanted \(wish.rawValue)\(spec.map { ", image \($0.image), \($0.resources.memoryMB) MB" } ?? "")"
        }
    }
}
