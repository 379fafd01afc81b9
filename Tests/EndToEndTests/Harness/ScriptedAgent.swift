import AgentProtocol
import BerthModel
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Synchronization
import Testing
import WebSocketTransport

/// An agent that speaks the protocol, and answers as a test says: what no Engine does at will.
final class ScriptedAgent: Sendable {
    typealias Answer = @Sendable (DesiredWorkload) -> WorkloadStatus?

    private struct State {
        var answer: Answer = { ScriptedAgent.done($0) }
        var result: @Sendable (ControlPlaneMessage.Command) -> AgentMessage.OpResult? = { _ in nil }
        var wanted: [String: DesiredWorkload] = [:]
        var revision = Revision.none
        var writer: WebSocketConnection.Writer?
        var session: Task<Void, Never>?
        var batch = 0
    }

    let id: String
    private let client: APIClient
    private let token: String
    private let state = Mutex(State())

    /// Registered for its owner, and not connected.
    ///
    /// - Parameter more: fields beside the name, as JSON without the braces.
    init(of client: APIClient, name: String = "scripted", _ more: String = "") async throws {
        let rest = more.isEmpty ? "" : "," + more
        let made = try await client.call(.POST, "/api/agents/register", "{\"name\":\"\(name)\"\(rest)}")
        #expect(made.status == 201, "\(made)")
        self.client = client
        id = try #require(made.text("id"))
        token = try #require(made.text("token"))
    }

    /// What it says to what is wanted; nil says nothing. Without this all is done at once.
    func answers(_ answer: @escaping Answer) { state.withLock { $0.answer = answer } }

    /// What it says to a command; without this nothing.
    func answersCommands(_ result: @escaping @Sendable (ControlPlaneMessage.Command) -> AgentMessage.OpResult?) {
        state.withLock { $0.result = result }
    }

    /// Returns once it is listed as online.
    func connect(
        memoryMB: Int = 8000, runtimes: [String] = ["runc", "gvisor"], arch: String = "x86_64",
        holding held: Revision = .none
    ) async throws {
        let host = HostDescription(
            hostname: "scripted", arch: arch,
            capacity: HostCapacity(memoryMB: memoryMB, cpuMillicores: 4000, diskMB: 100_000),
            engine: EngineDescription(runtimes: runtimes))
        let hello = AgentMessage.Hello(
            agent: AgentID(validated: id), process: UUID().uuidString, version: "0", host: host,
            heldRevision: held, heldDigest: Fingerprint(text: "x"))
        let greeting = try JSONCoding.encodeText(AgentMessage.hello(hello))
        let url = try #require(RemoteURL("ws://127.0.0.1:\(client.port)/ws/agent/\(id)"))
        let connection = try await WebSocketClient.connect(
            to: url, headers: ["Authorization": "Bearer \(token)"], subprotocol: ProtocolLimits.subprotocol,
            group: TestEnvironment.group)
        let session = Task {
            _ = try? await connection.run { messages, writer in
                self.state.withLock { $0.writer = writer }
                try await writer.send(greeting)
                for try await message in messages {
                    if case .text(let text) = message { try await self.heard(text) }
                }
            }
        }
        state.withLock { $0.session = session }
        try await untilTrue("agent \(id) is online") {
            try await client.container("agent:\(id)").text("status") == "online"
        }
    }

    /// Returns once it is listed as offline.
    func disconnect() async throws {
        if let session = state.withLock({ $0.session }) {
            session.cancel()
            await session.value
        }
        try await untilTrue("agent \(id) is offline") {
            try await client.container("agent:\(id)").text("status") == "offline"
        }
    }

    private func heard(_ text: String) async throws {
        let (items, revision): ([DesiredItem], Revision)
        switch try? JSONCoding.decode(ControlPlaneMessage.self, from: text) {
        case .desiredSnapshot(let snapshot)?: (items, revision) = (snapshot.items, snapshot.revision)
        case .desiredDelta(let delta)?: (items, revision) = (delta.items, delta.resultsIn)
        case .command(let command)?:
            let result = state.withLock { $0.result }
            if let result = result(command) { try await say(.opResult(result)) }
            return
        default: return
        }
        state.withLock { $0.revision = revision }
        for case .workload(let wanted) in items {
            let answer = state.withLock { state -> Answer in
                state.wanted[wanted.id.text] = wanted
                return state.answer
            }
            if let status = answer(wanted) { try await say(status) }
        }
    }

    func say(_ status: WorkloadStatus) async throws {
        let batch = state.withLock { state -> Int in
            state.batch += 1
            return state.batch
        }
        try await say(AgentMessage.status(.init(batch: batch, items: [status])))
    }

    func say(_ message: AgentMessage) async throws {
        let opened = state.withLock { $0.writer }
        let writer = try #require(opened, "it is not connected")
        try await writer.send(try JSONCoding.encodeText(message))
    }

    /// What it was told last of a container.
    func wanted(_ id: String) -> DesiredWorkload? { state.withLock { $0.wanted[id] } }

    /// Of what it was told last.
    var revision: Revision { state.withLock { $0.revision } }

    /// As after another program has used its place.
    func forget() { state.withLock { $0.wanted = [:] } }

    @discardableResult
    func untilWanted(_ id: String, generation: Int = 1) async throws -> DesiredWorkload {
        try await eventually("\(id) is wanted in generation \(generation)", within: 20) { () -> DesiredWorkload? in
            guard let wanted = self.wanted(id), wanted.generation >= generation else { return nil }
            return wanted
        }
    }

    /// All is as it is wanted.
    ///
    /// - Parameter container: its Docker id.
    static func done(
        _ wanted: DesiredWorkload, container: String? = nil, startedAt: Double = 1_700_000_000
    ) -> WorkloadStatus {
        var status = WorkloadStatus(
            workload: wanted.id, generation: wanted.generation, observedGeneration: wanted.generation, phase: .running,
            engineContainer: EngineContainerID(validated: container ?? docker(wanted.id.text)), since: startedAt)
        switch wanted.wish {
        case .running:
            (status.address, status.startedAt, status.volumeKept) = ("172.17.0.5", startedAt, true)
        case .stopped: status.phase = .stopped
        case .removed: status.phase = .removed
        }
        return status
    }

    /// The Docker id that it gives to a container; other numbers are of those made after it.
    static func docker(_ id: String, number: Int = 1) -> String {
        let digits = String(id.filter { $0 != "-" }.reversed())
        return digits + String(repeating: "0", count: 31) + String(number)
    }
}
