import AgentProtocol
import BerthModel
import Foundation
import NIOHTTP1
import ServiceRuntime
import Synchronization
import Testing

/// What keeps a container from being stopped for idleness, and how it is stopped for it. `docs/contract.md` has the
/// statements.
@Suite struct DocumentedIdle {
    private struct Stage: Sendable {
        let controlPlane: TestControlPlane
        let client: APIClient
        let agent: ScriptedAgent
        let id: String

        init(_ settings: [String: String] = [:], timeout: Int = 300) async throws {
            controlPlane = try await TestControlPlane { _ in settings }
            client = try await controlPlane.user("ada", tier: "pro")
            agent = try await ScriptedAgent(of: client)
            try await agent.connect()
            id = try await client.create("dev", more: #","idle_timeout_seconds":\#(timeout)"#)
            try await client.untilStatus("running", id)
        }

        /// The agent says how long it has been idle.
        func idle(_ seconds: Double, stopsIn: Double) async throws {
            try await agent.say(
                .activity(samples: [
                    ActivitySample(
                        workload: WorkloadID(validated: id), cpuMicroseconds: 1, memoryBytes: 1,
                        networkReceivedBytes: 0, networkSentBytes: 0, resetID: "1", idleSeconds: seconds,
                        stopsInSeconds: stopsIn)
                ]))
        }

        func untilHeld(_ isHeld: Bool) async throws -> DesiredWorkload {
            try await eventually("the agent knows whether it is held") { () -> DesiredWorkload? in
                guard let wanted = agent.wanted(id), let until = wanted.spec.heldUntil,
                    (until > Timestamp.now()) == isHeld
                else { return nil }
                return wanted
            }
        }
    }

    @Test func `a container is kept alive for as long as somebody says, and its host hears of it`() async throws {
        let stage = try await Stage()
        let (client, path) = (stage.client, "/api/containers/\(stage.id)")
        #expect(try await client.container(stage.id).body["idle_timeout_seconds"] == .integer(300))
        let held = try await client.call(.POST, "\(path)/keepalive", #"{"ttl":600,"reason":"a build"}"#)
        #expect(held.status == 200 && held.text("message") == "container kept alive", "\(held)")
        #expect(held.text("db_id") == stage.id && held.text("name") == "dev" && held.text("reason") == "a build")
        let until = try #require(held.text("keepalive_until"))
        #expect(try await client.container(stage.id).text("keepalive_until") == until)
        let wanted = try await stage.untilHeld(true)
        #expect(abs((wanted.spec.heldUntil ?? 0) - Timestamp.now() - 600) < 60)
        #expect(wanted.generation == 1, "nothing begins anew")
        // The last word counts, and without a body it is five minutes.
        let usual = try await client.call(.POST, "\(path)/keepalive")
        #expect(usual.status == 200 && (usual.text("keepalive_until") ?? "x") < until, "\(usual)")
        let none = try await client.call(.POST, "\(path)/keepalive", #"{"ttl":0,"else":1}"#)
        #expect(none.status == 200 && none.body["keepalive_until"] == nil, "\(none)")
        #expect(none.body["warnings"] == .array([.string("else: unknown field, ignored")]))
        #expect(try await stage.untilHeld(false).generation == 1)
        for (body, field) in [
            (#"{"ttl":-1}"#, "ttl"), (#"{"ttl":86401}"#, "ttl"), (#"{"ttl":1.5}"#, "ttl"), (#"{"ttl":"60"}"#, "ttl"),
            (#"{"ttl":9999999999999999999}"#, "ttl"), (#"{"reason":7}"#, "reason"),
            ("{\"reason\":\"\(String(repeating: "x", count: 201))\"}", "reason"),
        ] {
            let refused = try await client.call(.POST, "\(path)/keepalive", body)
            #expect(refused.status == 400 && refused.text("field") == field, "\(body): \(refused)")
        }
        let other = try await stage.controlPlane.user("eve", tier: "pro")
        #expect(try await other.call(.POST, "\(path)/keepalive").status == 404)
        let audit = try await stage.controlPlane.client().call(.GET, "/api/audit?user=ada")
        #expect("\(audit.body)".contains("/api/containers/{id}/keepalive"), "\(audit)")
        try await stage.controlPlane.stop()
    }

    @Test
    func `who does not use a container hears before it is stopped, and it is stopped once its agent finds it idle`()
        async throws
    {
        let stage = try await Stage()
        let (client, agent) = (stage.client, stage.agent)
        let asked = Mutex<[String]>([])
        let isIdle = Mutex(false)
        agent.answersCommands { command in
            guard case .stopIfIdle = command.kind else { return nil }
            asked.withLock { $0.append(command.workload?.text ?? "-") }
            let ok = isIdle.withLock { $0 }
            return .init(op: command.op, ok: ok, error: ok ? nil : "30 s are left")
        }
        let seen = try await client.events(
            within: 60,
            opened: {
                try await stage.idle(100, stopsIn: 200)
                try await stage.idle(250, stopsIn: 50)
                try await stage.idle(260, stopsIn: 40)
                // It was used since it said so.
                try await stage.idle(310, stopsIn: -10)
                try await untilTrue("the agent was asked") { asked.withLock { $0.count } == 1 }
                // Its owner holds it, of which the agent has not heard yet.
                isIdle.withLock { $0 = true }
                let held = try await client.call(.POST, "/api/containers/\(stage.id)/keepalive", #"{"ttl":60}"#)
                #expect(held.status == 200)
                try await untilTrue("the agent was asked again") {
                    try await stage.idle(310, stopsIn: -10)
                    return asked.withLock { $0.count } >= 2
                }
                #expect(try await client.container(stage.id).text("status") == "running")
                #expect(
                    try await client.call(.POST, "/api/containers/\(stage.id)/keepalive", #"{"ttl":0}"#).status == 200)
                let used = try await client.container(stage.id).text("last_used_at")
                try await untilTrue("it is stopped") {
                    try await stage.idle(310, stopsIn: -10)
                    return agent.wanted(stage.id)?.wish == .stopped
                }
                #expect(try await client.container(stage.id).text("last_used_at") == used, "that is no use of it")
            }, until: { $0["type"]?.text == "container_stopped" })
        let pending = seen.filter { $0["type"]?.text == "container_idle_pending" }
        #expect(pending.count == 1, "\(pending)")
        let data = try #require(pending.first?["data"])
        #expect(data["db_id"]?.text == stage.id && data["name"]?.text == "dev" && data["status"]?.text == "running")
        #expect(data["idle_seconds"] == .integer(250) && data["stops_in_seconds"] == .integer(50), "\(data)")
        #expect(asked.withLock { Set($0) } == [stage.id])
        // A start is a start like any other.
        #expect(try await client.call(.POST, "/api/containers/\(stage.id)/start").status == 200)
        #expect(agent.wanted(stage.id)?.wish == .running)
        try await stage.controlPlane.stop()
    }

    @Test func `what an agent says of idleness beyond all measure is cut down, and stops nothing that has no timeout`()
        async throws
    {
        let stage = try await Stage()
        let (client, agent) = (stage.client, stage.agent)
        let asked = Mutex<[String]>([])
        agent.answersCommands { command in
            asked.withLock { $0.append(command.workload?.text ?? "-") }
            return .init(op: command.op, ok: true)
        }
        let other = try await client.create("other")
        try await client.untilStatus("running", other)
        let seen = try await client.events(
            within: 60,
            opened: {
                try await stage.idle(1e300, stopsIn: 1e-300)
                for id in [other, "another's", ""] {
                    for left in [10, -1e300] {
                        try await agent.say(
                            .activity(samples: [
                                ActivitySample(
                                    workload: WorkloadID(validated: id), cpuMicroseconds: .max, memoryBytes: .min,
                                    networkReceivedBytes: .max, networkSentBytes: .min,
                                    resetID: String(repeating: "x", count: 5000), cpuPercent: -1e300,
                                    idleSeconds: -1e300, stopsInSeconds: left)
                            ]))
                    }
                }
                try await stage.idle(1e300, stopsIn: -1e300)
            }, until: { $0["type"]?.text == "container_stopped" })
        #expect(seen.last?["data"]?["db_id"]?.text == stage.id)
        let first = seen.first {
            $0["type"]?.text == "container_idle_pending" && $0["data"]?["db_id"]?.text == stage.id
        }
        #expect(first?["data"]?["idle_seconds"] == .integer(3_155_760_000), "\(String(describing: first))")
        #expect(asked.withLock { $0 } == [stage.id], "others have no timeout, or are not this agent's")
        #expect(try await client.container(other).text("status") == "running")
        try await stage.controlPlane.stop()
    }

    @Test
    func `how long a container may be idle is within its tier, can be changed, and is refused where it cannot be`()
        async throws
    {
        let stage = try await Stage(["BERTH_TIERS_PRO_IDLE_TIMEOUT_SECONDS": "1000"], timeout: 5000)
        let (client, path) = (stage.client, "/api/containers/\(stage.id)")
        func timeout() async throws -> JSONValue? { try await client.container(stage.id).body["idle_timeout_seconds"] }
        #expect(try await timeout() == .integer(1000), "cut down to the tier's")
        for (asked, given) in [(120, 120), (0, 1000), (700, 700), (2000, 1000)] {
            let changed = try await client.call(.PATCH, path, #"{"idle_timeout_seconds":\#(asked)}"#)
            #expect(changed.status == 200 && changed.body["warnings"] == nil, "\(changed)")
            #expect(changed.body["restarted"] == .bool(false))
            #expect(try await timeout() == .integer(given), "\(asked)")
        }
        #expect(agent(stage).spec.idleTimeoutSeconds == 1000)
        let unsaid = try await client.create("other")
        #expect(try await client.container(unsaid).body["idle_timeout_seconds"] == .integer(1000), "the tier's")
        for value in ["119", "-1", "31536001", "1.5", "\"300\"", "true", "[]", "99999999999999999999"] {
            let body = #"{"image":"alpine","idle_timeout_seconds":\#(value)}"#
            for (method, path) in [(HTTPMethod.POST, "/api/containers"), (.PATCH, path)] {
                let refused = try await client.call(method, path, body)
                #expect(
                    refused.status == 400 && refused.text("field") == "idle_timeout_seconds", "\(value): \(refused)")
            }
        }
        try await stage.controlPlane.stop()
    }

    private func agent(_ stage: Stage) -> DesiredWorkload {
        stage.agent.wanted(stage.id)
            ?? DesiredWorkload(
                id: WorkloadID(validated: stage.id), generation: 0, wish: .removed,
                spec: WorkloadSpec(name: "none", image: "none"))
    }

    @Test(.timeLimit(.minutes(2)))
    func `a container goes to a host with the labels and the processor that are asked for, also when one comes later`()
        async throws
    {
        let controlPlane = try await TestControlPlane { _ in
            ["BERTH_IMAGES": #"{"alpine":{},"arm":{"reference":"alpine","architectures":["arm64"]}}"#]
        }
        let client = try await controlPlane.user("ada", tier: "pro")
        let plain = try await ScriptedAgent(of: client, name: "plain", #""tags":["lab"]"#)
        try await plain.connect()
        let fast = try await ScriptedAgent(of: client, name: "fast", #""tags":["gpu","region=eu"]"#)
        try await fast.connect()
        func host(_ name: String, image: String = "alpine", _ agent: String) async throws -> String? {
            let id = try await client.create(name, image: image, more: #","agent":"\#(agent)""#)
            return try await client.container(id).text("agent")
        }
        #expect(try await host("a", "gpu, region=eu") == "agent:\(fast.id)")
        #expect(try await host("b", "!gpu") == "agent:\(plain.id)")
        #expect(try await host("c", "name=plain,arch=amd64") == "agent:\(plain.id)")
        #expect(try await host("d", "agent:\(fast.id)") == "agent:\(fast.id)")
        #expect(try await host("e", plain.id) == "agent:\(plain.id)")
        let waiting = try await client.create("f", image: "arm", more: #","agent":"lab""#)
        let reason = try await client.container(waiting).text("message")
        #expect(reason == "waiting for a host: none of 1 hosts has a processor for this image: aarch64")
        let nowhere = try await client.create("g", more: #","agent":"tpu""#)
        let later = try await client.create("h", more: #","agent":"new, lab""#)
        let missing = try await client.container(nowhere).text("message")
        #expect(missing == #"waiting for a host: none of 2 hosts has the labels "tpu""#)
        let arm = try await ScriptedAgent(of: client, name: "arm", #""tags":["lab"]"#)
        try await arm.connect(arch: "arm64")
        try await client.untilStatus("running", waiting)
        #expect(try await client.container(waiting).text("agent") == "agent:\(arm.id)")
        #expect(try await client.container(nowhere).text("status") == "creating")
        // A label that is given afterwards counts from then on.
        #expect(try await client.call(.PATCH, "/api/agents/\(plain.id)", #"{"tags":["lab","new"]}"#).status == 200)
        try await client.untilStatus("running", later)
        #expect(try await client.container(later).text("agent") == "agent:\(plain.id)")
        for text in ["", "a,,b", "!", "=x", "agent:", "agent:x y"] {
            let body = try JSONCoding.encodeText(
                JSONValue.object(["image": .string("alpine"), "agent": .string(text)]))
            let refused = try await client.call(.POST, "/api/containers", body)
            #expect(refused.status == 400 && refused.text("field") == "agent", "\(text): \(refused)")
        }
        try await controlPlane.stop()
    }
}
