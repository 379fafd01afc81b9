import AgentProtocol
import BerthModel
import NIOHTTP1
import ServiceRuntime
import Testing
import WebSocketTransport

/// Of several control planes one alone loses the database: it is of no use for a while, and the others do its work.
@Suite struct CutOffControlPlanes {
    /// Two of them, of which one can be cut off from the database, and an address that leads to either.
    private struct Stage: Sendable {
        let line: DatabaseLine
        let one: TestControlPlane
        let two: TestControlPlane
        let balancer: Balancer
        let first: APIClient
        let second: APIClient

        init() async throws {
            let database = try await TestEnvironment.newPostgresDatabase()
            line = try await DatabaseLine(to: database)
            one = try await TestControlPlane(on: line.address)
            two = try await TestControlPlane(on: database, token: await one.token)
            balancer = try await Balancer([await one.port])
            first = await one.client()
            second = await two.client()
        }

        /// An agent with a container that runs, connected through the balancer.
        func host(_ name: String, running container: String) async throws -> (agent: ScriptedAgent, id: String) {
            let agent = try await ScriptedAgent(of: APIClient(port: balancer.port, token: first.token), name: name)
            try await agent.connect()
            let id = try await first.create(container, more: #","agent":"agent:\#(agent.id)""#)
            try await first.untilStatus("running", id)
            return (agent, id)
        }

        func end() async throws {
            try await one.stop()
            try await two.stop()
            try await balancer.stop()
            try await line.stop()
        }
    }

    /// Names and statuses of a list.
    private static func statuses(_ entries: [JSONValue]) -> [String: String] {
        var found: [String: String] = [:]
        for entry in entries {
            if let name = entry["name"]?.text, let status = entry["status"]?.text { found[name] = status }
        }
        return found
    }

    /// The event, or the list, says that an agent is not connected.
    private static func isGone(_ agent: ScriptedAgent, by event: JSONValue) -> Bool {
        let id = "agent:\(agent.id)"
        if event["type"]?.text == "agent_disconnected" { return event["data"]?["id"]?.text == id }
        return (event["data"]?["containers"]?.items ?? []).contains {
            $0["id"]?.text == id && $0["status"]?.text == "offline"
        }
    }

    private static func saysSo(_ client: APIClient) async throws {
        let calls: [(HTTPMethod, String, String?)] = [
            (.GET, "/api/containers", nil), (.POST, "/api/containers", #"{"image":"alpine","name":"never"}"#),
            (.GET, "/api/profile", nil),
        ]
        for (method, path, body) in calls {
            let (answer, headers) = try await client.send(method, path, body)
            #expect(answer.status == 503, "\(method) \(path): \(answer)")
            #expect(
                answer.body == .object(["error": .string("the store does not answer"), "retry_after": .integer(5)]),
                "\(answer)")
            #expect(headers["retry-after"] == "5", "\(headers)")
        }
        let url = try #require(RemoteURL("ws://127.0.0.1:\(client.port)/ws/events"))
        do {
            _ = try await WebSocketClient.connect(
                to: url, headers: ["Authorization": "Bearer \(client.token)"], group: TestEnvironment.group)
            Issue.record("a handshake needs the store")
        } catch ConnectError.refused(let status, let seconds, _) {
            #expect(status == 503 && seconds == 5)
        }
        let health = try await client.call(.GET, "/health")
        #expect(health.status == 200)
    }

    @Test(.timeLimit(.minutes(4)))
    func `one that alone loses the database says so, its agents and their work go to the other, and it comes back`()
        async throws
    {
        let stage = try await Stage()
        let (first, second) = (stage.first, stage.second)
        let (busy, stopped) = try await stage.host("busy", running: "stopped")
        let (quiet, waiting) = try await stage.host("quiet", running: "waiting")
        let heard = try await first.events(
            within: 180,
            opened: {
                await stage.line.cut()
                stage.balancer.send(to: [await stage.two.port])
                try await Self.saysSo(first)

                // Whoever has something to report is cut off, and heard by the other at once.
                let report = ScriptedAgent.done(try await busy.untilWanted(stopped))
                try await busy.untilCutOff(saying: .status(.init(batch: 99, items: [report])))
                try await busy.connect()
                let stop = try await second.call(.POST, "/api/containers/\(stopped)/stop")
                #expect(stop.status == 200 && stop.text("status") == "stopped", "\(stop)")

                // Whoever has not is gone for the other when the lease is over; what is asked of it waits.
                _ = try await second.events(within: 60, opened: {}, until: { Self.isGone(quiet, by: $0) })
                let offline = try await second.container("agent:\(quiet.id)")
                #expect(offline.text("status") == "offline", "\(offline)")
                let later = try await second.call(.POST, "/api/containers/\(waiting)/stop")
                #expect(later.status == 202, "\(later)")
                let moved = try await second.container("agent:\(busy.id)")
                #expect(moved.text("status") == "online", "it has a newer session: \(moved)")

                // In the end it is sent away, and does then what was asked.
                try await quiet.untilCutOff(within: 60)
                let log = await stage.one.program?.output ?? ""
                #expect(log.contains("sending the agents to other control planes"))
                try await quiet.connect()
                try await second.untilStatus("stopped", waiting)

                try await Self.saysSo(first)
                stage.line.mend()
                try await untilTrue("the first one answers again", within: 30) {
                    try await first.call(.GET, "/api/containers").status == 200
                }
            },
            // What happened meanwhile was missed: a new list has it.
            until: {
                $0["type"]?.text == "list"
                    && Self.statuses($0["data"]?["containers"]?.items ?? [])["waiting"] == "stopped"
            })
        #expect(heard.first?["type"]?.text == "list")
        let expected = ["busy": "online", "quiet": "online", "stopped": "stopped", "waiting": "stopped"]
        for (which, client) in [("first", first), ("second", second)] {
            try await untilTrue("the \(which) one shows all as it is, and nothing that it refused", within: 30) {
                Self.statuses(try await client.entries()) == expected
            }
        }
        // Asked of the one, done by an agent of the other.
        for id in [stopped, waiting] {
            let started = try await first.call(.POST, "/api/containers/\(id)/start")
            #expect(started.status == 200 && started.text("status") == "running", "\(started)")
        }
        try await stage.end()
    }

    @Test(.timeLimit(.minutes(3)))
    func `one that has the database back when its lease is over says again which agents are with it`() async throws {
        let stage = try await Stage()
        let (agent, id) = try await stage.host("loyal", running: "kept")
        await stage.line.cut()
        _ = try await stage.second.events(within: 60, opened: {}, until: { Self.isGone(agent, by: $0) })
        stage.line.mend()
        try await untilTrue("the other one shows the agent again", within: 30) {
            try await stage.second.container("agent:\(agent.id)").text("status") == "online"
        }
        // Its session has never ended.
        try await agent.say(ScriptedAgent.heartbeat)
        let log = await stage.one.program?.output ?? ""
        #expect(log.contains("the lease was over before it was renewed"))
        let stop = try await stage.second.call(.POST, "/api/containers/\(id)/stop")
        #expect(stop.status == 200 && stop.text("status") == "stopped", "\(stop)")
        #expect(agent.wanted(id)?.wish == .stopped)
        try await stage.end()
    }
}

extension ScriptedAgent {
    /// Whoever hears it needs no database for it.
    static let heartbeat = AgentMessage.heartbeat(.init(passAgeMilliseconds: 1, engineReachable: true))

    /// Says something again and again, until its connection has ended.
    func untilCutOff(saying message: AgentMessage = ScriptedAgent.heartbeat, within seconds: Double = 20) async throws {
        _ = try await eventually("agent \(id) is cut off", within: seconds, every: 250) { () -> Bool? in
            do {
                try await say(message)
                return nil
            } catch {
                return true
            }
        }
    }
}
