import AgentProtocol
import BerthModel
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Synchronization
import Testing
import WebSocketTransport

/// The list, one container, and agents among them, as they are documented. `docs/contract.md` has the statements.
@Suite struct DocumentedRead {
    private static let notFound = JSONValue.object(["error": .string("container not found")])

    @Test func `the list has its user's containers, newest first, with the documented fields and types`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let empty = try await client.call(.GET, "/api/containers")
        #expect(empty.status == 200)
        #expect(empty.body == .object(["containers": .array([]), "count": .integer(0), "limit": .integer(10)]))
        for name in ["one", "two", "three"] {
            #expect(try await client.order(#""name":"\#(name)""#).status == 202)
        }
        // Somebody else's.
        #expect(try await controlPlane.client().order().status == 202)
        let list = try await client.call(.GET, "/api/containers")
        #expect(list.status == 200 && list.body.keys == ["containers", "count", "limit"])
        #expect(list.body["count"] == .integer(3) && list.body["limit"] == .integer(10))
        let entries = list.body["containers"]?.items ?? []
        #expect(entries.compactMap { $0["name"]?.text } == ["three", "two", "one"])
        for entry in entries {
            for field in ["id", "db_id", "user_id", "name", "image", "role", "status"] {
                #expect(entry[field]?.text != nil, "\(field): \(entry)")
            }
            #expect(entry["created_at"]?.isTime == true && entry["last_used_at"]?.isTime == true, "\(entry)")
            #expect(entry["idle_seconds"]?.decimal == 0 && entry["mfa_locked"] == .bool(false))
            #expect(entry["resources"]?.keys == ["memory_mb", "cpu_shares", "disk_mb"])
            #expect(entry["status"]?.text == "creating" && entry["ip_address"] == nil)
            // One alone is the same.
            let one = try await client.container(try #require(entry["db_id"]?.text))
            #expect(one.status == 200 && one.body == entry, "\(one)")
        }
        try await controlPlane.stop()
    }

    @Test func `a status is creating, configuring, running, stopped or error, as the agent said last`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        agent.answers { wanted in
            var status = ScriptedAgent.done(wanted)
            guard ["creating", "configuring", "error"].contains(wanted.spec.name) else { return status }
            status.observedGeneration = 0
            if wanted.spec.name == "configuring" {
                status.phase = .configuring
                return status
            }
            (status.engineContainer, status.address, status.startedAt) = (nil, nil, nil)
            status.phase = .pulling
            if wanted.spec.name == "error" {
                (status.phase, status.reason, status.message) = (.failed, "image_pull_failed", "no such image")
            }
            return status
        }
        try await agent.connect()
        let names = ["creating", "configuring", "running", "stopped", "error"]
        var ids: [String: String] = [:]
        for name in names { ids[name] = try await client.create(name) }
        try await client.untilStatus("running", try #require(ids["stopped"]))
        #expect(try await client.call(.POST, "/api/containers/\(ids["stopped"] ?? "")/stop").status == 200)
        func containers() async throws -> [String: JSONValue] {
            let entries = try await client.entries().filter { $0["session_type"] == nil }
            return Dictionary(entries.map { ($0["name"]?.text ?? "", $0) }, uniquingKeysWith: { first, _ in first })
        }
        try await untilTrue("each has the status that it is named by") {
            let all = try await containers()
            return names.allSatisfy { all[$0]?["status"]?.text == $0 }
        }

        // Idle is what was measured, of what runs alone.
        let samples = try names.map { name in
            ActivitySample(
                workload: WorkloadID(validated: try #require(ids[name])), cpuMicroseconds: 1, memoryBytes: 2,
                networkReceivedBytes: 3, networkSentBytes: 4, resetID: "r", cpuPercent: 0.5, idleSeconds: 127.5)
        }
        try await agent.say(AgentMessage.activity(samples: samples))
        try await untilTrue("it is idle") { try await containers()["running"]?["idle_seconds"] == .number(127.5) }
        let all = try await containers()
        for name in ["running", "configuring"] {
            #expect(all[name]?["ip_address"]?.text == "172.17.0.5" && all[name]?["message"] == nil, "\(name)")
        }
        for name in ["creating", "stopped", "error"] {
            #expect(all[name]?["ip_address"] == nil && all[name]?["idle_seconds"]?.decimal == 0, "\(name)")
        }
        #expect(all["error"]?["message"]?.text == "image_pull_failed: no such image")

        // While the host is away the last that was known is shown, and said to be that.
        try await agent.disconnect()
        let away = try await containers()
        for name in names {
            #expect(away[name]?["status"]?.text == name)
            #expect(away[name]?["message"]?.text == "its host is offline; what is shown is the last that was known")
        }
        try await controlPlane.stop()
    }

    @Test func `a container is found by Docker id, database id, or twelve characters of either, by its owner alone`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        // Docker ids that begin alike.
        @Sendable func docker(_ name: String) -> String {
            "abcdefabcdef" + String(repeating: name == "one" ? "1" : "2", count: 52)
        }
        agent.answers { ScriptedAgent.done($0, container: docker($0.spec.name)) }
        try await agent.connect()
        let id = try await client.create("one")
        try await client.untilStatus("running", id)
        let second = try await client.create("two")
        try await client.untilStatus("running", second)
        for text in [id, String(id.prefix(12)), String(id.prefix(20)), docker("one"), "abcdefabcdef1"] {
            let found = try await client.container(text)
            #expect(found.status == 200 && found.text("db_id") == id, "\(text): \(found)")
        }
        for text in [String(id.prefix(11)), "abcdefabcde", "550e8400-e29b-41d4-a716-446655440000"] {
            let missing = try await client.container(text)
            #expect(missing.status == 404 && missing.body == Self.notFound, "\(text): \(missing)")
        }
        // Two have it: nobody guesses which is meant.
        let acts: [(HTTPMethod, String, String?)] = [
            (.GET, "", nil), (.POST, "/start", nil), (.POST, "/stop", nil), (.PATCH, "", "{}"), (.DELETE, "", nil),
        ]
        for (method, path, body) in acts {
            let both = try await client.call(method, "/api/containers/abcdefabcdef\(path)", body)
            #expect(both.status == 409, "\(method) \(path): \(both)")
        }
        let stranger = await controlPlane.client()
        for text in [id, docker("one"), String(id.prefix(12))] {
            for (method, path, body) in acts {
                let answer = try await stranger.call(method, "/api/containers/\(text)\(path)", body)
                #expect(answer.status == 404 && answer.body == Self.notFound, "\(method) \(path): \(answer)")
            }
        }
        for text in [id, second] { #expect(try await client.container(text).text("status") == "running") }
        try await controlPlane.stop()
    }

    // MARK: agents

    @Test func `a server of one's own is an entry with an agent: id, online or offline, and counts for no limit`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "guest")
        let agent = try await ScriptedAgent(of: client, name: "my-server", #""description":"d","tags":["a","b"]"#)
        let id = "agent:\(agent.id)"
        #expect(try await client.order().status == 202, "a guest may have one container")
        let list = try await client.call(.GET, "/api/containers")
        #expect(list.body["count"] == .integer(2) && list.body["limit"] == .integer(1), "\(list)")
        let offline = try #require(list.body["containers"]?.items.first { $0["id"]?.text == id })
        #expect(
            offline.keys.isSuperset(of: [
                "id", "name", "image", "status", "session_type", "created_at", "last_used_at", "idle_seconds", "os",
                "arch", "distro", "hostname", "description", "tags", "mfa_locked", "resources",
            ]), "\(offline)")
        #expect(offline["status"]?.text == "offline" && offline["session_type"]?.text == "agent")
        #expect(offline["name"]?.text == "my-server" && offline["description"]?.text == "d")
        #expect(offline["tags"] == .array([.string("a"), .string("b")]) && offline["mfa_locked"] == .bool(false))
        for path in ["/api/containers/\(id)", "/api/agents/\(agent.id)"] {
            #expect(try await client.call(.GET, path).body == offline, "\(path)")
        }

        try await agent.connect()
        try await agent.say(
            AgentMessage.stats(
                HostStats(
                    cpuPercent: 12.5, memoryBytes: 1000, memoryLimitBytes: 2000, diskBytes: 3, diskLimitBytes: 4,
                    uptimeSeconds: 5)))
        let online = try await eventually("it is listed with how busy it is") { () -> JSONValue? in
            let entry = try await client.container(id)
            return entry.body["stats"] == nil ? nil : entry.body
        }
        #expect(online["status"]?.text == "online" && online["image"]?.text == "linux/x86_64")
        #expect(online["os"]?.text == "linux" && online["arch"]?.text == "x86_64")
        #expect(online["hostname"]?.text == "scripted")
        #expect(
            online["resources"]
                == .object(["memory_mb": .integer(8000), "cpu_shares": .integer(4000), "disk_mb": .integer(100_000)]))
        #expect(
            online["stats"]
                == .object([
                    "cpu_percent": .number(12.5), "memory": .integer(1000), "memory_limit": .integer(2000),
                    "disk_usage": .integer(3), "disk_limit": .integer(4), "uptime": .integer(5),
                ]))
        try await controlPlane.stop()
    }

    @Test func `a server is registered, started, stopped and deleted by its agent: id as documented`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        for path in ["/api/agents/register", "/api/agents"] {
            let body = #"{"name":"n","description":"d","os":"linux","arch":"arm64","shell":"/bin/sh","tags":["a"]}"#
            let made = try await client.call(.POST, path, body)
            #expect(made.status == 201 && made.body.keys == ["id", "name", "token"], "\(made)")
            let deleted = try await client.call(.DELETE, "/api/agents/\(made.text("id") ?? "")")
            #expect(deleted.status == 200, "\(deleted)")
        }
        let agent = try await ScriptedAgent(of: client, name: "server")
        let path = "/api/containers/agent:\(agent.id)"
        func status() async throws -> String? {
            let said = try await client.call(.GET, "/api/agents/\(agent.id)/status")
            #expect(said.status == 200 && said.body.keys == ["id", "status", "last_seen_at"], "\(said)")
            return said.text("status")
        }
        #expect(try await status() == "offline")
        let early = try await client.call(.POST, path + "/start")
        #expect(early.status == 409 && early.text("error") == "agent is offline", "\(early)")
        #expect(early.text("message")?.contains("berth-agent run") == true, "what to do on the host: \(early)")

        try await agent.connect()
        #expect(try await status() == "online")
        let bare = try await client.call(.GET, "/api/agents").body.items
        #expect(bare.compactMap { $0["id"]?.text } == ["agent:\(agent.id)"])
        let started = try await client.call(.POST, path + "/start")
        #expect(started.status == 200 && started.text("status") == "online", "\(started)")

        // Stopped is disconnected, for now.
        let stopped = try await client.call(.POST, path + "/stop")
        #expect(stopped.status == 200 && stopped.text("id") == "agent:\(agent.id)", "\(stopped)")
        #expect(stopped.text("name") == "server" && stopped.text("status") == "offline")
        #expect(try await client.call(.GET, path).text("status") == "offline")
        try await agent.connect()
        #expect(try await client.call(.GET, path).text("status") == "online")

        let deleted = try await client.call(.DELETE, path)
        #expect(deleted.status == 200 && deleted.text("db_id") == agent.id, "\(deleted)")
        #expect(deleted.text("id") == "agent:\(agent.id)" && deleted.text("name") == "server")
        for (method, rest) in [(HTTPMethod.GET, ""), (.POST, "/start"), (.POST, "/stop"), (.DELETE, "")] {
            #expect(try await client.call(method, path + rest).status == 404, "\(method) \(rest)")
        }
        do {
            try await agent.connect()
            Issue.record("its token is void")
        } catch ConnectError.refused(let status, _, _) {
            #expect(status == 401)
        }
        try await controlPlane.stop()
    }

    @Test func `an agent: id can be cut to twelve characters too`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let agent = try await ScriptedAgent(of: client)
        let found = try await client.container("agent:\(agent.id.prefix(12))")
        #expect(found.status == 200 && found.text("db_id") == agent.id, "\(found)")
        try await controlPlane.stop()
    }
}
