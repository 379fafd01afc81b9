import DockerEngine
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Synchronization
import Testing

/// A control plane, an agent and one workload with a file in its volume whose checksum is known, on a real Engine, with
/// somebody who watches how many write to that volume.
struct Cradle: Sendable {
    let engine: DockerEngine
    let controlPlane: TestControlPlane
    let agent: TestAgent
    let client: APIClient
    let writers: WriterWatch
    /// The workload.
    let id: String
    let checksum: String
    let volumePath: String

    /// - Parameters:
    ///   - engine: another than the common one; `endpoint` is then its address.
    ///   - settings: of the agent's process.
    init(
        _ name: String, runtime: String = "runc", engine other: DockerEngine? = nil, endpoint: String? = nil,
        settings: [String: String] = [:]
    ) async throws {
        let house = try await House(name, engine: other, endpoint: endpoint, settings: settings)
        (engine, controlPlane, agent, client) = (house.engine, house.controlPlane, house.agent, house.client)
        try await engine.pullQuietly("alpine:latest")
        writers = WriterWatch(engine, agent: agent.id)
        try await writers.begin()
        id = try await client.create(name, runtime: runtime)
        let container = try #require(try await client.untilStatus("running", id)["id"]?.text)
        let volume = "berth-\(id)"
        volumePath = try #require(try await engine.inspectContainer(container).mounts.first { $0.name == volume })
            .destination
        let path = volumePath
        _ = try await engine.run("head -c 3000000 /dev/urandom > \(path)/precious && sync", in: container)
        checksum = try await engine.run("sha256sum \(path)/precious", in: container)
        #expect(checksum.count > 64)
    }

    /// The API says that the wanted generation is carried out; gives the container.
    @discardableResult
    func settled(within seconds: Double = 60, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String
    {
        try await eventually("the workload is settled", within: seconds, sourceLocation: sourceLocation) {
            let answer = try await client.container(id)
            guard answer.text("status") == "running", answer.body["generation"] == answer.body["observed_generation"],
                let container = answer.text("id"),
                try await running() == [container]
            else { return nil }
            return container
        }
    }

    /// Containers of the workload that run now, by inspect: a list can be stale.
    func running() async throws -> [String] {
        var up: [String] = []
        for container in try await agent.containers(engine) where container.labels["berth.workload"] == id {
            let details = try? await engine.inspectContainer(container.id)
            if let status = details?.state.status, status == "running" || status == "paused" { up.append(container.id) }
        }
        return up
    }

    /// Settled, the data as it was, and never two writers.
    @discardableResult
    func isWell(
        _ after: String, within seconds: Double = 60, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let container = try await settled(within: seconds, sourceLocation: sourceLocation)
        var now = try await engine.run("sha256sum \(volumePath)/precious", in: container)
        // It exited with 0, so it has printed: an Engine that has just started can lose what an exec prints.
        if now.isEmpty { now = try await engine.run("sha256sum \(volumePath)/precious", in: container) }
        #expect(now == checksum, "after \(after)", sourceLocation: sourceLocation)
        #expect(writers.most <= 1, "writers at one moment after \(after)", sourceLocation: sourceLocation)
        return container
    }

    /// Two more looks of the agent come and go without an act of it.
    func isSilent(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        func acts() async throws -> Int {
            guard case .array(let records) = try await agent.ask("history") else { return -1 }
            return records.filter { $0["result"]?.text != "observed" }.count
        }
        func passes() async throws -> Int { try await agent.status()["passes"]?.number ?? 0 }
        let (before, start) = (try await acts(), try await passes())
        try await untilTrue("two more looks", within: 30, sourceLocation: sourceLocation) {
            try await passes() >= start + 2
        }
        #expect(try await acts() == before, "silence", sourceLocation: sourceLocation)
    }

    func end() async throws {
        writers.end()
        try await agent.cleanUp(engine)
        try await controlPlane.stop()
    }
}

/// Counts, from the Engine's own events, how many containers of one agent's workload run at a moment.
final class WriterWatch: Sendable {
    private struct State {
        var running: [String: Set<String>] = [:]
        var most = 0
        /// Containers of which an event was heard since the watch began: newer than any list.
        var heard: Set<String> = []
        var task: Task<Void, any Error>?
    }

    private let engine: DockerEngine
    private let agent: String
    private let state = Mutex(State())

    init(_ engine: DockerEngine, agent: String) {
        self.engine = engine
        self.agent = agent
    }

    /// Most containers of one workload that ran at a moment. Those that a hand started count too.
    var most: Int { state.withLock { $0.most } }

    /// Returns when nothing that happens later is missed. Once more after the Engine was away: whatever ended meanwhile
    /// ended without an event.
    func begin() async throws {
        end()
        state.withLock { state in
            state.running = [:]
            state.heard = []
        }
        let (opened, isOpen) = AsyncStream<Void>.makeStream()
        let task = Task {
            try await engine.events(filters: [
                "type": ["container"], "event": ["start", "die"], "label": ["berth.agent=\(agent)"],
            ]) {
                isOpen.finish()
            } take: { event in
                self.heard(event)
            }
        }
        state.withLock { $0.task = task }
        for await _ in opened {}
        var running: [String: Set<String>] = [:]
        for container in try await engine.listContainers(filters: ["label": ["berth.agent=\(agent)"]]) {
            let details = try await engine.inspectContainer(container.id)
            guard details.state.status == "running", let workload = container.labels["berth.workload"] else { continue }
            running[workload, default: []].insert(container.id)
        }
        state.withLock { state in
            for (workload, containers) in running {
                state.running[workload, default: []].formUnion(containers.subtracting(state.heard))
            }
            state.most = max(state.most, state.running.values.map(\.count).max() ?? 0)
        }
    }

    private func heard(_ event: EngineEvent) {
        guard let id = event.actor.id, let workload = event.actor.attributes?["berth.workload"] else { return }
        state.withLock { state in
            state.heard.insert(id)
            if event.action == "start" {
                state.running[workload, default: []].insert(id)
            } else {
                state.running[workload]?.remove(id)
            }
            state.most = max(state.most, state.running[workload]?.count ?? 0)
        }
    }

    /// Somebody put two side by side on purpose: counting begins anew.
    func forget() { state.withLock { $0.most = 0 } }

    func end() { state.withLock { $0.task }?.cancel() }
}
