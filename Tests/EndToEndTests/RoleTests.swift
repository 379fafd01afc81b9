import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// Set-ups for roles and shells, as the agent runs them. What the scripts themselves do is tried by `scripts/test-roles`.
extension RealParts {
    @Suite(.serialized) struct Roles {
        @Test(.timeLimit(.minutes(4)), arguments: ["runc", "gvisor"])
        func `a container is set up once, with progress, and again where it is another container`(
            runtime: String
        ) async throws {
            let house = try await House("roles-\(runtime)")
            let created = Collected()
            let events = try await house.client.events(
                opened: {
                    await created.add(
                        .string(
                            try await house.client.create(
                                "set-up", runtime: runtime, image: "debian",
                                more: #","role":"barebone","shell":{"theme":"minimal","shell.system_stats":true}"#)))
                }, until: { $0["type"]?.text == "container_progress" && $0["data"]?["stage"]?.text == "ready" })
            let percents = events.filter { $0["type"]?.text == "container_progress" }
                .compactMap { $0["data"]?["progress"]?.number }
            #expect(percents == percents.sorted(), "\(percents)")
            let id = try #require(await created.all.first?.text)
            let entry = try await house.client.untilStatus("running", id)
            #expect(entry["role_error"] == nil, "\(entry)")
            let container = try #require(entry["id"]?.text)
            #expect(try await house.engine.run("cat /root/.profile", in: container).contains("# >>> berth >>>"))
            func setUps() async throws -> Int {
                guard case .array(let records) = try await house.agent.ask("history") else { return -1 }
                return records.filter { $0["action"]?.text?.hasPrefix("set up") == true }.count
            }
            #expect(try await setUps() == 1)

            // A restart of the agent, of the container, and a change in place are none of its business.
            try await house.agent.stop()
            try await house.agent.start()
            try await agentIsOnline(house.client, house.agent)
            #expect(try await house.client.call(.POST, "/api/containers/\(id)/stop").status == 200)
            #expect(try await house.client.call(.POST, "/api/containers/\(id)/start").status == 200)
            let patched = try await house.client.call(.PATCH, "/api/containers/\(id)", #"{"memory_mb":384}"#)
            #expect(patched.status == 200, "\(patched)")
            #expect(try await house.client.untilStatus("running", id)["id"]?.text == container)
            #expect(try await setUps() == 1)

            // Another disk is another container, with the home of the one before.
            let resized = try await house.client.call(.PATCH, "/api/containers/\(id)", #"{"disk_mb":3000}"#)
            #expect(resized.status == 200, "\(resized)")
            let next = try #require(try await house.client.untilStatus("running", id)["id"]?.text)
            #expect(next != container)
            #expect(try await setUps() == 2)
            try await house.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `where a set-up fails the container runs, and says why`() async throws {
            let house = try await House("role-error")
            // The image has no package manager.
            let id = try await house.client.create("no-packages", more: #","role":"go","shell":{"use_tmux":true}"#)
            let entry = try await eventually("it runs with the reason", within: 90) { () -> JSONValue? in
                let answer = try await house.client.container(id)
                return answer.text("status") == "running" && answer.text("role_error") != nil ? answer.body : nil
            }
            #expect(entry["role_error"]?.text?.contains("none of apt-get, apk and pacman") == true, "\(entry)")
            #expect(entry["generation"] == entry["observed_generation"])

            // Ended by a stop while it is set up: the stop does not wait for it.
            let slow = try await house.client.create("slow", image: "debian", more: #","role":"node""#)
            try await house.client.untilStatus("configuring", slow)
            let stopped = try await house.client.call(.POST, "/api/containers/\(slow)/stop")
            #expect(stopped.status == 200, "\(stopped)")
            try await house.end()
        }

        @Test func `a role or a shell option that there is not is refused with what there is`() async throws {
            let controlPlane = try await TestControlPlane()
            let client = await controlPlane.client()
            for (more, says) in [
                (#""role":"cobol""#, "node, python, go, rust, devops, barebone"),
                (#""shell":"zsh""#, "expected an object"), (#""shell":{"use_tmux":"yes"}"#, "true or false"),
                (#""shell":{"theme":"$(reboot)"}"#, "a-z"), (#""role":7"#, "expected text"),
            ] {
                let answer = try await client.call(.POST, "/api/containers", #"{"image":"alpine",\#(more)}"#)
                #expect(answer.status == 400, "\(more): \(answer)")
                #expect("\(answer.body)".contains(says), "\(more): \(answer)")
            }
            let warned = try await client.call(
                .POST, "/api/containers", #"{"image":"alpine","shell":{"shell.colour":true}}"#)
            #expect(warned.status == 202 && "\(warned.body)".contains("shell.colour"), "\(warned)")
            try await controlPlane.stop()
        }
    }
}
