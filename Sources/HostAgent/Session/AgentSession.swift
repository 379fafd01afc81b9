import AgentCore
import AgentProtocol
import BerthModel
import Logging
import NIOCore
import ServiceRuntime
import WebSocketTransport

/// One connection from `hello` to its end.
struct AgentSession: Sendable {
    struct End: Sendable {
        var ending: ReconnectBackoff.Ending
        var reason: String
    }

    let agent: AgentID
    let process: String
    let loop: ReconcileLoop
    let observer: HostObserver
    let sampler: ActivitySampler
    let mailbox: OutgoingMailbox
    let store: DesiredStateStore
    let facts: HostFacts
    let log: Logger

    /// - Parameter opened: called when the control plane has welcomed this agent.
    func run(
        _ connection: WebSocketConnection,
        opened: @escaping @Sendable (WebSocketConnection.Writer, Int) async -> Void
    ) async throws -> End {
        let goodbye = Farewell()
        let closure = try await connection.run { messages, writer in
            // First: what is said while hello is made belongs to this session.
            await mailbox.sessionStarted()
            try await send(try await hello(), writer)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await _ in mailbox.doorbell.rings {
                        for message in await mailbox.drain() { try await send(message, writer) }
                    }
                }
                group.addTask { try await receive(messages, writer, goodbye, opened) }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
        try Task.checkCancellation()
        if let said = await goodbye.said {
            return End(ending: ending(of: said), reason: "\(said.code.word): \(said.reason)")
        }
        return End(ending: .closed, reason: "closed by \(closure.origin) with \(closure.code) \(closure.reason)")
    }

    private func ending(of goodbye: ControlPlaneMessage.Goodbye) -> ReconnectBackoff.Ending {
        switch goodbye.code {
        case .deleted: .notAccepted
        case .replaced, .stopped, .draining, .protocolViolation, .unrecognised:
            goodbye.reconnectAfterSeconds.map { .askedToWait(seconds: $0) } ?? .closed
        }
    }

    private func hello() async throws -> AgentMessage {
        let held = await loop.heldState
        return .hello(
            .init(
                agent: agent, process: process, version: BerthVersion.text, host: await facts.describe(observer),
                heldRevision: held.state.revision, heldDigest: held.digest))
    }

    private func send(_ message: AgentMessage, _ writer: WebSocketConnection.Writer) async throws {
        try await writer.send(try JSONCoding.encodeText(message))
    }

    // MARK: what the control plane says

    private func receive(
        _ messages: WebSocketConnection.Messages, _ writer: WebSocketConnection.Writer, _ goodbye: Farewell,
        _ opened: @Sendable (WebSocketConnection.Writer, Int) async -> Void
    ) async throws {
        var intake = DesiredStateIntake()
        var heartbeats: Task<Void, any Error>?
        defer { heartbeats?.cancel() }
        for try await message in messages {
            guard case .text(let text) = message else {
                await writer.close(code: 1003, reason: "text frames only")
                continue
            }
            let heard: ControlPlaneMessage
            do {
                heard = try JSONCoding.decode(ControlPlaneMessage.self, from: text)
            } catch {
                log.warning("message from the control plane cannot be read", metadata: ["error": "\(error)"])
                await mailbox.say(.nack(.init(revision: .none, workload: nil, reason: "unreadable message")))
                continue
            }
            switch heard {
            case .welcome(let welcome):
                let beat = min(max(welcome.heartbeatSeconds, 1), 300)
                try await writer.setKeepalive(
                    .init(pingEvery: .seconds(beat), giveUpAfter: .seconds(2 * beat + 5)))
                await opened(writer, welcome.epoch)
                loop.parts.serverTime.heard(welcome.serverTime)
                reportSkew(welcome.serverTime)
                heartbeats?.cancel()
                heartbeats = Task { try await beatForEver(every: beat) }
            case .desiredSnapshot(let snapshot):
                let (held, running) = await loop.heldAndRunning
                await act(on: intake.snapshotReceived(snapshot, held: held, running: running))
            case .desiredDelta(let delta):
                let (held, running) = await loop.heldAndRunning
                await act(on: intake.deltaReceived(delta, held: held, running: running))
            case .confirmRemoval(let revision):
                intake.removalConfirmed(revision)
            case .statusAck(let batch):
                let gone = await mailbox.acknowledged(batch: batch)
                if !gone.isEmpty { await forget(gone) }
            case .eventAck(let number): await mailbox.historyKept(upTo: number)
            case .command(let command): await mailbox.say(.opResult(await answer(command)))
            case .goodbye(let said):
                await goodbye.heard(said)
                await writer.close()
            case .unrecognised(let type):
                log.debug("message of an unknown type", metadata: ["type": "\(type)"])
            }
        }
    }

    /// Stored first, acknowledged after: what was acknowledged survives a power cut.
    private func act(on verdict: DesiredStateIntake.Verdict) async {
        switch verdict {
        case .store(let held, let nacks):
            do {
                try store.save(held)
            } catch {
                log.error("desired state cannot be stored; not acknowledged", metadata: ["error": "\(error)"])
                await mailbox.say(.nack(.init(revision: held.state.revision, workload: nil, reason: "\(error)")))
                return
            }
            await loop.accept(held)
            for nack in nacks { await mailbox.say(.nack(nack)) }
            await mailbox.say(.ack(revision: held.state.revision))
        case .acknowledgeAgain(let revision): await mailbox.say(.ack(revision: revision))
        case .refuse(let nack):
            log.warning("desired state refused", metadata: ["reason": "\(nack.reason)"])
            await mailbox.say(.nack(nack))
        case .askToConfirm(let candidates):
            log.warning("mass removal held until confirmed", metadata: ["workloads": "\(candidates.workloads.count)"])
            await mailbox.say(.removalCandidates(candidates))
        }
    }

    private func answer(_ command: ControlPlaneMessage.Command) async -> AgentMessage.OpResult {
        switch command.kind {
        case .explain:
            guard let workload = command.workload, let explanation = await loop.explain(workload),
                let text = try? JSONCoding.encodeText(explanation)
            else { return .init(op: command.op, ok: false, error: "nothing is wanted of such a workload here") }
            return .init(op: command.op, ok: true, answer: text)
        case .stopIfIdle:
            guard let workload = command.workload, let left = await sampler.stopsIn(workload) else {
                return .init(op: command.op, ok: false, error: "it is not to be stopped for idleness")
            }
            guard left <= 0 else {
                return .init(op: command.op, ok: false, error: "\(Int(left.rounded(.up))) s are left")
            }
            return .init(op: command.op, ok: true)
        case .unrecognised(let kind):
            return .init(op: command.op, ok: false, error: "this agent does not know the command \"\(kind)\"")
        }
    }

    /// Tombstones are kept until the control plane knows that they were carried out.
    private func forget(_ removed: [WorkloadID]) async {
        var held = await loop.heldState
        held.state = held.state.forgetting(removed)
        do {
            try store.save(held)
            await loop.accept(held)
        } catch {
            log.warning("confirmed removals cannot be stored", metadata: ["error": "\(error)"])
        }
    }

    private func beatForEver(every seconds: Int) async throws {
        while true {
            try await Task.sleep(for: .seconds(seconds))
            let health = await loop.health
            await mailbox.say(
                .heartbeat(.init(passAgeMilliseconds: health.passAge?.count, engineReachable: health.failure == nil)))
        }
    }

    private func reportSkew(_ serverTime: Double) {
        let skew = Timestamp.now() - serverTime
        guard abs(skew) > 60 else { return }
        log.warning("this host's clock differs from the control plane's", metadata: ["seconds": "\(skew)"])
    }
}

/// The goodbye of the control plane, kept for after the connection has ended.
private actor Farewell {
    private(set) var said: ControlPlaneMessage.Goodbye?
    func heard(_ goodbye: ControlPlaneMessage.Goodbye) { said = goodbye }
}
