import DockerEngine
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Testing

extension RealParts {
    @Suite(.serialized) struct Faults {
        @Test(.timeLimit(.minutes(6)))
        func `an agent killed 20 times while 10 containers are created ends with exactly 10`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let agent = try await TestAgent(controlPlane, name: "unlucky")
            try await agent.start()
            try await agentIsOnline(client, agent)
            try await engine.pullQuietly("alpine:latest")
            let seed = UInt64.random(in: .min ... .max)
            print("seed \(seed)")
            var random = SeededRandom(seed: seed)
            var ids: [String] = []
            for round in 0..<20 {
                if round % 2 == 0 { ids.append(try await client.create("many-\(ids.count)")) }
                try await Task.sleep(for: .milliseconds(Int.random(in: 0...600, using: &random)))
                try await agent.killHard()
                try await agent.start()
            }
            for id in ids { try await client.untilStatus("running", id, within: 120) }
            // Settled: what surplus a lost answer may have made is tidied away.
            try await untilTrue("exactly ten containers, all running", within: 60) {
                let all = try await agent.containers(engine)
                return all.count == 10 && all.allSatisfy { $0.state == "running" }
            }
            let workloads = Set(try await agent.containers(engine).compactMap { $0.labels["berth.workload"] })
            #expect(workloads == Set(ids))
            try await agent.cleanUp()
            try await controlPlane.stop()
        }

        @Test(.timeLimit(.minutes(8)))
        func `a control plane restarted under five agents finds all of them settled and nothing recreated`()
            async throws
        {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            try await engine.pullQuietly("alpine:latest")
            var agents: [TestAgent] = []
            var ids: [String] = []
            for number in 1...5 {
                let agent = try await TestAgent(controlPlane, name: "host-\(number)")
                try await agent.start()
                try await agentIsOnline(client, agent)
                agents.append(agent)
                ids.append(try await client.create("on-\(number)", more: #","agent":"agent:\#(agent.id)""#))
            }
            var before: [String: String] = [:]
            for id in ids {
                let container = try #require(try await client.untilStatus("running", id)["id"]?.text)
                before[id] = try await engine.inspectContainer(container).state.startedAt
            }
            for kill in [false, true] {
                if kill { try await controlPlane.killHard() } else { try await controlPlane.stop() }
                try await controlPlane.start()
                for agent in agents { try await agentIsOnline(client, agent) }
                for id in ids {
                    let entry = try await client.untilStatus("running", id)
                    #expect(entry["observed_generation"] == entry["generation"])
                    let container = try #require(entry["id"]?.text)
                    #expect(try await engine.inspectContainer(container).state.startedAt == before[id])
                }
            }
            // Orders of a time when the control plane was not there are none: the next change still arrives.
            #expect(try await client.call(.POST, "/api/containers/\(ids[0])/stop").status == 200)
            for agent in agents { try await agent.cleanUp() }
            try await controlPlane.stop()
        }

        @Test(.timeLimit(.minutes(2)))
        func `stopping an agent entry disconnects it and leaves its containers alone`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let agent = try await TestAgent(controlPlane, name: "sent-away")
            try await agent.start()
            try await agentIsOnline(client, agent)
            try await engine.pullQuietly("alpine:latest")
            let id = try await client.create("stays")
            let container = try #require(try await client.untilStatus("running", id)["id"]?.text)
            let startedAt = try await engine.inspectContainer(container).state.startedAt

            let stopped = try await client.call(.POST, "/api/containers/agent:\(agent.id)/stop")
            #expect(stopped.status == 200 && stopped.text("status") == "offline", "\(stopped)")
            #expect(try await client.container("agent:\(agent.id)").text("status") == "offline")
            try await untilTrue("the agent says why it waits") {
                (try? await agent.status())?["control_plane"]?["reason"]?.text?.contains("stopped") == true
            }
            #expect(try await engine.inspectContainer(container).state.startedAt == startedAt)

            // While it is away a stop is accepted, and told as it is.
            let pending = try await client.call(.POST, "/api/containers/\(id)/stop")
            #expect(pending.status == 202, "\(pending)")
            let start = try await client.call(.POST, "/api/containers/agent:\(agent.id)/start")
            #expect(start.status == 409, "\(start)")

            // Deleted: its token is void, and it is told so.
            let deleted = try await client.call(.DELETE, "/api/containers/agent:\(agent.id)")
            #expect(deleted.status == 200, "\(deleted)")
            #expect(try await client.container("agent:\(agent.id)").status == 404)
            try await agent.killHard()
            try await agent.start()
            try await untilTrue("the agent is refused with 401") {
                (try? await agent.status())?["control_plane"]?["reason"]?.text?.contains("401") == true
            }
            #expect(try await engine.inspectContainer(container).state.startedAt == startedAt)
            try await agent.cleanUp()
            try await controlPlane.stop()
        }

        @Test(.timeLimit(.minutes(2)))
        func `a missing Engine is said once, shown in the status, and found when it comes`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let folder = try TemporaryFolder()
            let socket = folder.file("docker.sock")
            let agent = try await TestAgent(controlPlane, name: "early", engine: "unix://\(socket)")
            try await agent.start()
            try await agentIsOnline(client, agent)
            try await untilTrue("the status says that the Engine is not reachable") {
                (try? await agent.status())?["engine"]?["reachable"] == .bool(false)
            }
            try await Task.sleep(for: .seconds(2))
            let said = await agent.output.components(separatedBy: "engine not reachable").count - 1
            #expect(said == 1)
            // The agent stays connected, and its host has no runtime to offer yet.
            let id = try await client.create("patient")
            #expect(try await client.container(id).text("status") == "creating")

            let real = try TestEnvironment.engineText.dropFirst("unix://".count)
            try FileManager.default.createSymbolicLink(atPath: socket, withDestinationPath: String(real))
            try await engine.pullQuietly("alpine:latest")
            try await untilTrue("the Engine is found", within: 40) {
                (try? await agent.status())?["engine"]?["reachable"] == .bool(true)
            }
            try await client.untilStatus("running", id, within: 60)
            try await agent.cleanUp()
            try await controlPlane.stop()
        }

        @Test(.timeLimit(.minutes(2)))
        func `a container whose inspect hangs is not taken for gone and holds up no other`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let folder = try TemporaryFolder()
            let real = String(try TestEnvironment.engineText.dropFirst("unix://".count))
            let proxy = try await EngineProxy(folder.file("docker.sock"), to: real)
            let agent = try await TestAgent(controlPlane, name: "hung", engine: "unix://\(proxy.path)")
            try await agent.start()
            try await agentIsOnline(client, agent)
            try await engine.pullQuietly("alpine:latest")
            let hung = try await client.create("hung")
            let container = try #require(try await client.untilStatus("running", hung)["id"]?.text)
            proxy.hold(container)
            try await engine.killContainer(container)
            try await untilTrue("its inspect hangs") { proxy.heldBack > 0 }

            // Each of these takes several passes; a pass that waited for the inspect would take ten seconds.
            for number in 1...3 {
                try await client.untilStatus("running", try await client.create("free-\(number)"), within: 8)
            }
            #expect(
                try await agent.containers(engine).filter { $0.labels["berth.workload"] == hung }.map(\.id) == [
                    container
                ])

            proxy.hold(nil)
            try await untilTrue("it is started again", within: 30) {
                try await engine.inspectContainer(container).state.status == "running"
            }
            proxy.stop()
            try await agent.cleanUp()
            try await controlPlane.stop()
        }

        @Test(.timeLimit(.minutes(3)))
        func `one workload that cannot be pulled holds up no other, and says why`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let agent = try await TestAgent(controlPlane, name: "mixed")
            try await agent.start()
            try await agentIsOnline(client, agent)
            try await engine.pullQuietly("alpine:latest")
            let answer = try await client.call(
                .POST, "/api/containers",
                #"{"image":"custom","custom_image":"127.0.0.1:1/no/such:image","name":"stuck","memory_mb":256}"#)
            #expect(answer.status == 202)
            let stuck = try #require(answer.text("db_id"))
            let fine = try await client.create("fine")
            try await client.untilStatus("running", fine, within: 20)
            let failed = try await client.untilStatus("error", stuck, within: 60)
            #expect(failed["message"]?.text?.contains("image_pull_failed") == true, "\(failed)")
            let deleted = try await client.call(.DELETE, "/api/containers/\(stuck)")
            #expect(deleted.status == 200, "\(deleted)")
            try await agent.cleanUp()
            try await controlPlane.stop()
        }
    }
}

extension RealParts {
    @Suite(.serialized) struct ActivityAndTLS {
        @Test(.timeLimit(.minutes(2)))
        func `cpu, memory and network come from the cgroup, and idle follows the cpu`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let agent = try await TestAgent(controlPlane, name: "sampled")
            try await agent.start()
            try await agentIsOnline(client, agent)
            try await engine.pullQuietly("alpine:latest")
            for runtime in ["runc", "gvisor"] {
                let id = try await client.create("busy-\(runtime)", runtime: runtime)
                let container = try #require(try await client.untilStatus("running", id)["id"]?.text)
                try await untilTrue("it falls idle under \(runtime)", within: 30) {
                    try await client.container(id).body["idle_seconds"].map { $0.decimal >= 3 } == true
                }
                let load = try await engine.createExec(container, .init(command: ["sh", "-c", "while :; do :; done"]))
                let channel = try await engine.startExec(load, allocatesTTY: false)
                try await untilTrue("the load is seen under \(runtime)", within: 30) {
                    let body = try await client.container(id).body
                    let stats = body["stats"]
                    return (stats?["cpu_percent"]?.decimal ?? 0) > 20 && (body["idle_seconds"]?.decimal ?? 9) < 2
                }
                let stats = try #require(try await client.container(id).body["stats"])
                #expect((stats["memory_bytes"]?.number ?? 0) > 100_000)
                try await channel.executeThenClose { _, _ in }
            }
            let host = try await client.container("agent:\(agent.id)").body
            #expect(
                (host["stats"]?["memory_limit"]?.number ?? 0) > 0
                    && (host["resources"]?["cpu_shares"]?.number ?? 0) >= 1000)
            try await agent.cleanUp()
            try await controlPlane.stop()
        }
    }
}

extension JSONValue {
    var decimal: Double {
        switch self {
        case .integer(let number): Double(number)
        case .number(let number): number
        default: .nan
        }
    }
}

/// Reproducible randomness: the seed is printed.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
