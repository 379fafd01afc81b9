import AgentProtocol
import BerthModel
import ControlPlane
import ControlPlaneCore
import ControlPlaneStore
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Synchronization
import WebSocketTransport

/// What thousands of idle agents cost the control plane, and how soon all are back when it was killed.
struct ManyAgents {
    let binaries: String
    let group: any EventLoopGroup
    let report: (String, String) -> Void

    private static let agents = 5000
    /// Connections that are opened at the same time.
    private static let atOnce = 50

    func run() async throws {
        let folder = NSTemporaryDirectory() + "berth-bench-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let bare = try await bareConnections(folder)

        var server = try await ControlPlaneSpeed.server(binaries, folder)
        defer { server.stop() }
        let alone = try ControlPlaneSpeed.creation(server.port, folder, "alone", count: 100)
        let tokens = try await register(folder)
        let before = server.privateKilobytes
        let fleet = Fleet()
        let port = server.port
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for (number, token) in tokens.enumerated() {
                tasks.addTask { [group] in await Self.live(number, token, port, fleet, group) }
                // At the rate at which a control plane takes them.
                if number % 20 == 19 { try await Task.sleep(for: .milliseconds(110)) }
            }
            try await fleet.untilConnected(Self.agents, within: 120)
            try await Task.sleep(for: .seconds(20))
            let each = Double(server.privateKilobytes - before) / Double(Self.agents)
            report("\(Self.agents) idle agents, KB each on the control plane", String(format: "%.1f", each))
            report("  a bare WebSocket of the same library, KB", String(format: "%.1f", bare))
            report("  above it, KB (goal: at most 25)", String(format: "%.1f", each - bare))

            let among = try ControlPlaneSpeed.creation(server.port, folder, "among", count: 100)
            report(
                "create to 202 with \(Self.agents) hosts to choose from, of one with none",
                String(format: "%.2f", among / alone))

            server.stop(SIGKILL)
            let killed = ContinuousClock.now
            server = try await ControlPlaneSpeed.server(binaries, folder, port: port)
            try await fleet.untilWelcomed(2 * Self.agents, within: 180)
            report(
                "  all back after a kill, s (goal: at most 60)",
                String(format: "%.1f", killed.duration(to: .now) / .seconds(1)))
            tasks.cancelAll()
        }
    }

    /// Kilobytes of one.
    private func bareConnections(_ folder: String) async throws -> Double {
        let peer = try await PeerProcess(
            CommandLine.arguments[0], environment: ["BERTH_BENCH_PEER": "sockets"], log: "\(folder)/sockets.log")
        defer { peer.stop() }
        guard let url = RemoteURL("ws://127.0.0.1:\(peer.port)/") else { return 0 }
        let before = peer.privateKilobytes
        let fleet = Fleet()
        return try await withThrowingTaskGroup(of: Void.self) { tasks in
            for number in 0..<Self.agents {
                tasks.addTask { [group] in
                    let connection = try await WebSocketClient.connect(to: url, group: group)
                    fleet.welcomed()
                    _ = try await connection.run { messages, _ in for try await _ in messages {} }
                }
                if number % Self.atOnce == Self.atOnce - 1 {
                    try await fleet.untilConnected(number + 1, within: 30)
                }
            }
            try await Task.sleep(for: .seconds(20))
            let each = Double(peer.privateKilobytes - before) / Double(Self.agents)
            tasks.cancelAll()
            return each
        }
    }

    private func register(_ folder: String) async throws -> [String] {
        let store = try await Store.open(.sqlite(path: "\(folder)/db"), migrates: false)
        guard let admin = try await store.user(named: "admin") else {
            throw ProgramFailure(.failure, "no administrator")
        }
        var tokens: [String] = []
        for number in 0..<Self.agents {
            let now = Timestamp.now()
            let agent = AgentRecord(
                id: Self.id(number), userID: admin.id, name: "bench-\(number)", details: "", tags: [],
                isShared: false, host: HostDescription(), createdAt: now, lastSeenAt: now)
            let text = Secrets.newToken()
            try await store.register(
                agent,
                token: TokenRecord(
                    id: Secrets.newUUID(), userID: admin.id, name: "", prefix: "", scopes: [.agent], agent: agent.id,
                    createdAt: now), hash: Secrets.hash(text))
            tokens.append(text)
        }
        return tokens
    }

    private static func id(_ number: Int) -> AgentID { AgentID(validated: "bench-agent-\(number)") }

    /// An agent that has nothing to do: says hello, answers pings, and comes back when its connection ends.
    private static func live(
        _ number: Int, _ token: String, _ port: Int, _ fleet: Fleet, _ group: any EventLoopGroup
    ) async {
        let hello = AgentMessage.hello(
            .init(
                agent: id(number), process: UUID().uuidString, version: BerthVersion.text,
                host: HostDescription(
                    hostname: "bench", os: "linux", arch: "x86_64",
                    capacity: HostCapacity(memoryMB: 64_000, cpuMillicores: 16_000),
                    engine: EngineDescription(runtimes: ["runc", "gvisor"])), heldRevision: .none,
                heldDigest: DesiredState(revision: .none, workloads: []).digest))
        guard let url = RemoteURL("ws://127.0.0.1:\(port)/ws/agent/\(id(number))"),
            let text = try? JSONCoding.encodeText(hello)
        else { return }
        while !Task.isCancelled {
            do {
                let connection = try await WebSocketClient.connect(
                    to: url, headers: ["Authorization": "Bearer \(token)"], subprotocol: ProtocolLimits.subprotocol,
                    group: group)
                _ = try await connection.run { messages, writer in
                    try await writer.send(text)
                    for try await message in messages {
                        if case .text(let text) = message, text.contains("welcome") { fleet.welcomed() }
                    }
                }
                fleet.left()
            } catch {}
            // As agents do: never all at once.
            try? await Task.sleep(for: .milliseconds(Int.random(in: 500...5000)))
        }
    }

    private final class Fleet: Sendable {
        private let counts = Mutex((connected: 0, welcomes: 0))

        func welcomed() {
            counts.withLock {
                $0.connected += 1
                $0.welcomes += 1
            }
        }
        func left() { counts.withLock { $0.connected -= 1 } }

        func untilConnected(_ count: Int, within seconds: Int) async throws {
            try await until(within: seconds) { $0.connected >= count }
        }
        func untilWelcomed(_ count: Int, within seconds: Int) async throws {
            try await until(within: seconds) { $0.welcomes >= count }
        }

        private func until(
            within seconds: Int, _ holds: @Sendable ((connected: Int, welcomes: Int)) -> Bool
        ) async throws {
            let end = ContinuousClock.now + .seconds(seconds)
            while !counts.withLock({ holds($0) }) {
                guard ContinuousClock.now < end else {
                    throw ProgramFailure(.failure, "agents after \(seconds) s: \(counts.withLock { $0 })")
                }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }
}
