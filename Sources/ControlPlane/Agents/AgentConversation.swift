import AgentProtocol
import BerthModel
import ControlPlaneStore
import Logging
import NIOCore
import ServiceRuntime
import WebSocketTransport

/// One agent's connection, from its `hello` to its end.
struct AgentConversation: Sendable {
    let agent: AgentID
    let gateway: AgentGateway
    let store: Store
    let heartbeatSeconds: Int
    let log: Logger

    /// The first message must be `hello`, and must come within this time.
    private static let helloTimeout = Duration.seconds(15)

    func run(_ connection: WebSocketConnection) async {
        let outgoing = AgentOutgoing()
        let epoch = Epoch()
        do {
            _ = try await connection.run { messages, writer in
                await epoch.expectHello(within: Self.helloTimeout) {
                    await writer.close(code: ProtocolCloseCode.outOfOrder, reason: "no hello")
                }
                await outgoing.start { item in
                    do {
                        return try await send(item, writer, epoch)
                    } catch {
                        log.debug("agent cannot be told", metadata: ["agent": "\(agent)", "error": "\(error)"])
                        // An agent that is told nothing any more must come back: this ends what receives, too.
                        connection.abandon()
                        return false
                    }
                }
                // It ends when the socket does, whoever closes it.
                try await receive(messages, writer, outgoing, epoch)
            }
        } catch {
            log.debug("agent connection ended", metadata: ["agent": "\(agent)", "error": "\(error)"])
        }
        await outgoing.stop()
        await epoch.stop()
        await gateway.closed(agent, epoch: await epoch.number)
    }

    // MARK: in

    private func receive(
        _ messages: WebSocketConnection.Messages, _ writer: WebSocketConnection.Writer, _ outgoing: AgentOutgoing,
        _ epoch: Epoch
    ) async throws {
        var unreadable = 0
        for try await message in messages {
            // A task of its own: what its work takes of memory goes with it. This one lives as long as the agent is
            // connected, and would keep the most that it ever took.
            async let isReadable = hear(message, writer, outgoing, epoch)
            guard try await !isReadable else { continue }
            unreadable += 1
            // One bad message may be a newer peer's; many are an attack or a bug, and each costs us.
            if unreadable > 20 {
                await writer.close(code: ProtocolCloseCode.malformed, reason: "too many unreadable messages")
            }
        }
    }

    /// - Returns: false where it is no message of the protocol.
    private func hear(
        _ message: WebSocketMessage, _ writer: WebSocketConnection.Writer, _ outgoing: AgentOutgoing, _ epoch: Epoch
    ) async throws -> Bool {
        guard case .text(let text) = message else {
            await writer.close(code: 1003, reason: "text frames only")
            return true
        }
        guard let heard = try? JSONCoding.decode(AgentMessage.self, from: text) else {
            log.warning(
                "message from an agent cannot be read",
                metadata: ["agent": "\(agent)", "bytes": "\(text.utf8.count)"])
            return false
        }
        if case .hello(let hello) = heard {
            if await epoch.number == 0, hello.agent == agent {
                try await open(hello, writer, outgoing, epoch)
            } else {
                await writer.close(code: ProtocolCloseCode.outOfOrder, reason: "hello twice, or of another agent")
            }
            return true
        }
        let number = await epoch.number
        guard number > 0 else {
            await writer.close(code: ProtocolCloseCode.outOfOrder, reason: "expected hello first")
            return true
        }
        if await gateway.isCurrent(agent, epoch: number) { try await act(on: heard, outgoing, epoch, writer) }
        return true
    }

    private func open(
        _ hello: AgentMessage.Hello, _ writer: WebSocketConnection.Writer, _ outgoing: AgentOutgoing, _ epoch: Epoch
    ) async throws {
        let opened = try await store.openSession(
            agent, host: hello.host.bounded(), heldRevision: hello.heldRevision, server: gateway.board.server,
            now: Timestamp.now())
        guard let opened else {
            await outgoing.end(with: .init(code: .deleted, reason: "this agent was deleted"))
            return
        }
        try await writer.setKeepalive(
            .init(pingEvery: .seconds(heartbeatSeconds), giveUpAfter: .seconds(3 * heartbeatSeconds)))
        await outgoing.say(
            .welcome(.init(epoch: opened.epoch, heartbeatSeconds: heartbeatSeconds, serverTime: Timestamp.now())))
        let desired = try await store.desiredState(of: agent)
        // The digest leaves tombstones out, and an agent of an earlier version may have let go of one too early.
        let isPurging = desired.workloads.values.contains(where: \.purgesVolumes)
        let holdsTheSame =
            !isPurging && hello.heldRevision == desired.revision && hello.heldDigest == desired.digest
        if !holdsTheSame, hello.heldRevision == desired.revision {
            // What it holds under this revision is something else, and it takes no other content under the same one.
            try await store.raiseRevision(of: agent)
        }
        let process = String(hello.process.prefix(64))
        await epoch.opened(opened.epoch, process: process, sent: holdsTheSame ? desired.revision : nil)
        await gateway.opened(opened.agent, epoch: opened.epoch, process: process, outgoing: outgoing)
        // Whoever changed something since it was read here found no session to tell.
        await outgoing.markDesired()
    }

    private func act(
        on message: AgentMessage, _ outgoing: AgentOutgoing, _ epoch: Epoch, _ writer: WebSocketConnection.Writer
    ) async throws {
        switch message {
        case .hello, .heartbeat, .ack, .unrecognised: break
        case .host(let host): try await gateway.heard(host.bounded(), from: agent, epoch: await epoch.number)
        case .status(let batch) where batch.items.count > ProtocolLimits.statusBatch:
            await writer.close(
                code: ProtocolCloseCode.malformed, reason: "more than \(ProtocolLimits.statusBatch) statuses at once")
        case .status(let batch):
            try await gateway.heard(batch.items.map { $0.bounded() }, from: agent, epoch: await epoch.number)
            await outgoing.say(.statusAck(batch: batch.batch))
        case .progress(let progress): await gateway.heard(progress, from: agent)
        case .activity(let samples):
            // The last of each, and no more than a host can have use for.
            let latest = Dictionary(samples.suffix(ProtocolLimits.samples).map { ($0.workload, $0) }) { $1 }
            await gateway.heard(latest.values.map { $0.bounded() }, from: agent)
        case .stats(let stats): await gateway.heard(stats, from: agent)
        case .nack(let nack):
            await gateway.refused(agent, nack)
            // A whole message was refused: start over with a snapshot, but not in a tight circle.
            if nack.workload == nil { await outgoing.markDesired(after: await epoch.startOver()) }
        case .events(let events) where events.items.count > ProtocolLimits.eventBatch:
            await writer.close(
                code: ProtocolCloseCode.malformed, reason: "more than \(ProtocolLimits.eventBatch) events at once")
        case .events(let events):
            try await gateway.heard(
                events, from: agent, epoch: await epoch.number, process: await epoch.process)
            if let last = events.items.map(\.number).max() { await outgoing.say(.eventAck(upTo: last)) }
        case .opResult(let result): await gateway.operations.answered(result.op, result)
        case .removalCandidates(let candidates):
            // Removals reach this store one by one, each asked for by its owner through the API; data is let go of for
            // few at a time, so this many at once is a mistake somewhere.
            let desired = try await store.desiredState(of: agent)
            let purges = candidates.workloads.count { desired.workloads[$0]?.purgesVolumes == true }
            guard purges <= Store.mostPurgesAtOnce else {
                log.error(
                    "too many workloads would lose their data at once; not confirmed",
                    metadata: ["agent": "\(agent)", "workloads": "\(purges)"])
                return
            }
            log.notice(
                "removals confirmed", metadata: ["agent": "\(agent)", "workloads": "\(candidates.workloads.count)"])
            await outgoing.say(.confirmRemoval(revision: candidates.revision))
            await outgoing.markDesired(after: await epoch.startOver())
        case .goodbye: await writer.close()
        }
    }

    // MARK: out

    /// - Returns: false where nothing may follow.
    private func send(
        _ item: AgentOutgoing.Item, _ writer: WebSocketConnection.Writer, _ epoch: Epoch
    ) async throws -> Bool {
        switch item {
        case .message(let message): try await writer.send(try JSONCoding.encodeText(message))
        case .desiredState: try await sendDesiredState(writer, epoch)
        case .end(let goodbye):
            try await writer.send(try JSONCoding.encodeText(ControlPlaneMessage.goodbye(goodbye)))
            await writer.close(code: 1000, reason: goodbye.code.word)
            return false
        }
        return true
    }

    private func sendDesiredState(_ writer: WebSocketConnection.Writer, _ epoch: Epoch) async throws {
        guard let sent = await epoch.sentRevision else {
            let desired = try await store.desiredState(of: agent)
            let items = desired.workloads.keys.sorted().compactMap { desired.workloads[$0] }.map(DesiredItem.workload)
            try await writer.send(
                try JSONCoding.encodeText(
                    ControlPlaneMessage.desiredSnapshot(
                        .init(revision: desired.revision, digest: desired.digest, items: items))))
            await epoch.sent(desired.revision)
            return
        }
        let (desired, changed) = try await store.changes(of: agent, after: sent)
        guard desired.revision > sent else { return }
        try await writer.send(
            try JSONCoding.encodeText(
                ControlPlaneMessage.desiredDelta(
                    .init(
                        appliesTo: sent, resultsIn: desired.revision, digest: desired.digest,
                        items: changed.map(DesiredItem.workload)))))
        await epoch.sent(desired.revision)
    }
}

/// Where one session stands: its epoch, and which revision the agent was sent last.
private actor Epoch {
    private(set) var number = 0
    private(set) var process = ""
    private(set) var sentRevision: Revision?
    private var snapshots = 0
    private var deadline: Task<Void, any Error>?

    func expectHello(within limit: Duration, orElse end: @escaping @Sendable () async -> Void) {
        deadline = Task {
            try await Task.sleep(for: limit)
            if number == 0 { await end() }
        }
    }

    func stop() {
        deadline?.cancel()
        deadline = nil
    }

    func opened(_ number: Int, process: String, sent: Revision?) {
        stop()
        self.number = number
        self.process = process
        sentRevision = sent
    }

    func sent(_ revision: Revision) { sentRevision = revision }

    /// - Returns: how long to wait before the next snapshot: an agent whose disk is full refuses every one.
    func startOver() -> Duration {
        sentRevision = nil
        snapshots += 1
        return snapshots <= 3 ? .zero : .seconds(10)
    }
}
