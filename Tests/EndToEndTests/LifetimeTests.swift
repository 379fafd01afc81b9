import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// What time does to containers: sessions end, and what was deleted is kept for a while and then gone.
extension RealParts {
    @Suite(.serialized) struct Lifetimes {
        private func free(_ controlPlane: TestControlPlane) async throws -> APIClient {
            let server = try TestEnvironment.binary("berth-server")
            for arguments in [["user", "create", "--name", "free"], ["token", "create", "--user", "free"]] {
                let result = try await RunningProgram.run(server, arguments + controlPlane.databaseFlag)
                #expect(result.status == 0, "\(result.output)")
                let text = result.output.trimmingCharacters(in: .whitespacesAndNewlines)
                if text.hasPrefix("berth_") { return APIClient(port: await controlPlane.port, token: text) }
            }
            throw TestEnvironment.Missing(description: "no token")
        }

        @Test(.timeLimit(.minutes(5)))
        func
            `a session that is over is ended, by the agent where the control plane is away, and cannot be started again`()
            async throws
        {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane { _ in ["BERTH_SESSION_SECONDS": "12"] }
            let agent = try await TestAgent(controlPlane, name: "sessions")
            try await agent.start()
            try await agentIsOnline(await controlPlane.client(), agent)
            let free = try await free(controlPlane)

            let one = try await free.create("one")
            let entry = try await free.untilStatus("running", one)
            #expect(entry["expires_at"]?.text != nil, "\(entry)")
            #expect((1...12).contains(entry["session_limit_seconds"]?.number ?? 0))
            try await free.untilStatus("stopped", one, within: 40)
            let refused = try await free.call(.POST, "/api/containers/\(one)/start")
            #expect(refused.status == 403 && refused.text("error") == "guest session expired", "\(refused)")
            // Whoever pays has no end.
            let paid = try await controlPlane.client().create("paid")
            #expect(try await controlPlane.client().untilStatus("running", paid)["expires_at"] == nil)

            // Nobody is there to end it but the agent.
            let two = try await free.create("two")
            let container = try #require(try await free.untilStatus("running", two)["id"]?.text)
            try await controlPlane.killHard()
            try await untilTrue("the agent ends it alone", within: 40) {
                try await engine.inspectContainer(container).state.status == "exited"
            }
            let explained = try await agent.ask("explain", two)
            #expect(explained["reason"]?.text == "session_expired", "\(explained)")
            try await controlPlane.start()
            try await agentIsOnline(await controlPlane.client(), agent)
            try await free.untilStatus("stopped", two, within: 40)
            try await agent.cleanUp(engine)
            try await controlPlane.stop()
        }

        @Test(.timeLimit(.minutes(3)))
        func `what was deleted can be restored with its data, and once its time is over its volume is gone`()
            async throws
        {
            let engine = try await TestEnvironment.engine()
            let controlPlane = try await TestControlPlane()
            let agent = try await TestAgent(controlPlane, name: "retention")
            try await agent.start()
            let client = await controlPlane.client()
            try await agentIsOnline(client, agent)
            let (kept, other) = (try await client.create("kept"), try await client.create("other"))
            for id in [kept, other] {
                let container = try #require(try await client.untilStatus("running", id)["id"]?.text)
                _ = try await engine.run("echo \(id) > /root/data", in: container)
            }
            #expect(try await client.call(.DELETE, "/api/containers/\(kept)").status == 200)
            #expect(try await client.container(kept).status == 404)
            guard
                case .array(let deleted)? = try await client.call(.GET, "/api/containers?deleted=true").body[
                    "containers"]
            else {
                Issue.record("no list of what was deleted")
                return
            }
            #expect(deleted.map { $0["db_id"]?.text } == [kept] && deleted[0]["kept_until"]?.text != nil, "\(deleted)")

            // Not under a name that is taken by now.
            let namesake = try await client.create("kept")
            #expect(try await client.call(.POST, "/api/containers/\(kept)/restore").status == 409)
            #expect(try await client.call(.DELETE, "/api/containers/\(namesake)").status == 200)
            let restored = try await client.call(.POST, "/api/containers/\(kept)/restore")
            #expect(restored.status == 200 && restored.body["volume_kept"] == .bool(true), "\(restored)")
            let again = try #require(try await client.untilStatus("running", kept)["id"]?.text)
            #expect(try await engine.run("cat /root/data", in: again) == "\(kept)\n")
            #expect(try await client.call(.POST, "/api/containers/\(kept)/restore").status == 404, "it is there")

            // The same control plane, that keeps nothing now: of the two only the deleted one loses its data.
            #expect(try await client.call(.DELETE, "/api/containers/\(kept)").status == 200)
            #expect(try await volumes(engine).contains("berth-\(kept)"))
            try await controlPlane.stop()
            try await controlPlane.start(["BERTH_RETENTION_DAYS": "0"])
            try await untilTrue("its volume is gone", within: 60) {
                try await !volumes(engine).contains("berth-\(kept)")
            }
            #expect(try await volumes(engine).contains("berth-\(other)"))
            #expect(try await client.call(.POST, "/api/containers/\(kept)/restore").status == 404, "its data is gone")
            #expect(try await client.call(.GET, "/api/containers?deleted=true").body["count"] == .integer(0))
            let running = try #require(try await client.untilStatus("running", other)["id"]?.text)
            #expect(try await engine.run("cat /root/data", in: running) == "\(other)\n")
            try await agent.cleanUp(engine)
            try await controlPlane.stop()
        }

        private func volumes(_ engine: DockerEngine) async throws -> Set<String> {
            Set(try await engine.listVolumes(filters: [:]).map(\.name))
        }
    }
}
