import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// The whole path on real parts: processes, Engine, registry, gVisor.
extension RealParts {
    @Suite(.serialized) struct FirstLight {
        @Test(.timeLimit(.minutes(6)))
        func `a container is created under gVisor with real progress, and its data survives everything`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let agent = try await TestAgent(controlPlane, name: "first-light")
            try await agent.start()
            let bystander = try await Bystander(engine)
            try await engine.removeImageIfThere("alpine:latest")

            // Create: progress in order, in percent of bytes pulled.
            let created = Collected()
            let events = try await client.events(
                opened: {
                    try await agentIsOnline(client, agent)
                    await created.add(.string(try await client.create("dev-one", runtime: "gvisor")))
                }, until: { $0["type"]?.text == "container_started" })
            let id = try #require(await created.all.first?.text)
            try checkProgress(events, of: id)
            let image = try await engine.inspectImage("alpine:latest")
            #expect(image.rootFS?.layers?.count ?? 0 >= 3)
            #expect(image.size >= 40_000_000)

            let running = try await client.untilStatus("running", id)
            #expect(running["ip_address"]?.text?.isEmpty == false)
            let first = try #require(running["id"]?.text)
            #expect(first.count == 64)

            // What the Engine was told.
            let details = try await engine.inspectContainer(first)
            #expect(details.hostConfiguration.runtime == "runsc")
            #expect(details.hostConfiguration.memory == 256 * 1024 * 1024)
            #expect(details.hostConfiguration.memorySwap == 256 * 1024 * 1024)
            #expect(details.hostConfiguration.nanoCPUs == 500_000_000)
            #expect(details.hostConfiguration.pidsLimit == 512)
            #expect(details.configuration.hostname == "dev-one")
            let volume = "berth-\(id)"
            let mount = try #require(details.mounts.first { $0.name == volume })
            let file = "\(mount.destination)/kept"
            _ = try await engine.run("echo precious > \(file) && sync", in: first)
            func dataIsThere(_ container: String) async throws {
                #expect(try await engine.run("cat \(file)", in: container) == "precious\n")
            }

            // Stop and start.
            let stopped = try await client.call(.POST, "/api/containers/\(id)/stop")
            #expect(stopped.status == 200 && stopped.text("message") == "container stopped", "\(stopped)")
            #expect(try await engine.inspectContainer(first).state.status == "exited")
            let started = try await client.call(.POST, "/api/containers/\(first.prefix(12))/start")
            #expect(started.status == 200 && started.text("message") == "container started", "\(started)")
            #expect(started.body["recreated"] == nil)
            try await dataIsThere(first)

            // Resize: gVisor changes nothing on a container that runs, so it is stopped for it and keeps even what was
            // written outside its volume.
            _ = try await engine.run("echo layer > /outside", in: first)
            let patched = try await client.call(.PATCH, "/api/containers/\(id)", #"{"memory_mb":384}"#)
            #expect(patched.status == 200 && patched.body["restarted"] == .bool(true), "\(patched)")
            #expect(patched.body["container"]?["id"]?.text == first)
            #expect(try await engine.inspectContainer(first).hostConfiguration.memory == 384 * 1024 * 1024)
            #expect(try await engine.run("cat /outside", in: first) == "layer\n")
            try await dataIsThere(first)

            // More disk: that takes a new container, on the same volume.
            let grown = try await client.call(.PATCH, "/api/containers/\(id)", #"{"disk_mb":4096}"#)
            #expect(grown.status == 200 && grown.body["restarted"] == .bool(true), "\(grown)")
            let second = try #require(grown.body["container"]?["id"]?.text)
            #expect(second != first)
            try await dataIsThere(second)

            // Removed behind the agent's back: made again.
            try await engine.removeContainer(second, force: .killFirst)
            let third = try await newRunningContainer(than: second, id, client)
            try await dataIsThere(third)

            // Stopped, removed by hand, started through the API: recreated, and it says so.
            #expect(try await client.call(.POST, "/api/containers/\(id)/stop").status == 200)
            try await engine.removeContainer(third, force: .killFirst)
            let recreated = try await client.call(.POST, "/api/containers/\(id)/start")
            #expect(
                recreated.status == 200 && recreated.text("message") == "container recreated and started",
                "\(recreated)")
            #expect(recreated.text("old_id") == third)
            #expect(recreated.body["recreated"] == .bool(true) && recreated.body["volume_kept"] == .bool(true))
            let fourth = try #require(recreated.text("id"))
            try await dataIsThere(fourth)

            try await bystander.isUntouched()

            // Delete: the container goes, the volume stays.
            let deleted = try await client.call(.DELETE, "/api/containers/\(id)")
            #expect(deleted.status == 200 && deleted.text("message") == "container deleted", "\(deleted)")
            #expect(try await agent.containers(engine).isEmpty)
            #expect(try await engine.inspectVolume(volume).name == volume)
            #expect(try await client.container(id).status == 404)

            try await bystander.isUntouched()
            try await bystander.cleanUp()
            try await agent.cleanUp()
            try await controlPlane.stop()
        }

        @Test(.timeLimit(.minutes(5)))
        func `without its control plane a restarted agent keeps and restarts what was wanted`() async throws {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            let agent = try await TestAgent(controlPlane, name: "alone")
            try await agent.start()
            try await agentIsOnline(client, agent)
            try await engine.pullQuietly("alpine:latest")
            let id = try await client.create("dev-alone")
            let first = try #require(try await client.untilStatus("running", id)["id"]?.text)
            let path = try #require(try await engine.inspectContainer(first).mounts.first { $0.name == "berth-\(id)" })
                .destination
            _ = try await engine.run("echo precious > \(path)/kept && sync", in: first)

            try await controlPlane.killHard()
            try await agent.killHard()
            let startedAt = try await engine.inspectContainer(first).state.startedAt
            try await agent.start()
            try await untilTrue("the agent knows its workload") {
                let status = try? await agent.status()
                guard case .array(let workloads)? = status?["workloads"] else { return false }
                return workloads.first?["phase"]?.text == "running"
            }
            #expect(try await agent.status()["control_plane"]?["state"]?.text != "connected")
            #expect(try await engine.inspectContainer(first).state.startedAt == startedAt, "adopted, not restarted")

            // Gone by hand while nobody but the agent is there.
            try await engine.removeContainer(first, force: .killFirst)
            let second = try await eventually("a new container runs") {
                try await agent.containers(engine).first { $0.state == "running" }?.id
            }
            #expect(try await engine.run("cat \(path)/kept", in: second) == "precious\n")

            // Killed: the main process is started again.
            try await engine.killContainer(second)
            try await untilTrue("it runs again") {
                let details = try? await engine.inspectContainer(second)
                return details?.state.status == "running"
            }

            // And when the control plane is back, it learns all of it.
            try await controlPlane.start()
            try await agentIsOnline(client, agent)
            #expect(try await client.untilStatus("running", id)["id"]?.text == second)
            try await agent.cleanUp()
            try await controlPlane.stop()
        }

        // MARK: parts

        private func checkProgress(_ events: [JSONValue], of id: String) throws {
            let progress = events.filter { $0["type"]?.text == "container_progress" && $0["data"]?["id"]?.text == id }
                .compactMap { $0["data"] }
            let percents = progress.compactMap { $0["progress"]?.number }
            #expect(percents == percents.sorted(), "never goes back: \(percents)")
            let order = ["validating", "pulling", "creating", "starting", "configuring", "ready"]
            let stages = try progress.map { try #require(order.firstIndex(of: $0["stage"]?.text ?? "")) }
            #expect(stages == stages.sorted())
            let pulling = Set(progress.filter { $0["stage"]?.text == "pulling" }.compactMap { $0["progress"]?.number })
            #expect(pulling.count >= 5, "pull percentages: \(pulling.sorted())")
            #expect(percents.last == 100 && percents.filter { $0 == 100 }.count == 1)
            #expect(events.first?["type"]?.text == "list")
            let sequences = events.compactMap { $0["seq"]?.number }
            #expect(sequences == sequences.sorted())
        }

        private func newRunningContainer(than old: String, _ id: String, _ client: APIClient) async throws -> String {
            try await eventually("another container than \(old.prefix(12)) runs", within: 60) {
                let answer = try await client.container(id)
                let now = answer.text("id")
                let isSettled = answer.body["generation"] == answer.body["observed_generation"]
                return answer.text("status") == "running" && now != old && isSettled ? now : nil
            }
        }
    }
}

/// Everything that shares the one real Engine runs one after the other.
@Suite(.serialized) enum RealParts {}

/// Also one whose control plane was away: such an agent may wait for a minute before it tries again (`ReconnectBackoff`).
func agentIsOnline(
    _ client: APIClient, _ agent: TestAgent, sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let what = "agent \(agent.id) is online and has probed its runtimes"
    try await untilTrue(what, within: 90, sourceLocation: sourceLocation) {
        let entry = try await client.container("agent:\(agent.id)")
        // Without an Engine there is nothing to probe.
        guard let engine = entry.body["engine"] else { return entry.text("status") == "online" }
        guard case .array(let findings)? = engine["findings"] else { return false }
        // Both of them: what a test then does to the Engine's calls shall not hit a probe.
        return entry.text("status") == "online" && findings.count >= 2
    }
}

/// A container that no agent made: it must come through every test as it was.
struct Bystander {
    let engine: DockerEngine
    let id: String
    let startedAt: String

    init(_ engine: DockerEngine) async throws {
        self.engine = engine
        try await engine.pullQuietly("archlinux:latest")
        id = try await engine.createContainer(
            name: "bystander-\(UUID().uuidString.prefix(8))",
            ContainerSpecification(image: "archlinux:latest", command: ["sleep", "3600"])
        ).id
        try await engine.startContainer(id)
        startedAt = try await engine.inspectContainer(id).state.startedAt
    }

    func isUntouched() async throws {
        let details = try await engine.inspectContainer(id)
        #expect(details.state.status == "running")
        #expect(details.state.startedAt == startedAt)
    }

    func cleanUp() async throws { try await engine.removeContainer(id, force: .killFirst) }
}
