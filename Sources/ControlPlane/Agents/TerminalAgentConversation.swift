import AgentProtocol
import BerthModel
import ControlPlaneStore
import Logging
import NIOCore
import ServiceRuntime
import WebSocketTransport

/// One connection of an agent of the reference product, which offers no subprotocol. It says what its host is and how busy,
/// it is listed and can be disconnected, and it is given no workloads: it offers no runtime, so nothing is placed there.
struct TerminalAgentConversation: Sendable {
    let agent: AgentID
    let gateway: AgentGateway
    let store: Store
    let pingEvery: Duration
    let log: Logger

    /// Messages that are no JSON, before the connection is closed.
    private static let mostUnreadable = 20

    func run(_ connection: WebSocketConnection) async {
        let session = Session()
        let outgoing = AgentOutgoing()
        do {
            _ = try await connection.run { messages, writer in
                guard var host = try await store.agent(agent)?.host else { return }
                // Whatever used this identity before: this program runs nothing.
                host.engine = nil
                guard
                    let opened = try await store.openSession(
                        agent, host: host, heldRevision: .none, server: gateway.board.server, now: Timestamp.now())
                else { return }
                await session.opened(opened.epoch)
                // It is told nothing but the end.
                await outgoing.start { item in
                    guard case .end(let goodbye) = item else { return true }
                    await writer.close(code: 1000, reason: goodbye.code.word)
                    return false
                }
                await gateway.opened(opened.agent, epoch: opened.epoch, process: "terminal", outgoing: outgoing)
                try await writer.setKeepalive(.init(pingEvery: pingEvery, giveUpAfter: pingEvery * 3))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await receive(messages, writer, epoch: opened.epoch) }
                    group.addTask {
                        while true {
                            try await Task.sleep(for: pingEvery)
                            try await writer.send(#"{"type":"ping"}"#)
                        }
                    }
                    defer { group.cancelAll() }
                    try await group.next()
                }
            }
        } catch {
            log.debug("agent connection ended", metadata: ["agent": "\(agent)", "error": "\(error)"])
        }
        await outgoing.stop()
        await gateway.closed(agent, epoch: await session.epoch)
    }

    private actor Session {
        private(set) var epoch = 0
        func opened(_ epoch: Int) { self.epoch = epoch }
    }

    private func receive(
        _ messages: WebSocketConnection.Messages, _ writer: WebSocketConnection.Writer, epoch: Int
    ) async throws {
        var unreadable = 0
        for try await message in messages {
            guard case .text(let text) = message, let value = try? JSONCoding.decode(JSONValue.self, from: text),
                let type = value["type"]?.text
            else {
                unreadable += 1
                if unreadable > Self.mostUnreadable {
                    await writer.close(code: ProtocolCloseCode.malformed, reason: "too many unreadable messages")
                }
                continue
            }
            guard await gateway.isCurrent(agent, epoch: epoch) else { continue }
            // Inside `data`, or beside the type.
            let data = value["data"] ?? value
            switch type {
            case "system_info":
                guard var host = try await store.agent(agent)?.host else { continue }
                host.learn(from: data)
                try await gateway.heard(host.bounded(), from: agent, epoch: epoch)
            case "stats": await gateway.heard(HostStats(reported: data), from: agent)
            default: break
            }
        }
    }
}

extension HostDescription {
    /// Takes over what is there; what is not stays.
    fileprivate mutating func learn(from data: JSONValue) {
        if let text = data["hostname"]?.text { hostname = text }
        if let text = data["os"]?.text { os = text }
        if let text = data["arch"]?.text { arch = text }
        if let text = data["distro"]?.text ?? data["platform"]?.text { distro = text }
        if let text = data["kernel"]?.text { kernel = text }
        if let bytes = data.whole("memory_total") ?? data.whole("memory") { capacity.memoryMB = bytes / 1_048_576 }
        if let cores = data.whole("num_cpu") ?? data.whole("cpus"), (0...100_000).contains(cores) {
            capacity.cpuMillicores = cores * 1000
        }
        if let bytes = data.whole("disk_total") { capacity.diskMB = bytes / 1_048_576 }
    }
}

extension HostStats {
    fileprivate init(reported data: JSONValue) {
        var percent = 0.0
        switch data["cpu_percent"] {
        case .number(let number) where number.isFinite: percent = number
        case .integer(let number): percent = Double(number)
        default: break
        }
        self.init(
            cpuPercent: min(max(percent, 0), 100_000), memoryBytes: data.whole("memory") ?? 0,
            memoryLimitBytes: data.whole("memory_limit") ?? 0, diskBytes: data.whole("disk_usage") ?? 0,
            diskLimitBytes: data.whole("disk_limit") ?? 0, uptimeSeconds: data.whole("uptime") ?? 0)
    }
}

extension JSONValue {
    /// A whole number that is not negative, however it was written.
    fileprivate func whole(_ key: String) -> Int? {
        switch self[key] {
        case .integer(let number) where number >= 0: number
        case .number(let number) where (0..<9e15).contains(number): Int(number)
        default: nil
        }
    }
}
