import AgentCore
import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Foundation
import ServiceRuntime
import Simulation

/// Control plane, network, agent and Engine in one thread and virtual time: the real store and the real decisions of both
/// ends, with everything between them at the mercy of a schedule. Sessions are cut with messages in flight, processes die,
/// answers are lost after the write they belong to.
struct WholeSystem {
    enum Event: Hashable, CustomStringConvertible {
        case create(Int, answerIsLost: Bool)
        case resize(Int)
        case replace(Int)
        case stop(Int)
        case start(Int)
        case delete(Int)
        case deleteEverything
        case connect(answerIsLost: Bool)
        case cut
        case push
        case toAgent
        case toControlPlane(stale: Bool)
        case agentSpeaks
        case agentPass(SimulatedHost.Fate)
        case agentDies
        case controlPlaneDies
        case onTheHost(Happening)

        var description: String {
            switch self {
            case .onTheHost(let happening): happening.told
            default:
                "\(Mirror(reflecting: self).children.first.map { "\($0.label ?? "") \($0.value)" } ?? Self.word(self))"
            }
        }

        private static func word(_ event: Event) -> String {
            switch event {
            case .deleteEverything: "delete everything"
            case .cut: "the session is cut"
            case .push: "push"
            case .toAgent: "one message to the agent"
            case .agentSpeaks: "the agent speaks"
            case .agentDies: "the agent dies"
            case .controlPlaneDies: "the control plane dies"
            default: ""
            }
        }
    }

    /// One connection as both ends see it.
    private final class Session {
        let epoch: Int
        var toAgent: [String] = []
        var toControlPlane: [String] = []
        var sent: Revision?
        init(epoch: Int, sent: Revision?) {
            self.epoch = epoch
            self.sent = sent
        }
    }

    private(set) var broken: [String] = []
    private var isSettling = false
    private let store: Store
    private let agent = AgentID(validated: "a1")
    private var now = 1_000.0

    // The control plane's memory, lost with its process.
    private var current: Session?
    private var stale: [Session] = []

    // The agent: what is on its disk, and its memory.
    private var held = HeldDesiredState.nothing
    private var session: Session?
    private var intake = DesiredStateIntake()
    private var outbox = StatusOutbox()
    private var confirmed: Set<Revision> = []
    private var world = ReconcileWorld([])

    // What was promised.
    private var accepted: [Int: WorkloadID] = [:]
    private var deleted: Set<WorkloadID> = []
    private var highestObserved: [WorkloadID: Generation] = [:]
    private var removedOnHost: Set<WorkloadID> = []

    init(folder: String) async throws {
        store = try await Store.open(.sqlite(path: folder + "/db"))
        _ = try await store.create(UserRecord(id: "u1", name: "ann", tier: .pro, isAdmin: true), now: 1)
        let record = AgentRecord(
            id: agent, userID: "u1", name: "a", details: "", tags: [], isShared: false, host: Self.host, createdAt: 1,
            lastSeenAt: 1)
        let token = TokenRecord(
            id: "t1", userID: "u1", name: "", prefix: "", scopes: [.agent], agent: agent, createdAt: 1)
        try await store.register(record, token: token, hash: "h")
    }

    private static let host = HostDescription(
        capacity: HostCapacity(memoryMB: 64_000, cpuMillicores: 64_000), engine: EngineDescription(runtimes: ["runc"]))

    // MARK: a schedule

    mutating func play(_ event: Event) async throws {
        now += 0.1
        switch event {
        case .create(let number, let answerIsLost): try await create(number, answerIsLost: answerIsLost)
        case .resize(let number):
            try await change(number) { $0.spec.resources.memoryMB = $0.spec.resources.memoryMB == 256 ? 300 : 256 }
        case .replace(let number):
            try await change(number) { $0.spec.environment["V"] = String($0.generation) }
        case .stop(let number): try await change(number) { $0.wish = .stopped }
        case .start(let number): try await change(number) { $0.wish = .running }
        case .delete(let number): try await delete(number)
        case .deleteEverything: for number in accepted.keys.sorted() { try await delete(number) }
        case .connect(let answerIsLost): try await connect(answerIsLost: answerIsLost)
        case .cut: cut()
        case .push: try await push()
        case .toAgent: try await deliverToAgent()
        case .toControlPlane(let fromStale):
            if fromStale, let old = stale.first(where: { !$0.toControlPlane.isEmpty }) {
                try await deliverToControlPlane(old)
            } else if let current {
                try await deliverToControlPlane(current)
            }
        case .agentSpeaks: speak()
        case .agentPass(let fate):
            world.accept(held.state)
            world.pass(fate)
            for status in world.statuses { _ = outbox.report(status) }
        case .agentDies:
            cut()
            world.killAgent()
            outbox = StatusOutbox()
        case .controlPlaneDies:
            current = nil
            stale = []
            session = nil
        case .onTheHost(let happening): world.play(happening)
        }
        broken += world.broken
        if !isSettling { try await check() }
    }

    // MARK: users

    private mutating func create(_ number: Int, answerIsLost: Bool) async throws {
        guard accepted[number] == nil else { return }
        let id = WorkloadID(validated: "1234567890-\(number)")
        let spec = WorkloadSpec(
            name: "w\(number)", image: "alpine:latest", runtime: .init(name: "runc"), resources: .init(memoryMB: 256),
            volumes: [VolumeMount(volume: VolumeMount.name(for: id), path: "/root")])
        let record = ContainerRecord(
            id: id, userID: "u1", image: "alpine", role: "", spec: spec, createdAt: now, lastUsedAt: now)
        let outcome = try await store.create(
            record, limit: 20, idempotencyKey: "key-\(number)", wish: HostWish(agent: agent), online: [agent])
        switch outcome {
        // Without an answer nobody was promised anything; the same key asks again later.
        case .created(let made), .repeated(let made): if !answerIsLost { accepted[number] = made.id }
        case .limitReached, .nameTaken: broken.append("create \(number) was refused: \(outcome)")
        }
    }

    private func change(_ number: Int, _ body: @escaping @Sendable (inout ContainerRecord) -> Void) async throws {
        guard let id = accepted[number], !deleted.contains(id) else { return }
        _ = try await store.change(id, now: now, body)
    }

    private mutating func delete(_ number: Int) async throws {
        guard let id = accepted[number], deleted.insert(id).inserted else { return }
        let moment = now
        _ = try await store.change(id, now: now) { record in
            record.wish = .removed
            record.deletedAt = moment
        }
    }

    // MARK: the network

    private mutating func cut() {
        if let session { stale.append(session) }
        session?.toAgent = []
        session = nil
    }

    private mutating func connect(answerIsLost: Bool) async throws {
        guard session == nil else { return }
        let opened = try await store.openSession(
            agent, host: Self.host, heldRevision: held.state.revision, server: "s", now: now)
        guard let opened else { return }
        let desired = try await store.desiredState(of: agent)
        let isSame = held.state.revision == desired.revision && held.digest == desired.digest
        let next = Session(epoch: opened.epoch, sent: isSame ? desired.revision : nil)
        if let current, current !== session { stale.append(current) }
        current = next
        guard !answerIsLost else { return }
        session = next
        intake = DesiredStateIntake()
        outbox.sessionStarted()
    }

    /// As `AgentConversation` does.
    private func push() async throws {
        guard let current else { return }
        guard let sent = current.sent else {
            let desired = try await store.desiredState(of: agent)
            let items = desired.workloads.keys.sorted().compactMap { desired.workloads[$0] }.map(DesiredItem.workload)
            try say(.desiredSnapshot(.init(revision: desired.revision, digest: desired.digest, items: items)), current)
            current.sent = desired.revision
            return
        }
        let (desired, changed) = try await store.changes(of: agent, after: sent)
        guard desired.revision > sent else { return }
        try say(
            .desiredDelta(
                .init(
                    appliesTo: sent, resultsIn: desired.revision, digest: desired.digest,
                    items: changed.map(DesiredItem.workload))), current)
        current.sent = desired.revision
    }

    private func say(_ message: ControlPlaneMessage, _ session: Session) throws {
        session.toAgent.append(try JSONCoding.encodeText(message))
    }

    private func say(_ message: AgentMessage) {
        guard let session, let text = try? JSONCoding.encodeText(message) else { return }
        session.toControlPlane.append(text)
    }

    private mutating func speak() {
        guard session != nil else { return }
        while let batch = outbox.nextToSend() { say(.status(batch)) }
    }

    // MARK: the agent hears

    private mutating func deliverToAgent() async throws {
        guard let session, !session.toAgent.isEmpty else { return }
        let text = session.toAgent.removeFirst()
        let running = Set(
            world.host.containers.values.filter(\.isUp).compactMap { $0.workload.map { WorkloadID(validated: $0) } })
        switch try JSONCoding.decode(ControlPlaneMessage.self, from: text) {
        case .desiredSnapshot(let snapshot):
            act(on: intake.snapshotReceived(snapshot, held: held, running: running), running)
        case .desiredDelta(let delta): act(on: intake.deltaReceived(delta, held: held, running: running), running)
        case .confirmRemoval(let revision):
            intake.removalConfirmed(revision)
            confirmed.insert(revision)
        case .statusAck(let batch): held.state = held.state.forgetting(outbox.acknowledged(batch: batch))
        case .welcome, .eventAck, .command, .goodbye, .unrecognised: break
        }
    }

    private mutating func act(on verdict: DesiredStateIntake.Verdict, _ running: Set<WorkloadID>) {
        switch verdict {
        case .store(let next, _):
            let doomed = running.filter {
                next.state.workloads[$0]?.wish == .removed && held.state.workloads[$0]?.wish != .removed
            }
            let isMass = doomed.count > max(3, running.count * 3 / 10) || (doomed == running && running.count > 1)
            if isMass, !confirmed.contains(next.state.revision) {
                broken.append("\(doomed.count) of \(running.count) running workloads removed without a confirmation")
            }
            for (id, before) in held.state.workloads where before.wish == .removed {
                if let after = next.state.workloads[id], after.wish != .removed {
                    broken.append("the tombstone of \(id) was undone on the agent")
                }
            }
            held = next
            say(.ack(revision: next.state.revision))
        case .acknowledgeAgain(let revision): say(.ack(revision: revision))
        case .refuse(let nack): say(.nack(nack))
        case .askToConfirm(let candidates): say(.removalCandidates(candidates))
        }
    }

    // MARK: the control plane hears

    private mutating func deliverToControlPlane(_ from: Session) async throws {
        guard !from.toControlPlane.isEmpty else { return }
        let text = from.toControlPlane.removeFirst()
        // A stale session never acts.
        guard let current, from.epoch == current.epoch else { return }
        switch try JSONCoding.decode(AgentMessage.self, from: text) {
        case .status(let batch):
            _ = try await store.record(batch.items.map { $0.bounded() }, from: agent, now: now)
            try say(.statusAck(batch: batch.batch), current)
        case .nack(let nack): if nack.workload == nil { current.sent = nil }
        case .removalCandidates(let candidates):
            try say(.confirmRemoval(revision: candidates.revision), current)
            current.sent = nil
        default: break
        }
    }

    // MARK: what must hold

    private mutating func check() async throws {
        for (number, id) in accepted {
            guard let record = try await store.container(id) else {
                broken.append("accepted create \(number) is lost")
                continue
            }
            if deleted.contains(id), record.wish != .removed { broken.append("the tombstone of \(id) was undone") }
            let observed = record.observed?.observedGeneration ?? 0
            if observed < highestObserved[id] ?? 0 { broken.append("observed generation of \(id) went down") }
            if observed > record.generation { broken.append("observed generation of \(id) passes the wanted one") }
            highestObserved[id] = max(observed, highestObserved[id] ?? 0)
            if record.observed?.phase == .removed, record.wish == .removed { removedOnHost.insert(id) }
        }
        for container in world.host.containers.values {
            guard let id = container.workload.map({ WorkloadID(validated: $0) }), removedOnHost.contains(id) else {
                continue
            }
            broken.append("\(container.name) is there after its removal was confirmed")
        }
    }

    /// A network that works, and time.
    mutating func settle() async throws {
        world.settle(rounds: 0)
        isSettling = true
        for round in 0..<40 {
            if round % 10 == 9 { try await check() }
            try await play(.connect(answerIsLost: false))
            try await play(.push)
            for _ in 0..<4 {
                try await play(.toAgent)
                try await play(.toControlPlane(stale: false))
            }
            try await play(.agentPass(.works))
            world.advance(.seconds(250))
            try await play(.agentSpeaks)
        }
        broken += world.unsettled()
        for (number, id) in accepted where !deleted.contains(id) {
            guard let record = try await store.container(id) else { continue }
            if record.observed?.observedGeneration != record.generation {
                broken.append(
                    "workload \(number): generation \(record.generation) is wanted,"
                        + " \(record.observed?.observedGeneration ?? 0) carried out: \(String(describing: record.observed))"
                )
            }
        }
    }
}
