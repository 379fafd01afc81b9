import AgentCore
import BerthModel

/// Behaves like an Engine, refuses what an Engine refuses, and keeps watch over what must never happen.
struct SimulatedHost {
    struct Container {
        var observed: ObservedContainer
        var image: String
    }

    private(set) var containers: [EngineContainerID: Container] = [:]
    private(set) var volumes: Set<String> = []
    var images: Set<String> = []
    private(set) var violations: [String] = []
    private(set) var changes = 0
    private var nextID = 0
    private var clock = 1.0

    /// How a call ends.
    enum Fate: CaseIterable { case works, fails, worksButTheAnswerIsLost }

    func observe() -> ObservedHost {
        ObservedHost(
            managed: containers.values.map(\.observed), foreignWriters: [:],
            images: ["alpine:latest": images.contains("alpine:latest") ? .present(imageID: "sha256:1") : .absent],
            runtimes: ["runc": "runc"], volumes: volumes)
    }

    /// Time goes on: what runs has been up for longer.
    mutating func pass(_ span: Milliseconds) {
        for (id, container) in containers {
            if case .running(let startedAt, let upFor) = container.observed.state {
                containers[id]?.observed.state = .running(
                    startedAt: startedAt, upFor: Milliseconds(upFor.count + span.count))
            }
        }
    }

    mutating func killSomething(_ pick: Int) {
        let running = containers.values.filter { $0.observed.state.isUp }.map(\.observed.id).sorted()
        guard !running.isEmpty else { return }
        exit(running[pick % running.count], code: 137)
    }

    mutating func removeSomethingByHand(_ pick: Int) {
        let all = containers.keys.sorted()
        guard !all.isEmpty else { return }
        containers[all[pick % all.count]] = nil
    }

    mutating func perform(_ step: Step, _ fate: Fate) -> StepOutcome.Result {
        if fate == .fails { return .failed(.init(reason: "injected", message: "", isPermanent: false)) }
        let result = carryOut(step.action)
        check()
        return fate == .works ? result : .failed(.init(reason: "lost_answer", message: "", isPermanent: false))
    }

    private mutating func carryOut(_ action: Step.Action) -> StepOutcome.Result {
        switch action {
        case .pull(let image):
            images.insert(image)
            return .succeeded
        case .create(let order):
            guard images.contains(order.spec.image) else { return refused("no such image") }
            guard !containers.values.contains(where: { $0.observed.name == order.name }) else { return .superseded }
            changes += 1
            nextID += 1
            let id = EngineContainerID(validated: "c\(nextID)")
            let mine = order.spec.volumes.map(\.volume)
            if !order.existingVolumes.isSubset(of: volumes) { violations.append("a volume was said to exist") }
            volumes.formUnion(mine)
            containers[id] = Container(
                observed: ObservedContainer(
                    id: id, name: order.name, workload: order.workload, generation: order.generation,
                    fingerprint: order.spec.fingerprint, attempt: order.attempt, state: .created, writableVolumes: mine),
                image: order.spec.image)
            return .succeeded
        case .start(let id):
            guard let container = containers[id] else { return .superseded }
            if container.observed.state.isUp { return .succeeded }
            changes += 1
            clock += 1
            containers[id]?.observed.state = .running(startedAt: clock, upFor: .zero)
            return .succeeded
        case .stop(let id, _):
            guard containers[id] != nil else { return .succeeded }
            changes += 1
            exit(id, code: 0)
            return .succeeded
        case .remove(let id):
            guard let container = containers[id] else { return .succeeded }
            guard !container.observed.state.isUp else { return refused("it is running") }
            changes += 1
            containers[id] = nil
            return .succeeded
        }
    }

    private mutating func exit(_ id: EngineContainerID, code: Int) {
        guard case .running(let startedAt, _)? = containers[id]?.observed.state else { return }
        containers[id]?.observed.state = .exited(.init(code: code, startedAt: startedAt, finishedAt: startedAt + 0.5))
    }

    private func refused(_ why: String) -> StepOutcome.Result {
        .failed(.init(reason: "refused", message: why, isPermanent: false))
    }

    /// What must hold after every step.
    private mutating func check() {
        let running = containers.values.map(\.observed).filter(\.state.isUp)
        for (volume, writers) in Dictionary(
            grouping: running.flatMap { c in c.writableVolumes.map { ($0, c) } }, by: \.0)
        where writers.count > 1 {
            violations.append("\(writers.count) writers on \(volume)")
        }
        for (workload, all) in Dictionary(grouping: containers.values, by: \.observed.workload) where all.count > 3 {
            violations.append("\(all.count) containers of \(workload)")
        }
    }
}
