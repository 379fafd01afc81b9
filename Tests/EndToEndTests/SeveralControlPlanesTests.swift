import DockerEngine
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Testing
import WebSocketTransport

/// Control planes on one PostgreSQL: whoever is asked, the answer is the same.
@Suite struct SeveralControlPlanes {
    /// Two of them, and an address that leads to either.
    private struct Pair: Sendable {
        let one: TestControlPlane
        let two: TestControlPlane
        let balancer: Balancer

        init(_ settings: [String: String] = [:]) async throws {
            let database = try await TestEnvironment.newPostgresDatabase()
            one = try await TestControlPlane(on: database, settings: settings)
            two = try await TestControlPlane(on: database, token: await one.token, settings: settings)
            balancer = try await Balancer([await one.port, await two.port])
        }

        /// An agent that goes through the balancer.
        func agent(_ name: String) async throws -> TestAgent {
            let agent = try await TestAgent(one, name: name)
            let text = try String(contentsOfFile: agent.configPath, encoding: .utf8)
            try text.replacing("127.0.0.1:\(await one.port)", with: "127.0.0.1:\(balancer.port)")
                .write(toFile: agent.configPath, atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: agent.configPath)
            return agent
        }

        func end() async throws {
            try await one.stop()
            try await two.stop()
            try await balancer.stop()
        }
    }

    private func types(_ events: [JSONValue]) -> [String] { events.compactMap { $0["type"]?.text } }

    @Test(.timeLimit(.minutes(4)))
    func `what is asked of one is done by an agent of the other, and both show and tell the same`() async throws {
        let engine = try await TestEnvironment.engine()
        let pair = try await Pair()
        let agent = try await pair.agent("between")
        // With the second one.
        pair.balancer.send(to: [await pair.two.port])
        try await agent.start()
        let (first, second) = (await pair.one.client(), await pair.two.client())
        try await agentIsOnline(first, agent)

        let isReady: @Sendable (JSONValue) -> Bool = {
            $0["type"]?.text == "container_started" || $0["type"]?.text == "error"
        }
        async let elsewhere = second.events(opened: {}, until: isReady)
        let here = try await first.events(
            opened: {
                let made = try await first.call(
                    .POST, "/api/containers", #"{"image":"alpine","name":"across","memory_mb":256,"runtime":"runc"}"#)
                #expect(made.status == 202)
            }, until: isReady)
        let progress = here.filter { $0["type"]?.text == "container_progress" }.compactMap {
            $0["data"]?["progress"]?.number
        }
        #expect(progress.first == 5 && progress.last == 100 && progress == progress.sorted(), "\(progress)")
        // The same events with the same numbers, from wherever the other's list began.
        let numbers = here.filter { $0["type"]?.text != "list" }.compactMap { $0["seq"]?.number }
        let others = try await elsewhere.filter { $0["type"]?.text != "list" }.compactMap { $0["seq"]?.number }
        #expect(numbers == numbers.sorted() && Set(numbers).count == numbers.count)
        #expect(others.suffix(progress.count) == numbers.suffix(progress.count), "\(numbers) \(others)")

        let id = try #require(try await first.entries().first { $0["name"]?.text == "across" }?["db_id"]?.text)
        try await first.untilStatus("running", id)
        // What lives in memory alone is known on both sides.
        try await untilTrue("the load of host and container is shown by both", within: 30) {
            for client in [first, second] {
                guard try await client.container("agent:\(agent.id)").body["stats"] != nil,
                    try await client.container(id).body["stats"] != nil
                else { return false }
            }
            return true
        }
        let explained = try await first.call(.GET, "/api/containers/\(id)/explain")
        #expect(explained.body["explanation"] != nil, "\(explained)")

        // Answers wait for the agent, although it speaks to the other one.
        let stopped = try await first.call(.POST, "/api/containers/\(id)/stop")
        #expect(stopped.status == 200 && stopped.text("status") == "stopped", "\(stopped)")
        #expect(try await second.container(id).text("status") == "stopped")
        #expect(try await second.call(.POST, "/api/containers/\(id)/start").status == 200)
        #expect(try await first.call(.PATCH, "/api/containers/\(id)", #"{"memory_mb":300}"#).status == 200)
        #expect(try await first.call(.DELETE, "/api/containers/\(id)").status == 200)
        #expect(try await agent.containers(engine).isEmpty)

        // Stopped and disconnected through the one that it is not connected to.
        let disconnected = try await first.call(.POST, "/api/containers/agent:\(agent.id)/stop")
        #expect(disconnected.status == 200, "\(disconnected)")
        for client in [first, second] {
            #expect(try await client.container("agent:\(agent.id)").text("status") == "offline")
        }
        try await agent.cleanUp()
        try await pair.end()
    }

    @Test(.timeLimit(.minutes(4)))
    func `when one is killed its agents come back to the other, and listeners of the other miss nothing`() async throws
    {
        let pair = try await Pair()
        let agent = try await pair.agent("survivor")
        try await agent.start()
        let (first, second) = (await pair.one.client(), await pair.two.client())
        try await agentIsOnline(second, agent)
        let kept = try await first.create("kept")
        try await second.untilStatus("running", kept)

        let events = try await second.events(
            opened: {
                try await pair.one.killHard()
                // Nobody has told the agent yet.
                _ = try await second.create("meanwhile")
            },
            // The second list is for what the dead one may have taken with it.
            until: { $0["type"]?.text == "list" && $0["data"]?["count"] == .integer(3) })
        #expect(types(events).first == "list")
        let meanwhile = try #require(
            try await second.entries().first { $0["name"]?.text == "meanwhile" }?["db_id"]?.text)
        try await second.untilStatus("running", meanwhile)
        #expect(try await second.container("agent:\(agent.id)").text("status") == "online")
        #expect(try await second.container(kept).text("status") == "running")

        // It comes back, and knows what happened without it.
        try await pair.one.start()
        #expect(try await first.container(meanwhile).text("status") == "running")
        try await untilTrue("the agent is seen by the one that came back") {
            try await first.container("agent:\(agent.id)").text("status") == "online"
        }
        #expect(try await first.call(.POST, "/api/containers/\(meanwhile)/stop").status == 200)
        try await agent.cleanUp()
        try await pair.end()
    }

    @Test(.timeLimit(.minutes(2)))
    func `an agent whose control plane was killed and that does not come back is offline everywhere`() async throws {
        let pair = try await Pair()
        let agent = try await pair.agent("gone")
        try await agent.start()
        let second = await pair.two.client()
        try await agentIsOnline(second, agent)
        pair.balancer.send(to: [])
        let events = try await second.events(
            opened: { try await pair.one.killHard() }, until: { $0["type"]?.text == "agent_disconnected" })
        #expect(events.last?["data"]?["id"]?.text == "agent:\(agent.id)")
        #expect(try await second.container("agent:\(agent.id)").text("status") == "offline")
        try await agent.cleanUp()
        try await pair.two.stop()
        try await pair.balancer.stop()
    }

    @Test(.timeLimit(.minutes(2)))
    func `a listener goes on at the other where it left off at the first`() async throws {
        let pair = try await Pair()
        let (first, second) = (await pair.one.client(), await pair.two.client())
        let create: @Sendable (String) async throws -> Void = { name in
            _ = try await first.call(.POST, "/api/containers", #"{"image":"alpine","name":"\#(name)"}"#)
        }
        let before = try await first.events(
            opened: { try await create("a") }, until: { $0["type"]?.text == "container_progress" })
        let last = try #require(before.last?["seq"]?.number)
        try await create("b")
        try await create("c")
        let after = try await second.events(
            after: String(last), opened: {},
            until: {
                $0["type"]?.text == "container_progress" && $0["data"]?["progress"] != nil && $0["seq"]?.number != nil
            })
        // No list: everything since is known there too.
        #expect(types(after).first == "container_created", "\(types(after))")
        #expect(after.first?["data"]?["name"]?.text == "b")
        try await pair.end()
    }

    @Test(.timeLimit(.minutes(2)))
    func `limits are counted over both, and names and numbers are kept in parallel creates`() async throws {
        let pair = try await Pair()
        let clients = [await pair.one.client(), await pair.two.client()]
        for round in 0..<20 {
            let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<6 {
                    group.addTask {
                        try await clients[number % 2].call(
                            .POST, "/api/containers", #"{"image":"alpine","name":"same"}"#
                        ).status
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(statuses.sorted() == [202, 409, 409, 409, 409, 409], "round \(round): \(statuses)")
            let id = try #require(try await clients[1].entries().first?["db_id"]?.text)
            #expect(try await clients[0].call(.DELETE, "/api/containers/\(id)").status == 200)
        }
        let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 0..<40 {
                group.addTask {
                    try await clients[number % 2].call(.POST, "/api/containers", #"{"image":"alpine"}"#).status
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(statuses.count { $0 == 202 } == 25 && statuses.count { $0 == 403 } == 15, "\(statuses)")
        try await pair.end()

        let limited = try await Pair(["BERTH_CREATES_PER_MINUTE": "10"])
        let callers = [await limited.one.client(), await limited.two.client()]
        var answers: [Int] = []
        for number in 0..<16 {
            answers.append(try await callers[number % 2].call(.POST, "/api/containers", #"{"image":"alpine"}"#).status)
        }
        #expect(answers == Array(repeating: 202, count: 10) + Array(repeating: 429, count: 6), "\(answers)")
        try await limited.end()
    }

    @Test(.timeLimit(.minutes(2)))
    func `a token that is revoked at one, or by a command, ends the streams at the other at once`() async throws {
        let pair = try await Pair()
        let (first, second) = (await pair.one.client(), await pair.two.client())
        for byCommand in [false, true] {
            let made = try await first.call(.POST, "/api/tokens", #"{"name":"t","scopes":["read"]}"#)
            let (id, text) = (try #require(made.text("id")), try #require(made.text("token")))
            let url = try #require(RemoteURL("ws://127.0.0.1:\(second.port)/ws/events"))
            let connection = try await WebSocketClient.connect(
                to: url, headers: ["Authorization": "Bearer \(text)"], group: TestEnvironment.group)
            let closure = try await connection.run { messages, _ in
                var iterator = messages.makeAsyncIterator()
                _ = try await iterator.next()
                if byCommand {
                    let result = try await RunningProgram.run(
                        try TestEnvironment.binary("berth-server"),
                        ["token", "revoke", "--user", "admin", id] + pair.one.databaseFlag)
                    #expect(result.status == 0, "\(result.output)")
                } else {
                    #expect(try await first.call(.DELETE, "/api/tokens/\(id)").status == 200)
                }
                let start = ContinuousClock.now
                while try await iterator.next() != nil {}
                // The check of every half minute comes later.
                #expect(start.duration(to: .now) < .seconds(10))
            }
            #expect(closure.code == 4401, "\(closure)")
        }
        try await pair.end()
    }

    @Test(.timeLimit(.minutes(3)))
    func `two programs with one identity at two control planes are found out`() async throws {
        let pair = try await Pair()
        let original = try await TestAgent(pair.one, name: "twin")
        try await original.start()
        let client = await pair.two.client()
        try await agentIsOnline(client, original)
        let copy = try TestAgent(copyOf: original)
        let text = try String(contentsOfFile: copy.configPath, encoding: .utf8)
        try text.replacing("127.0.0.1:\(await pair.one.port)", with: "127.0.0.1:\(await pair.two.port)")
            .write(toFile: copy.configPath, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: copy.configPath)
        try await copy.start()
        try await untilTrue("the identity is frozen", within: 90) {
            try await client.container("agent:\(original.id)").text("status") == "duplicate"
        }
        try await copy.cleanUp()
        try await original.cleanUp()
        try await pair.end()
    }

    @Test(.timeLimit(.minutes(4)))
    func `while the database is away answers say so, workloads go on, and afterwards all is as before`() async throws {
        let script = TestEnvironment.packageRoot.path + "/scripts/test-postgres"
        // Short, for the sake of the socket in it, and where another user can reach it.
        let folder = "/tmp/berth-db-" + UUID().uuidString.prefix(8).lowercased()
        let up = try await RunningProgram.run(script, ["up", folder])
        #expect(up.status == 0, "\(up.output)")
        let address = try #require(up.output.split(separator: "\n").last?.drop { $0 != "=" }.dropFirst())
        let controlPlane = try await TestControlPlane(
            on: address.trimmingCharacters(in: .whitespacesAndNewlines))
        let client = await controlPlane.client()
        let agent = try await TestAgent(controlPlane, name: "patient")
        try await agent.start()
        try await agentIsOnline(client, agent)
        let id = try await client.create("steady")
        try await client.untilStatus("running", id)
        let engine = try await TestEnvironment.engine()
        let running = try await agent.containers(engine).map(\.id)

        let events = try await client.events(
            opened: {
                #expect(try await RunningProgram.run(script, ["kill", folder]).status == 0)
                let answer = try await client.call(.GET, "/api/containers")
                #expect(answer.status == 503 && answer.text("error") == "the store does not answer", "\(answer)")
                #expect(try await client.call(.POST, "/api/containers", #"{"image":"alpine"}"#).status == 503)
                #expect(try await client.call(.GET, "/health").status == 200)
                #expect(try await agent.containers(engine).map(\.id) == running)
                #expect(try await RunningProgram.run(script, ["up", folder]).status == 0)
                try await untilTrue("the store answers again") {
                    try await client.call(.GET, "/api/containers").status == 200
                }
                let after = try await client.create("after")
                try await client.untilStatus("running", after)
            },
            // A list for what may have been missed.
            until: {
                $0["type"]?.text == "list" && $0["data"]?["count"] == .integer(3)
                    || $0["type"]?.text == "container_started" && $0["data"]?["name"]?.text == "after"
            })
        #expect(types(events).count { $0 == "list" } >= 2, "\(types(events))")
        try await untilTrue("agent and containers are as before") {
            try await client.container("agent:\(agent.id)").text("status") == "online"
        }
        #expect(try await client.container(id).text("status") == "running")
        #expect(try await client.call(.DELETE, "/api/containers/\(id)").status == 200)
        try await agent.cleanUp()
        try await controlPlane.stop()
        #expect(try await RunningProgram.run(script, ["down", folder]).status == 0)
    }
}
