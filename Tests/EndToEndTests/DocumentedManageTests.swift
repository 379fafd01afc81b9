import BerthModel
import DockerEngine
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceRuntime
import Testing

/// Start, stop, update and delete as they are documented, on an agent that does, fails or waits as the test says.
/// `docs/contract.md` has the statements.
@Suite struct DocumentedManage {
    private struct Stage: Sendable {
        let controlPlane: TestControlPlane
        let client: APIClient
        let agent: ScriptedAgent

        init(_ settings: [String: String] = [:]) async throws {
            controlPlane = try await TestControlPlane { _ in settings }
            client = try await controlPlane.user("ada", tier: "pro")
            agent = try await ScriptedAgent(of: client)
            try await agent.connect()
        }

        func running(_ name: String) async throws -> String {
            let id = try await client.create(name)
            try await client.untilStatus("running", id)
            return id
        }
    }

    private static func answer(
        _ message: String, _ id: String, status: String, _ more: [String: JSONValue] = [:]
    ) -> JSONValue {
        let fields: [String: JSONValue] = [
            "message": .string(message), "id": .string(id), "name": .string("dev"), "status": .string(status),
        ]
        return .object(fields.merging(more) { $1 })
    }

    private static let notFound = JSONValue.object(["error": .string("container not found")])

    @Test func `start, stop and delete answer in the documented fields and words, and each is an event`() async throws {
        let stage = try await Stage()
        let (client, agent) = (stage.client, stage.agent)
        let id = try await stage.running("dev")
        let (first, second) = (ScriptedAgent.docker(id), ScriptedAgent.docker(id, number: 2))
        let seen = try await client.events(
            within: 60,
            opened: {
                let path = "/api/containers/\(id)"
                // Twice is once, of each.
                for act in ["stop", "start", "stop"] {
                    for _ in 1...2 {
                        let done = try await client.call(.POST, "\(path)/\(act)")
                        let (words, status) =
                            act == "stop" ? ("container stopped", "stopped") : ("container started", "running")
                        #expect(done.status == 200 && done.body == Self.answer(words, first, status: status), "\(done)")
                    }
                }
                // Its container was gone, and another is made.
                agent.answers { ScriptedAgent.done($0, container: second) }
                let again = try await client.call(.POST, "/api/containers/\(first)/start")
                let facts: [String: JSONValue] = [
                    "old_id": .string(first), "recreated": .bool(true), "volume_kept": .bool(true),
                ]
                let words = "container recreated and started"
                #expect(again.status == 200)
                #expect(again.body == Self.answer(words, second, status: "running", facts), "\(again)")
                let deleted = try await client.call(.DELETE, "/api/containers/\(second.prefix(12))")
                #expect(deleted.status == 200)
                let gone: [String: JSONValue] = [
                    "message": .string("container deleted"), "id": .string(second), "db_id": .string(id),
                    "name": .string("dev"),
                ]
                #expect(deleted.body == .object(gone), "\(deleted)")
            }, until: { $0["type"]?.text == "container_deleted" })

        // By way of PostgreSQL the start of before can come after the list.
        let events = seen.filter {
            $0["type"]?.text?.hasPrefix("container_") == true && $0["type"]?.text != "container_progress"
        }.drop { $0["type"]?.text == "container_started" }
        #expect(
            events.compactMap { $0["type"]?.text } == [
                "container_stopped", "container_started", "container_stopped", "container_started",
                "container_deleted",
            ])
        #expect(events.compactMap { $0["data"]?["id"]?.text } == [first, first, first, second, second])
        let statuses = events.compactMap { $0["data"]?["status"]?.text }
        #expect(statuses == ["stopped", "running", "stopped", "running", "deleted"])
        #expect(events.allSatisfy { $0["data"]?["name"]?.text == "dev" && $0["container"] == $0["data"] })
        #expect(events.allSatisfy { $0["timestamp"]?.isTime == true })
        let numbers = seen.compactMap { $0["seq"]?.number }
        #expect(numbers.count == seen.count && numbers == numbers.sorted())
        // What is deleted, or never was, is not there for anything.
        for text in [id, second, "550e8400-e29b-41d4-a716-446655440000"] {
            for (method, act) in [(HTTPMethod.POST, "/start"), (.POST, "/stop"), (.PATCH, ""), (.DELETE, "")] {
                let answer = try await client.call(method, "/api/containers/\(text)\(act)", act.isEmpty ? "{}" : nil)
                #expect(answer.status == 404 && answer.body == Self.notFound, "\(method) \(act): \(answer)")
            }
        }
        try await stage.controlPlane.stop()
    }

    @Test func `what the agent fails to do is a 500 in the documented words, with its reason`() async throws {
        let stage = try await Stage()
        let id = try await stage.running("dev")
        let path = "/api/containers/\(id)"
        @Sendable func failed(_ wanted: DesiredWorkload) -> WorkloadStatus {
            var status = ScriptedAgent.done(wanted)
            (status.phase, status.observedGeneration, status.startedAt) = (.failed, 1, nil)
            (status.reason, status.message) = ("engine_error", "no space left on device")
            return status
        }
        let because = JSONValue.string("engine_error: no space left on device")
        stage.agent.answers { failed($0) }
        let stopped = try await stage.client.call(.POST, path + "/stop")
        #expect(stopped.status == 500)
        #expect(stopped.body == .object(["error": .string("failed to stop container"), "message": because]))
        let started = try await stage.client.call(.POST, path + "/start")
        #expect(started.status == 500)
        #expect(started.body == .object(["error": .string("failed to start container"), "message": because]))
        #expect(try await stage.client.container(id).text("status") == "error")
        let updated = try await stage.client.call(.PATCH, path, #"{"disk_mb":4096}"#)
        #expect(updated.status == 500 && updated.text("error") == "failed to update settings", "\(updated)")
        #expect(updated.body["message"] == because)
        // It is tried anew when it is asked for anew.
        stage.agent.answers { ScriptedAgent.done($0) }
        #expect(try await stage.client.call(.POST, path + "/start").status == 200)
        try await stage.controlPlane.stop()
    }

    @Test func `an update that was rolled back is a 500, and says that the old container runs`() async throws {
        let stage = try await Stage()
        let id = try await stage.running("dev")
        stage.agent.answers { wanted in
            var status = ScriptedAgent.done(wanted)
            (status.observedGeneration, status.reason) = (1, "rolled_back")
            status.message = "generation 2 did not come up"
            return status
        }
        let answer = try await stage.client.call(.PATCH, "/api/containers/\(id)", #"{"disk_mb":4096}"#)
        #expect(answer.status == 500 && answer.text("error") == "failed to update settings", "\(answer)")
        #expect(answer.text("message") == "rolled_back: generation 2 did not come up")
        #expect(answer.body["container"]?["status"]?.text == "running")
        try await stage.controlPlane.stop()
    }

    @Test func `an update changes what it names, within the tier, and says whether the container was restarted`()
        async throws
    {
        let stage = try await Stage()
        let (client, id) = (stage.client, try await stage.running("dev"))
        let path = "/api/containers/\(id)"
        func resources(_ memory: Int, _ cpu: Int, _ disk: Int) -> JSONValue {
            .object(["memory_mb": .integer(memory), "cpu_shares": .integer(cpu), "disk_mb": .integer(disk)])
        }
        let renamed = try await client.call(.PATCH, path, #"{"name":"production-api"}"#)
        #expect(renamed.status == 200 && renamed.body.keys == ["message", "restarted", "container"], "\(renamed)")
        #expect(renamed.text("message") == "settings updated" && renamed.body["restarted"] == .bool(false))
        let container = try #require(renamed.body["container"])
        #expect(container["name"]?.text == "production-api" && container["db_id"]?.text == id)
        #expect(container["id"]?.text == ScriptedAgent.docker(id) && container["image"]?.text == "alpine:latest")
        #expect(container["status"]?.text == "running" && container["role"]?.text == "")
        #expect(container["resources"] == resources(256, 500, 20480), "what is left out stays: \(container)")

        let all = #"{"name":"api","memory_mb":1024,"cpu_shares":1000,"disk_mb":2048}"#
        let later = 1_700_000_100.0
        stage.agent.answers { ScriptedAgent.done($0, startedAt: later) }
        let resized = try await client.call(.PATCH, path + "/settings", all)
        #expect(resized.status == 200 && resized.body["restarted"] == .bool(true), "\(resized)")
        #expect(resized.body["container"]?["resources"] == resources(1024, 1000, 2048))
        let wanted = try #require(stage.agent.wanted(id)?.spec)
        #expect(wanted.name == "api" && wanted.resources.memoryMB == 1024 && wanted.resources.diskMB == 2048)
        let most = try await client.call(
            .PATCH, path, #"{"memory_mb":1000000,"cpu_shares":1000000,"disk_mb":1000000}"#)
        #expect(most.status == 200 && most.body["container"]?["resources"] == resources(4096, 4000, 20480), "\(most)")

        // What cannot be is refused, and nothing is changed by it.
        _ = try await stage.running("taken")
        for (body, field) in [
            (#"{"name":"a b"}"#, "name"), (#"{"name":""}"#, "name"), (#"{"memory_mb":255}"#, "memory_mb"),
            (#"{"cpu_shares":249}"#, "cpu_shares"), (#"{"disk_mb":1023}"#, "disk_mb"),
            (#"{"name":"fine","memory_mb":"1"}"#, "memory_mb"),
        ] {
            let refused = try await client.call(.PATCH, path, body)
            #expect(refused.status == 400 && refused.text("field") == field, "\(body): \(refused)")
        }
        #expect(try await client.call(.PATCH, path, "{").status == 400)
        let taken = try await client.call(.PATCH, path, #"{"name":"taken"}"#)
        #expect(taken.status == 409)
        #expect(taken.body == .object(["error": .string("container name already exists")]))
        let nothing = try await client.call(.PATCH, path, "{}")
        #expect(nothing.status == 200 && nothing.body["restarted"] == .bool(false), "\(nothing)")
        #expect(nothing.body["container"]?["name"]?.text == "api")
        #expect(nothing.body["container"]?["resources"] == resources(4096, 4000, 20480))
        try await stage.controlPlane.stop()
    }

    @Test func `what a client that hangs up has asked for is done all the same, and told by its event`() async throws {
        let stage = try await Stage()
        let (client, agent) = (stage.client, stage.agent)
        let id = try await stage.running("before")
        let path = "/api/containers/\(id)"
        agent.answers { _ in nil }
        let change = #"{"name":"after","memory_mb":512}"#
        for (generation, method, act, body, event) in [
            (2, "PATCH", "", change, "container_updated"), (3, "POST", "/stop", "", "container_stopped"),
            (4, "POST", "/start", "", "container_started"), (5, "DELETE", "", "", "container_deleted"),
        ] {
            let head = """
                \(method) \(path)\(act) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(client.token)\r\n\
                Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n
                """
            let seen = try await client.events(
                within: 20,
                opened: {
                    let channel = try await ClientBootstrap(group: TestEnvironment.group)
                        .connect(host: "127.0.0.1", port: client.port).get()
                    try await channel.writeAndFlush(ByteBuffer(string: head + body))
                    let wanted = try await agent.untilWanted(id, generation: generation)
                    try await channel.close()
                    // Answered after the hang-up has come.
                    _ = try await client.entries()
                    try await agent.say(ScriptedAgent.done(wanted))
                }, until: { $0["type"]?.text == event })
            #expect(seen.last?["data"]?["name"]?.text == "after", "\(event)")
            let now = try await client.container(id)
            switch event {
            case "container_deleted": #expect(now.status == 404)
            case "container_stopped": #expect(now.text("status") == "stopped", "\(now)")
            default:
                #expect(now.text("status") == "running" && now.text("name") == "after", "\(now)")
                #expect(now.body["resources"]?["memory_mb"] == .integer(512))
                #expect(now.body["observed_generation"] == .integer(generation))
            }
        }
        try await stage.controlPlane.stop()
    }

    @Test func `an agent that is silent or offline makes a 202 with the state as it is, and the change comes later`()
        async throws
    {
        let stage = try await Stage(["BERTH_CONFIRM_SECONDS": "1"])
        let (client, agent) = (stage.client, stage.agent)
        let id = try await stage.running("dev")
        let path = "/api/containers/\(id)"
        agent.answers { _ in nil }
        let slow = try await client.call(.POST, path + "/stop")
        #expect(slow.status == 202 && slow.body.keys == ["message", "id", "name", "status"], "\(slow)")
        #expect(slow.text("message")?.hasPrefix("container will be stopped") == true)
        #expect(slow.text("status") == "running", "it still is: \(slow)")
        try await agent.say(ScriptedAgent.done(try await agent.untilWanted(id, generation: 2)))
        try await client.untilStatus("stopped", id)

        try await agent.disconnect()
        let later = "will be applied when the host reconnects"
        let started = try await client.call(.POST, path + "/start")
        #expect(started.status == 202 && started.text("status") == "stopped", "\(started)")
        #expect(started.text("message")?.contains(later) == true)
        let changed = try await client.call(.PATCH, path, #"{"memory_mb":512}"#)
        #expect(changed.status == 202 && changed.text("message")?.contains(later) == true, "\(changed)")
        #expect(changed.body["restarted"] == .bool(false))
        let stopped = try await client.call(.POST, path + "/stop")
        #expect(stopped.status == 202 && stopped.text("message")?.contains(later) == true, "\(stopped)")
        #expect(try await client.call(.POST, path + "/start").status == 202)
        agent.answers { ScriptedAgent.done($0) }
        try await agent.connect()
        let back = try await client.untilStatus("running", id)
        #expect(back["generation"] == back["observed_generation"], "\(back)")
        #expect(agent.wanted(id)?.spec.resources.memoryMB == 512)

        // What is wanted already is not known to be so.
        try await agent.disconnect()
        for (method, act, body) in [
            (.POST, "/start", nil), (.PATCH, "", #"{"memory_mb":512}"#),
        ] as [(HTTPMethod, String, String?)] {
            let same = try await client.call(method, path + act, body)
            #expect(same.status == 202 && same.text("message")?.contains(later) == true, "\(method) \(act): \(same)")
        }
        // A deletion is one at once, whoever is there.
        let deleted = try await client.call(.DELETE, path)
        #expect(deleted.status == 202 && deleted.text("db_id") == id, "\(deleted)")
        #expect(deleted.text("message")?.hasPrefix("container deleted") == true)
        #expect(try await client.container(id).status == 404)
        try await agent.connect()
        try await untilTrue("its host is told") { agent.wanted(id)?.wish == .removed }
        try await stage.controlPlane.stop()
    }

    @Test func `a container that is still set up serves, and its changes are carried out meanwhile`() async throws {
        let stage = try await Stage(["BERTH_CONFIRM_SECONDS": "5"])
        let (client, agent) = (stage.client, stage.agent)
        agent.answers { wanted in
            var status = ScriptedAgent.done(wanted)
            if wanted.wish == .running { status.phase = .configuring }
            return status
        }
        let id = try #require(try await client.order(#""name":"dev","role":"node""#).text("db_id"))
        try await client.untilStatus("configuring", id)
        let path = "/api/containers/\(id)"
        let changed = try await client.call(.PATCH, path, #"{"disk_mb":4096}"#)
        #expect(changed.status == 200 && changed.text("message") == "settings updated", "\(changed)")
        #expect(changed.body["container"]?["status"]?.text == "configuring")
        // A start of what serves is nothing new: its set-up is not disturbed.
        let generation = try #require(agent.wanted(id)?.generation)
        let started = try await client.call(.POST, path + "/start")
        #expect(started.status == 200 && started.text("message") == "container started", "\(started)")
        #expect(started.text("status") == "running")
        #expect(try await client.container(id).body["generation"] == .integer(generation))
        try await stage.controlPlane.stop()
    }

    @Test func `what is on a host that was deleted is shown as it is, changed by nobody, and can be let go of`()
        async throws
    {
        let stage = try await Stage()
        let (client, agent) = (stage.client, stage.agent)
        let (id, path) = (try await stage.running("dev"), "/api/containers/")
        #expect(try await client.call(.DELETE, "/api/agents/\(agent.id)").status == 200)
        let entry = try await client.container(id)
        #expect(entry.text("message") == "its host was deleted; what is shown is the last that was known", "\(entry)")
        #expect(try await client.entries().first { $0["db_id"]?.text == id }?["message"]?.text == entry.text("message"))
        for (method, act, body) in [(HTTPMethod.POST, "/start", nil), (.POST, "/stop", nil), (.PATCH, "", "{}")]
            as [(HTTPMethod, String, String?)]
        {
            let answer = try await client.call(method, path + id + act, body)
            #expect(answer.status == 409 && answer.text("error") == "host is gone", "\(method) \(act): \(answer)")
        }
        let deleted = try await client.call(.DELETE, path + id)
        #expect(deleted.status == 200 && deleted.text("message") == "container deleted", "\(deleted)")
        #expect(deleted.body["warnings"]?.items == [.string("its host was deleted: what is on it stays there")])
        #expect(try await client.container(id).status == 404)
        try await stage.controlPlane.stop()
    }

    @Test func `who has a tier without sessions by now starts what had an end, and it has none any more`() async throws
    {
        let controlPlane = try await TestControlPlane { _ in ["BERTH_SESSION_SECONDS": "1"] }
        let client = try await controlPlane.user("ada", tier: "free")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        let id = try await client.create("dev")
        try await client.untilStatus("stopped", id)
        #expect(try await client.call(.POST, "/api/containers/\(id)/start").status == 403)
        let command = try await RunningProgram.run(
            try TestEnvironment.binary("berth-server"),
            ["user", "set-tier", "--name", "ada", "--tier", "pro"] + controlPlane.databaseFlag)
        #expect(command.status == 0, "\(command)")
        let started = try await client.call(.POST, "/api/containers/\(id)/start")
        #expect(started.status == 200, "\(started)")
        #expect(agent.wanted(id)?.spec.expiresAt == nil)
        let entry = try await client.container(id).body
        #expect(entry["expires_at"] == nil && entry["session_limit_seconds"] == nil, "\(entry)")

        // And the other way round: from the next start on it has one.
        let back = try await RunningProgram.run(
            try TestEnvironment.binary("berth-server"),
            ["user", "set-tier", "--name", "ada", "--tier", "free"] + controlPlane.databaseFlag)
        #expect(back.status == 0, "\(back)")
        #expect(try await client.container(id).body["expires_at"] == nil)
        #expect(try await client.call(.POST, "/api/containers/\(id)/start").status == 200)
        try await client.untilStatus("stopped", id)
        #expect(try await client.call(.POST, "/api/containers/\(id)/start").status == 403)
        try await controlPlane.stop()
    }

    @Test func `without a host, what is to stop has stopped, and what is to run waits and says for what`() async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let path = "/api/containers/" + (try #require(try await client.order().text("db_id")))
        let changed = try await client.call(.PATCH, path, #"{"name":"other"}"#)
        #expect(changed.status == 202 && changed.text("message") == "settings will be applied once there is a host")
        for _ in 0..<2 {
            let stopped = try await client.call(.POST, path + "/stop")
            #expect(stopped.status == 200 && stopped.text("message") == "container stopped", "\(stopped)")
            #expect(stopped.text("status") == "stopped")
        }
        let again = try await client.call(.PATCH, path, #"{"name":"another"}"#)
        #expect(again.status == 200 && again.text("message") == "settings updated", "\(again)")
        let started = try await client.call(.POST, path + "/start")
        #expect(started.status == 202 && started.text("message")?.hasPrefix("container will be started; ") == true)
        try await controlPlane.stop()
    }

    @Test func `a stop is told by its event where there is no host, too`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let id = try #require(try await client.order().text("db_id"))
        let seen = try await client.events(
            within: 5, opened: { _ = try await client.call(.POST, "/api/containers/\(id)/stop") },
            until: { $0["type"]?.text == "container_stopped" })
        #expect(seen.last?["data"]?["db_id"]?.text == id)
        #expect(try await client.container(id).text("status") == "stopped")
        try await controlPlane.stop()
    }

    @Test func `a container of guest or free whose session is over is stopped, and not started again`() async throws {
        let controlPlane = try await TestControlPlane { _ in ["BERTH_SESSION_SECONDS": "1"] }
        for tier in ["guest", "free"] {
            let client = try await controlPlane.user(tier, tier: tier)
            let id = try #require(try await client.order().text("db_id"))
            let refused = try await eventually("its session is over", within: 10) { () -> APIClient.Answer? in
                let answer = try await client.call(.POST, "/api/containers/\(id)/start")
                return answer.status == 403 ? answer : nil
            }
            #expect(refused.body == .object(["error": .string("guest session expired")]), "\(refused)")
            let entry = try await client.untilStatus("stopped", id, within: 10)
            #expect(entry["session_limit_seconds"] == .integer(0), "\(entry)")
        }
        try await controlPlane.stop()
    }
}

extension RealParts {
    /// The documents' story, told once on a real Engine: under gVisor, on a host that an administrator shares.
    @Suite(.serialized) struct DocumentedLife {
        @Test(.timeLimit(.minutes(4)))
        func `a container's life on a real Engine has the documented answers, events and data`() async throws {
            let house = try await House("documented")
            try await house.engine.pullQuietly("alpine:latest")
            let client = try await house.controlPlane.user("ada", tier: "pro")
            let seen = try await client.events(
                within: 180, opened: { try await Self.live(house, client) },
                until: { $0["type"]?.text == "container_deleted" })
            let types = Set(seen.compactMap { $0["type"]?.text })
            #expect(
                types.isSuperset(of: [
                    "list", "container_created", "container_progress", "container_started", "container_stopped",
                    "container_updated",
                ]), "\(types)")
            let stages = Set(seen.compactMap { $0["data"]?["stage"]?.text })
            #expect(stages.isSuperset(of: ["validating", "ready"]), "\(stages)")
            #expect(try await house.agent.containers(house.engine).isEmpty)
            try await house.end()
        }

        private static func live(_ house: House, _ client: APIClient) async throws {
            let made = try await client.order(#""name":"dev","memory_mb":256,"cpu_shares":500,"disk_mb":2048"#)
            #expect(made.status == 202 && made.body["id"] == made.body["db_id"], "\(made)")
            let id = try #require(made.text("db_id"))
            let path = "/api/containers/\(id)"
            let entry = try await client.untilStatus("running", id)
            let docker = try #require(entry["id"]?.text)
            let first = try await house.engine.inspectContainer(docker)
            #expect(docker.count == 64 && entry["agent"]?.text == "agent:\(house.agent.id)", "\(entry)")
            #expect(entry["ip_address"]?.text == first.address && first.hostConfiguration.runtime == "runsc")
            for text in [docker, String(docker.prefix(12)), String(id.prefix(12))] {
                let found = try await client.container(text)
                #expect(found.status == 200 && found.text("db_id") == id, "\(text): \(found)")
            }
            _ = try await house.engine.run("echo precious > /root/kept && sync", in: docker)

            // A name alone restarts nothing, and a start of what runs neither.
            let renamed = try await client.call(.PATCH, path, #"{"name":"production-api"}"#)
            #expect(renamed.status == 200 && renamed.body["restarted"] == .bool(false), "\(renamed)")
            let fields: [String: JSONValue] = [
                "message": .string("container started"), "id": .string(docker), "name": .string("production-api"),
                "status": .string("running"),
            ]
            let again = try await client.call(.POST, path + "/start")
            #expect(again.status == 200 && again.body == .object(fields), "\(again)")
            let same = try await house.engine.inspectContainer(docker)
            #expect(same.state.startedAt == first.state.startedAt)

            // Stopped it stays stopped, and takes its new limits at its next start.
            let stopped = try await client.call(.POST, path + "/stop")
            #expect(stopped.status == 200 && stopped.text("status") == "stopped", "\(stopped)")
            let still = try await client.call(.PATCH, path, #"{"memory_mb":384}"#)
            #expect(still.status == 200 && still.body["restarted"] == .bool(false), "\(still)")
            let shown = try #require(still.body["container"])
            #expect(shown["status"]?.text == "stopped" && shown["ip_address"] == nil, "\(shown)")
            #expect(shown["idle_seconds"]?.decimal == 0 && shown["resources"]?["memory_mb"] == .integer(384))
            let down = try await house.engine.inspectContainer(docker)
            #expect(down.state.status == "exited")
            let started = try await client.call(.POST, "/api/containers/\(docker.prefix(12))/start")
            #expect(started.status == 200 && started.body == .object(fields), "\(started)")
            let up = try await house.engine.inspectContainer(docker)
            #expect(up.hostConfiguration.memory == 384 * 1024 * 1024)

            // Another disk is another container with the same data.
            let grown = try await client.call(.PATCH, path, #"{"disk_mb":4096}"#)
            #expect(grown.status == 200 && grown.body["restarted"] == .bool(true), "\(grown)")
            let second = try #require(grown.body["container"]?["id"]?.text)
            #expect(second != docker && grown.body["container"]?["status"]?.text == "running")
            let kept = try await house.engine.run("cat /root/kept", in: second)
            #expect(kept == "precious\n")
            let explained = try await client.call(.GET, path + "/explain")
            #expect(explained.text("wanted") == "running", "\(explained)")
            #expect(explained.body["explanation"]?["phase"]?.text == "running", "\(explained)")
            let deleted = try await client.call(.DELETE, path)
            #expect(deleted.status == 200 && deleted.body.keys == ["message", "id", "db_id", "name"], "\(deleted)")
            let gone = try await client.container(id)
            #expect(gone.status == 404)
        }
    }
}
