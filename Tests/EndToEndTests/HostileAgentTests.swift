import AgentProtocol
import BerthModel
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Testing
import WebSocketTransport

/// A control plane spoken to by agents that do not keep to the protocol, or are not who they say.
@Suite struct HostileAgents {
    private struct Registered {
        var id: String
        var token: String
        var port: Int

        func connect(_ path: String? = nil, token: String? = nil, subprotocol: String? = "berth.agent.v1") async throws
            -> WebSocketConnection
        {
            try await WebSocketClient.connect(
                to: try #require(RemoteURL("ws://127.0.0.1:\(port)\(path ?? "/ws/agent/\(id)")")),
                headers: ["Authorization": "Bearer \(token ?? self.token)"], subprotocol: subprotocol,
                group: TestEnvironment.group)
        }

        func hello(revision: Int = 0) throws -> String {
            let engine = EngineDescription(runtimes: ["runc", "gvisor"])
            let host = HostDescription(
                hostname: "h", capacity: .init(memoryMB: 8000, cpuMillicores: 4000, diskMB: 1), engine: engine)
            return try JSONCoding.encodeText(
                AgentMessage.hello(
                    .init(
                        agent: try #require(AgentID(id)), process: "p", version: "0", host: host,
                        heldRevision: Revision(revision), heldDigest: Fingerprint(text: "x"))))
        }
    }

    private func register(_ controlPlane: TestControlPlane, _ name: String = "x") async throws -> Registered {
        let answer = try await controlPlane.client().call(.POST, "/api/agents/register", #"{"name":"\#(name)"}"#)
        #expect(answer.status == 201, "\(answer)")
        return Registered(
            id: try #require(answer.text("id")), token: try #require(answer.text("token")),
            port: await controlPlane.port)
    }

    private func refusal(_ body: () async throws -> WebSocketConnection) async -> Int? {
        do {
            _ = try await body()
            return nil
        } catch ConnectError.refused(let status, _, _) {
            return status
        } catch {
            return -1
        }
    }

    @Test func `refusals come before the upgrade: 401, 403, 404, 426`() async throws {
        let controlPlane = try await TestControlPlane()
        let (one, two) = (try await register(controlPlane), try await register(controlPlane, "y"))
        #expect(await refusal { try await one.connect(token: "wrong") } == 401)
        #expect(await refusal { try await one.connect(token: two.token) } == 403)
        #expect(await refusal { try await one.connect(token: await controlPlane.token) } == 403)
        #expect(await refusal { try await one.connect("/ws/agent/none") } == 404)
        #expect(await refusal { try await one.connect("/ws/agent/..%2f") } == 404)
        #expect(await refusal { try await one.connect(subprotocol: "berth.agent.v0") } == 426)
        #expect(await refusal { try await one.connect("/ws/nothing") } == 404)
        let connection = try await one.connect("/api/agents/\(one.id)/ws")
        connection.abandon()
        // An agent's token opens nothing else.
        let asUser = APIClient(port: one.port, token: one.token)
        #expect(try await asUser.call(.GET, "/api/containers").status == 403)
        #expect(try await asUser.call(.GET, "/api/profile").status == 403)
        #expect(try await asUser.call(.GET, "/api/tokens/validate").status == 200)
        #expect(await refusal { try await one.connect("/ws/events") } == 403)
        #expect(try await asUser.call(.POST, "/api/agents/register", #"{"name":"z"}"#).status == 403)
        try await controlPlane.stop()
    }

    @Test func `a message before hello, a second hello and a foreign hello close with 4409`() async throws {
        let controlPlane = try await TestControlPlane()
        let (one, two) = (try await register(controlPlane), try await register(controlPlane, "y"))
        for messages in [
            [#"{"type":"ack","data":{"revision":1}}"#], [try two.hello()], [try one.hello(), try one.hello()],
        ] {
            let closure = try await one.connect().run { inbound, writer in
                for message in messages { try await writer.send(message) }
                for try await _ in inbound {}
            }
            #expect(closure.code == ProtocolCloseCode.outOfOrder, "\(messages)")
        }
        try await controlPlane.stop()
    }

    @Test func `garbage is counted and survived; too much of it, and binary, close the session`() async throws {
        let controlPlane = try await TestControlPlane()
        let one = try await register(controlPlane)
        let garbage = [
            "", "x", "null", "[]", #"{"type":7}"#, #"{"type":"status","data":{"batch":"x"}}"#,
            #"{"type":"future_word","data":{}}"#,
            #"{"type":"status","data":{"batch":1,"items":[{"workload":"nobody","generation":1,"phase":"running"}]}}"#,
            #"{"type":"activity","data":{"samples":[{"workload":"../x"}]}}"#, String(repeating: "[", count: 200_000),
        ]
        let survived = try await one.connect().run { inbound, writer in
            try await writer.send(try one.hello())
            for message in garbage { try await writer.send(message) }
            try await writer.send(#"{"type":"status","data":{"batch":77,"items":[]}}"#)
            for try await message in inbound where message == .text(#"{"data":{"batch":77},"type":"status_ack"}"#) {
                return
            }
        }
        #expect(survived.origin == .ourselves && survived.code == 1000)
        let flooded = try await one.connect().run { inbound, writer in
            try await writer.send(try one.hello())
            for _ in 0..<30 { try await writer.send("x") }
            for try await _ in inbound {}
        }
        #expect(flooded.code == ProtocolCloseCode.malformed)
        let binary = try await one.connect().run { inbound, writer in
            try await writer.send(ByteBuffer(bytes: [1, 2, 3]))
            for try await _ in inbound {}
        }
        #expect(binary.code == 1003)
        #expect(try await controlPlane.client().call(.GET, "/health").status == 200)
        try await controlPlane.stop()
    }

    @Test func `the newest session wins, and the older one is told so`() async throws {
        let controlPlane = try await TestControlPlane()
        let one = try await register(controlPlane)
        let told = Collected()
        let old = Task {
            try await one.connect().run { inbound, writer in
                try await writer.send(try one.hello())
                for try await message in inbound {
                    if case .text(let text) = message { await told.add(.string(text)) }
                }
            }
        }
        try await untilTrue("the first session is welcomed") {
            await told.all.contains { $0.text?.contains("welcome") == true }
        }
        let new = try await one.connect()
        let closure = try await new.run { inbound, writer in
            try await writer.send(try one.hello())
            _ = try await old.value
            // The end of the old one does not make the agent look offline.
            let client = await controlPlane.client()
            #expect(try await client.container("agent:\(one.id)").text("status") == "online")
            _ = inbound
        }
        #expect(closure.origin == .ourselves)
        #expect(await told.all.contains { $0.text?.contains(#""code":"replaced""#) == true })
        try await untilTrue("offline at once after a clean close") {
            try await controlPlane.client().container("agent:\(one.id)").text("status") == "offline"
        }
        try await controlPlane.stop()
    }

    @Test func `an agent that lies about workloads of others changes nothing`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let (honest, liar) = (try await register(controlPlane), try await register(controlPlane, "liar"))
        let connection = try await honest.connect()
        let target = Collected()
        let session = Task {
            try await connection.run { inbound, writer in
                try await writer.send(try honest.hello())
                for try await message in inbound {
                    if case .text(let text) = message, text.contains("desired_") { await target.add(.string(text)) }
                }
            }
        }
        try await untilTrue("the honest agent is online") {
            try await client.container("agent:\(honest.id)").text("status") == "online"
        }
        let made = try await client.call(
            .POST, "/api/containers", #"{"image":"alpine","name":"one","agent":"agent:\#(honest.id)"}"#)
        let id = try #require(made.text("db_id"))
        try await untilTrue("the honest agent gets it") { await target.all.contains { $0.text?.contains(id) == true } }
        _ = try await liar.connect().run { inbound, writer in
            try await writer.send(try liar.hello())
            try await writer.send(
                #"{"type":"status","data":{"batch":1,"items":[{"workload":"\#(id)","generation":1,"phase":"running","outOfMemory":false,"restarts":0,"since":1,"unenforced":{}}]}}"#
            )
            for try await message in inbound where message == .text(#"{"data":{"batch":1},"type":"status_ack"}"#) {
                return
            }
        }
        #expect(try await client.container(id).text("status") == "creating")
        connection.abandon()
        _ = try? await session.value
        try await controlPlane.stop()
    }

    /// Sends `messages` after a hello of its own and waits until they are read.
    private func say(_ agent: Registered, hello: String? = nil, _ messages: [String] = []) async throws
        -> WebSocketClosure
    {
        let opening = try hello ?? agent.hello()
        return try await agent.connect().run { inbound, writer in
            try await writer.send(opening)
            for message in messages { try await writer.send(message) }
            try await writer.send(#"{"type":"status","data":{"batch":77,"items":[]}}"#)
            for try await message in inbound where message == .text(#"{"data":{"batch":77},"type":"status_ack"}"#) {
                return
            }
        }
    }

    @Test func `no number of an agent stops the control plane`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let one = try await register(controlPlane)
        for number in ["9223372036854775807", "9223372036854775806", "4611686018427387904", "9007199254740993"] {
            let hello = try one.hello().replacingOccurrences(
                of: #""heldRevision":0"#, with: #""heldRevision":\#(number)"#)
            #expect(hello.contains(number))
            _ = try? await say(one, hello: hello)
            let large = try one.hello().replacingOccurrences(of: #""memoryMB":8000"#, with: #""memoryMB":\#(number)"#)
            #expect(large.contains(number))
            let session = Task {
                try await one.connect().run { inbound, writer in
                    try await writer.send(large)
                    for try await _ in inbound {}
                }
            }
            try await untilTrue("it is online") {
                try await client.container("agent:\(one.id)").text("status") == "online"
            }
            #expect(try await client.call(.POST, "/api/containers", #"{"image":"alpine"}"#).status == 202)
            #expect(try await client.call(.GET, "/api/containers").status == 200)
            session.cancel()
            _ = await session.result
        }
        try await controlPlane.stop()
        try await controlPlane.start()
        #expect(try await client.call(.GET, "/api/containers").status == 200)
        try await controlPlane.stop()
    }

    @Test func `texts of an agent are bounded, and too many statuses close the session`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let one = try await register(controlPlane)
        let long = String(repeating: "x", count: 1_000_000)
        let hello = try one.hello().replacingOccurrences(of: #""hostname":"h""#, with: #""hostname":"\#(long)""#)
        _ = try await say(one, hello: hello)
        let entry = try await client.container("agent:\(one.id)").body
        #expect((entry["hostname"]?.text?.count ?? 0) < 300)
        let item =
            #"{"workload":"w","generation":1,"phase":"running","outOfMemory":false,"restarts":0,"since":1,"unenforced":{}}"#
        let flood =
            #"{"type":"status","data":{"batch":1,"items":[\#(Array(repeating: item, count: 201).joined(separator: ","))]}}"#
        #expect(try await say(one, [flood]).code == ProtocolCloseCode.malformed)
        try await controlPlane.stop()
    }

    @Test func `progress and samples of another agent's container are not taken`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let (honest, liar) = (try await register(controlPlane), try await register(controlPlane, "liar"))
        let session = Task {
            try await honest.connect().run { inbound, writer in
                try await writer.send(try honest.hello())
                for try await _ in inbound {}
            }
        }
        try await untilTrue("the honest agent is online") {
            try await client.container("agent:\(honest.id)").text("status") == "online"
        }
        let made = try await client.call(.POST, "/api/containers", #"{"image":"alpine","agent":"agent:\#(honest.id)"}"#)
        let id = try #require(made.text("db_id"))
        _ = try await say(
            liar,
            [
                #"{"type":"progress","data":{"workload":"\#(id)","generation":99,"stage":"starting","doneBytes":0,"totalBytes":0}}"#,
                #"{"type":"progress","data":{"workload":"\#(id)","generation":1,"stage":"starting","doneBytes":0,"totalBytes":0}}"#,
            ])
        #expect(try await client.container(id).body["progress"]?["progress"] == .integer(5))
        session.cancel()
        _ = await session.result
        try await controlPlane.stop()
    }

    @Test func `a container waits for the host that was asked for, and takes no other`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let (wanted, other) = (try await register(controlPlane), try await register(controlPlane, "other"))
        let made = try await client.call(.POST, "/api/containers", #"{"image":"alpine","agent":"agent:\#(wanted.id)"}"#)
        let id = try #require(made.text("db_id"))
        _ = try await say(other)
        #expect(try await client.container(id).body["agent"] == nil)
        // Connected until it has it: hosts are looked for a moment after one has come.
        let session = Task {
            try await wanted.connect().run { inbound, writer in
                try await writer.send(try wanted.hello())
                for try await _ in inbound {}
            }
        }
        try await untilTrue("it has the host that was asked for") {
            try await client.container(id).text("agent") == "agent:\(wanted.id)"
        }
        session.cancel()
        _ = await session.result
        try await controlPlane.stop()
    }
}
