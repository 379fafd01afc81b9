import AgentProtocol
import BerthModel
import ControlPlaneCore
import Crypto
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Testing
import WebSocketTransport

/// Tiers, rates, tokens, refusals, event streams and locks as they are documented. `docs/contract.md` has the
/// statements.
@Suite struct DocumentedLimits {
    private static let unauthorized = JSONValue.object(["error": .string("unauthorized")])

    @Test func `a tier says how much, how many, for how long, and whether macOS may be asked for`() async throws {
        let controlPlane = try await TestControlPlane()
        for (tier, memory, cpu, disk, most, hasSession) in [
            ("guest", 512, 500, 2048, 1, true), ("free", 2048, 2000, 10240, 5, true),
            ("pro", 4096, 4000, 20480, 10, false), ("enterprise", 8192, 8000, 51200, 25, false),
        ] {
            let client = try await controlPlane.user(tier, tier: tier)
            #expect(try await client.call(.GET, "/api/profile").body["user"]?["tier"]?.text == tier)
            #expect(try await client.call(.GET, "/api/containers").body["limit"] == .integer(most))
            for image in ["macos", "macos-legacy"] {
                let mac = try await client.order(image: image)
                let isAllowed = tier == "enterprise"
                // Whoever may ask is told that no host can.
                #expect(mac.status == (isAllowed ? 400 : 403), "\(tier): \(mac)")
                #expect(mac.text("error") == (isAllowed ? "unsupported image type" : "insufficient permissions"))
            }
            let made = try await client.order(#""memory_mb":999999,"cpu_shares":999999,"disk_mb":999999"#)
            let limits: [String: JSONValue] = [
                "memory_mb": .integer(memory), "cpu_shares": .integer(cpu), "disk_mb": .integer(disk),
            ]
            #expect(made.status == 202 && made.body["resources"] == .object(limits), "\(tier): \(made)")
            let entry = try await client.container(try #require(made.text("db_id"))).body
            if hasSession {
                #expect(made.body["session_limit_seconds"] == .integer(180_000) && made.body["expires_at"] != nil)
                let end = Timestamp.seconds(try #require(made.text("expires_at"))) ?? 0
                let start = Timestamp.seconds(try #require(made.text("created_at"))) ?? 0
                #expect(abs(end - start - 180_000) < 0.001, "50 hours: \(made)")
                #expect(entry["expires_at"] == made.body["expires_at"] && entry["expires_at"]?.isTime == true)
                #expect((179_000...180_000).contains(entry["session_limit_seconds"]?.number ?? 0), "\(entry)")
            } else {
                for body in [made.body, entry] {
                    #expect(body["expires_at"] == nil && body["session_limit_seconds"] == nil, "\(tier): \(body)")
                }
            }
            for _ in 1..<most { #expect(try await client.order().status == 202, "\(tier)") }
            let over = try await client.order()
            #expect(over.status == 403 && over.text("error") == "container limit reached", "\(tier): \(over)")
            #expect(over.body["current"] == .integer(most) && over.body["limit"] == .integer(most))
            #expect(over.text("tier") == tier)
        }
        try await controlPlane.stop()
    }

    @Test(.timeLimit(.minutes(2)))
    func `out of the box a user may create 10 times, change 60 times and read 120 times a minute`() async throws {
        // Empty is as good as not set.
        let controlPlane = try await TestControlPlane { _ in
            ["BERTH_CREATES_PER_MINUTE": "", "BERTH_OPERATIONS_PER_MINUTE": "", "BERTH_LISTS_PER_MINUTE": ""]
        }
        let client = await controlPlane.client()
        let classes: [(HTTPMethod, String, String?, Int, Int)] = [
            (.POST, "/api/containers", #"{"image":"alpine"}"#, 10, 202),
            (.POST, "/api/containers/none/stop", nil, 60, 404), (.GET, "/api/containers", nil, 120, 200),
        ]
        for (method, path, body, most, status) in classes {
            for count in 1...most {
                let (answer, headers) = try await client.send(method, path, body)
                #expect(answer.status == status, "\(method) \(path) \(count): \(answer)")
                #expect(headers["x-ratelimit-limit"] == "\(most)")
                #expect(headers["x-ratelimit-remaining"] == "\(most - count)")
                #expect(headers["x-ratelimit-reset"].flatMap { Int($0) } != nil && headers["retry-after"] == nil)
            }
            let (over, headers) = try await client.send(method, path, body)
            let seconds = over.body["retry_after"]?.number ?? 0
            #expect(over.status == 429 && (1...60).contains(seconds), "\(over)")
            #expect(
                over.body
                    == .object(["error": .string("rate limit exceeded"), "retry_after": .integer(seconds)]))
            #expect(headers["retry-after"] == "\(seconds)" && headers["x-ratelimit-remaining"] == "0")
        }
        try await controlPlane.stop()
    }

    // MARK: who asks

    @Test func `without a valid bearer token in its header every call is a 401 in the same words`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let wrong: [HTTPHeaders] = [
            [:], ["Authorization": "Bearer"], ["Authorization": "Bearer wrong"],
            ["Authorization": "Basic \(client.token)"], ["Authorization": client.token],
            ["Authorization": "Bearer berth_\(String(repeating: "0", count: 64))"],
        ]
        let calls: [(HTTPMethod, String)] = [
            (.GET, "/api/containers"), (.GET, "/api/containers?token=\(client.token)"), (.POST, "/api/containers"),
            (.GET, "/api/containers/x"), (.PATCH, "/api/containers/x"), (.DELETE, "/api/containers/x"),
            (.POST, "/api/containers/x/start"), (.POST, "/api/containers/x/stop"), (.GET, "/api/agents"),
        ]
        for given in wrong {
            for (method, path) in calls {
                let (answer, heads) = try await client.send(method, path, headers: given)
                #expect(answer.status == 401 && answer.body == Self.unauthorized, "\(method) \(path): \(answer)")
                #expect(heads["www-authenticate"] == "Bearer")
                #expect(heads["content-type"]?.hasPrefix("application/json") == true)
            }
        }
        let lower = try await client.send(
            .GET, "/api/containers", headers: ["Authorization": "bearer \(client.token)"])
        #expect(lower.answer.status == 200)
        // What is everybody's.
        let health = try await client.send(.GET, "/health", headers: [:]).answer
        #expect(health.status == 200 && health.body == .object(["status": .string("ok")]))
        let version = try await client.send(.GET, "/api/version", headers: [:]).answer
        #expect(version.status == 200 && version.text("version") == BerthVersion.text, "\(version)")
        try await controlPlane.stop()
    }

    @Test func `every refusal is JSON and says in error what is wrong`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let large = "{\"image\":\"\(String(repeating: "x", count: 1 << 20))\"}"
        let calls: [(HTTPMethod, String, String?, Int)] = [
            (.POST, "/api/containers", "{", 400), (.POST, "/api/containers", "[]", 400),
            (.POST, "/api/containers", #"{"image":"windows"}"#, 400), (.POST, "/api/containers", large, 413),
            (.GET, "/api/containers/none", nil, 404), (.POST, "/api/containers/none/start", nil, 404),
            (.POST, "/api/containers/none/stop", nil, 404), (.PATCH, "/api/containers/none", "{}", 404),
            (.DELETE, "/api/containers/none", nil, 404), (.GET, "/api/nothing", nil, 404),
            (.GET, "/ws/events", nil, 426),
        ]
        for (method, path, body, status) in calls {
            let (answer, headers) = try await client.send(method, path, body)
            #expect(answer.status == status, "\(method) \(path): \(answer)")
            #expect(answer.text("error")?.isEmpty == false, "\(method) \(path): \(answer)")
            #expect(headers["content-type"]?.hasPrefix("application/json") == true, "\(method) \(path)")
            if path.contains("none") { #expect(answer.text("error") == "container not found") }
        }
        let form: HTTPHeaders = [
            "Authorization": "Bearer \(client.token)", "Content-Type": "application/x-www-form-urlencoded",
        ]
        let (answer, _) = try await client.send(.POST, "/api/containers", "image=alpine", headers: form)
        #expect(answer.status == 415 && answer.text("error") == "unsupported media type", "\(answer)")
        try await controlPlane.stop()
    }

    @Test func `a token is shown once, listed by its beginning, says who it is of, and is void once revoked`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let made = try await client.call(
            .POST, "/api/tokens", #"{"name":"ci","scopes":["write","read"],"expires_in":30}"#)
        #expect(made.status == 201, "\(made)")
        let fields: Set = ["id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at"]
        #expect(made.body.keys == fields.union(["token"]))
        let (id, text) = (try #require(made.text("id")), try #require(made.text("token")))
        let form = /berth_[0-9a-f]{64}/
        #expect(text.wholeMatch(of: form) != nil && text.hasPrefix(made.text("prefix") ?? "?"))
        let end = Timestamp.seconds(made.text("expires_at") ?? "") ?? 0
        let start = Timestamp.seconds(made.text("created_at") ?? "") ?? 0
        #expect(abs(end - start - 30 * 86_400) < 0.001 && made.body["last_used_at"] == .null, "\(made)")

        let other = APIClient(port: client.port, token: text)
        let validated = try await other.call(.GET, "/api/tokens/validate")
        let user = try #require(try await other.call(.GET, "/api/profile").body["user"])
        #expect(user.keys == ["id", "username", "email", "tier", "is_admin"] && user["is_admin"] == .bool(false))
        #expect(
            validated.body
                == .object([
                    "valid": .bool(true), "user_id": user["id"] ?? .null, "username": .string("ada"),
                    "email": user["email"] ?? .null, "tier": .string("pro"),
                    "scopes": .array([.string("read"), .string("write")]),
                ]), "\(validated)")
        let list = try await client.call(.GET, "/api/tokens")
        #expect(list.status == 200 && list.body.keys == ["tokens"])
        let listed = try #require(list.body["tokens"]?.items.first { $0["id"]?.text == id })
        #expect(listed.keys == fields && listed["last_used_at"]?.isTime == true, "\(listed)")
        #expect(!"\(list.body)".contains(text))

        let plain = try await client.call(.POST, "/api/tokens", "{}")
        #expect(plain.status == 201 && plain.body["scopes"] == .array([.string("read")]), "\(plain)")
        #expect(plain.body["expires_at"] == .null)
        #expect(try await client.call(.DELETE, "/api/tokens/\(id)").status == 200)
        let void = try await other.call(.GET, "/api/tokens/validate")
        #expect(void.status == 401 && void.body == Self.unauthorized)
        try await controlPlane.stop()
    }

    @Test func `a token may do what its scopes say, and else is told with a 403 which one is missing`() async throws {
        let controlPlane = try await TestControlPlane()
        let admin = await controlPlane.client()
        let calls: [(String, HTTPMethod, String, String?, Int)] = [
            ("read", .GET, "/api/containers", nil, 200), ("read", .GET, "/api/agents", nil, 200),
            ("read", .GET, "/api/containers/none", nil, 404),
            ("write", .POST, "/api/containers", #"{"image":"alpine"}"#, 202),
            ("write", .POST, "/api/containers/none/start", nil, 404),
            ("write", .POST, "/api/containers/none/stop", nil, 404),
            ("write", .PATCH, "/api/containers/none", "{}", 404), ("write", .DELETE, "/api/containers/none", nil, 404),
            ("agent", .POST, "/api/agents/register", #"{"name":"x"}"#, 201),
            ("admin", .GET, "/api/audit", nil, 200),
            ("read", .GET, "/api/containers/none/explain", nil, 404),
            ("read", .GET, "/api/containers/none/history", nil, 404),
            ("write", .POST, "/api/containers/none/restore", nil, 404),
            ("write", .POST, "/api/containers/none/keepalive", "{}", 404),
            ("write", .POST, "/api/containers/none/mfa-lock", nil, 404),
            ("write", .POST, "/api/containers/none/mfa-unlock", "{}", 404),
            ("write", .PATCH, "/api/containers/none/settings", "{}", 404),
            ("read", .GET, "/api/agents/none", nil, 404), ("read", .GET, "/api/agents/none/status", nil, 404),
            ("write", .PATCH, "/api/agents/none", "{}", 404), ("write", .DELETE, "/api/agents/none", nil, 404),
            ("agent", .POST, "/api/agents", #"{"name":"y"}"#, 201), ("read", .GET, "/api/tokens", nil, 200),
            ("write", .DELETE, "/api/tokens/none", nil, 404), ("read", .GET, "/api/security/mfa", nil, 200),
            ("write", .POST, "/api/security/mfa", nil, 201),
            ("write", .POST, "/api/security/mfa/verify", "{}", 400), ("read", .GET, "/api/images", nil, 200),
            ("read", .GET, "/api/roles", nil, 200),
        ]
        // A route that is new must be in the list.
        let known = Set(calls.map { "\($0.1) \($0.2.replacing("/none", with: "/{id}"))" })
        let open = [
            "GET /health", "GET /api/version", "GET /openapi.json", "GET /api/profile", "GET /api/tokens/validate",
            // With the one that it may give at most, and with a code.
            "POST /api/tokens", "DELETE /api/security/mfa",
        ]
        #expect(OpenAPICheck.operations.subtracting(known).subtracting(open) == [], "sockets are below")
        for scope in ["read", "write", "agent"] {
            let made = try await admin.call(.POST, "/api/tokens", #"{"scopes":["\#(scope)"]}"#)
            let client = APIClient(port: admin.port, token: try #require(made.text("token")))
            for (needed, method, path, body, status) in calls {
                let answer = try await client.call(method, path, body)
                guard needed != scope else {
                    #expect(answer.status == status, "\(scope), \(method) \(path): \(answer)")
                    continue
                }
                #expect(answer.status == 403 && answer.text("error") == "insufficient permissions", "\(answer)")
                #expect(answer.text("message")?.contains("\"\(needed)\"") == true, "\(scope), \(method) \(path)")
            }
            #expect(try await client.call(.GET, "/api/profile").status == 200)
            for path in ["/ws/events", "/api/containers/events"] where scope != "read" {
                do {
                    _ = try await WebSocketClient.connect(
                        to: try #require(RemoteURL("ws://127.0.0.1:\(admin.port)\(path)")),
                        headers: ["Authorization": "Bearer \(client.token)"], group: TestEnvironment.group)
                    Issue.record("\(scope) listens at \(path)")
                } catch ConnectError.refused(let status, _, _) {
                    #expect(status == 403, "\(scope), \(path)")
                }
            }
        }
        try await controlPlane.stop()
    }

    // MARK: events

    @Test func `an event stream takes its token in three ways, begins with the list, and answers a ping`() async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let id = try #require(try await client.order().text("db_id"))
        try await untilTrue("all is said of it") { try await client.container(id).body["progress"] != nil }
        let token = client.token
        let ways: [(String, HTTPHeaders, String?)] = [
            ("/ws/events", ["Authorization": "Bearer \(token)"], nil), ("/ws/events?token=\(token)", [:], nil),
            ("/ws/events", ["Sec-WebSocket-Protocol": "rexec.token.\(token)"], "rexec.v1"),
            ("/api/containers/events", ["Authorization": "Bearer \(token)"], nil),
        ]
        for (path, headers, subprotocol) in ways {
            let connection = try await WebSocketClient.connect(
                to: try #require(RemoteURL("ws://127.0.0.1:\(client.port)\(path)")), headers: headers,
                subprotocol: subprotocol, group: TestEnvironment.group)
            let heard = Collected()
            _ = try await connection.run { messages, writer in
                try await writer.send(#"{"type":"ping"}"#)
                for try await message in messages {
                    guard case .text(let text) = message else { continue }
                    await heard.add(try JSONCoding.decode(JSONValue.self, from: text))
                    if await heard.all.count == 2 { return }
                }
            }
            let all = await heard.all
            #expect(all.contains(.object(["type": .string("pong")])), "\(path): \(all)")
            let list = try #require(all.first { $0["type"]?.text == "list" }, "\(path)")
            let now = try await client.call(.GET, "/api/containers").body
            #expect(list["data"] == now && list["container"] == now, "\(list)")
            #expect(list["seq"]?.number != nil && list["timestamp"]?.isTime == true)
        }
        do {
            _ = try await WebSocketClient.connect(
                to: try #require(RemoteURL("ws://127.0.0.1:\(client.port)/ws/events?token=wrong")),
                group: TestEnvironment.group)
            Issue.record("a wrong token opened a stream")
        } catch ConnectError.refused(let status, _, _) {
            #expect(status == 401)
        }
        try await controlPlane.stop()
    }

    @Test func `agents that come, work and go are told by events to their owner`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let agent = try await ScriptedAgent(of: client)
        let seen = try await client.events(
            within: 30,
            opened: {
                try await agent.connect()
                try await agent.say(AgentMessage.stats(HostStats(cpuPercent: 1, uptimeSeconds: 5)))
                try await untilTrue("it is heard") {
                    try await client.container("agent:\(agent.id)").body["stats"] != nil
                }
                try await agent.disconnect()
            }, until: { $0["type"]?.text == "agent_disconnected" })
        #expect(
            seen.compactMap { $0["type"]?.text } == ["list", "agent_connected", "agent_stats", "agent_disconnected"])
        #expect(seen.dropFirst().allSatisfy { $0["data"]?["id"]?.text == "agent:\(agent.id)" }, "\(seen)")
        try await controlPlane.stop()
    }

    // MARK: locks

    @Test func `an agent that is locked is not touched without a code, and says so`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let agent = try await ScriptedAgent(of: client)
        let path = "/api/containers/agent:\(agent.id)"
        // Each code is good from the step before it to the one after it, and these two follow each other.
        let step = TOTP.step(at: Date().timeIntervalSince1970)
        let begun = try await client.call(.POST, "/api/security/mfa")
        let key = SymmetricKey(data: try #require(TOTP.bytes(base32: begun.text("secret") ?? "")))
        func code(_ step: Int) -> String {
            let code = TOTP.code(step: step) {
                Array(HMAC<Insecure.SHA1>.authenticationCode(for: $0, using: key))
            }
            return #"{"code":"\#(code)"}"#
        }
        #expect(try await client.call(.POST, "/api/security/mfa/verify", code(step)).status == 200)
        let locked = try await client.call(.POST, path + "/mfa-lock")
        #expect(locked.status == 200 && locked.body["mfa_locked"] == .bool(true), "\(locked)")
        #expect(try await client.call(.GET, path).body["mfa_locked"] == .bool(true))
        let calls: [(HTTPMethod, String, String?)] = [
            (.POST, path + "/start", nil), (.POST, path + "/stop", nil), (.DELETE, path, nil),
            (.PATCH, "/api/agents/\(agent.id)", #"{"name":"b"}"#), (.DELETE, "/api/agents/\(agent.id)", nil),
        ]
        for (method, path, body) in calls {
            let answer = try await client.call(method, path, body)
            #expect(answer.status == 423 && answer.text("error") == "agent is locked", "\(method) \(path): \(answer)")
            #expect(answer.body["mfa_locked"] == .bool(true))
        }
        let unlocked = try await client.call(.POST, path + "/mfa-unlock", code(step + 1))
        #expect(unlocked.status == 200 && unlocked.body["mfa_locked"] == .bool(false), "\(unlocked)")
        #expect(try await client.call(.DELETE, path).status == 200)
        try await controlPlane.stop()
    }
}

// MARK: parts of all tests of what is documented

extension TestControlPlane {
    /// A client of a new user, with a token of these scopes.
    nonisolated func user(
        _ name: String, tier: String, scopes: String = "read,write,agent"
    ) async throws -> APIClient {
        let server = try TestEnvironment.binary("berth-server")
        let made = try await RunningProgram.run(
            server, ["user", "create", "--name", name, "--tier", tier] + databaseFlag)
        #expect(made.status == 0, "\(made.output)")
        let token = try await RunningProgram.run(
            server, ["token", "create", "--user", name, "--scopes", scopes] + databaseFlag)
        #expect(token.status == 0, "\(token.output)")
        return APIClient(port: await port, token: token.output.trimmingCharacters(in: .whitespacesAndNewlines))
    }
}

extension APIClient {
    /// Asks for a container.
    ///
    /// - Parameter more: fields beside the image, as JSON without the braces.
    func order(_ more: String = "", image: String = "alpine") async throws -> Answer {
        let rest = more.isEmpty ? "" : "," + more
        return try await call(.POST, "/api/containers", "{\"image\":\"\(image)\"\(rest)}")
    }

    /// With the headers of the answer, by their names in small letters.
    ///
    /// - Parameter headers: these and no others; nil for those of every other call.
    func send(
        _ method: HTTPMethod, _ path: String, _ body: String? = nil, headers: HTTPHeaders? = nil
    ) async throws -> (answer: Answer, headers: [String: String]) {
        let url = try #require(RemoteURL("http://127.0.0.1:\(port)\(path)"))
        let usual: HTTPHeaders = ["Authorization": "Bearer \(token)", "Content-Type": "application/json"]
        let answer = try await HTTPExchange.send(
            method, url, headers: headers ?? usual, body: body.map { ByteBuffer(string: $0) },
            options: .init(timeout: .seconds(60)), group: TestEnvironment.group)
        let value = try JSONCoding.decode(JSONValue.self, from: answer.body)
        for problem in OpenAPICheck.problems(
            method: method.rawValue, path: path, status: answer.status, body: value)
        {
            Issue.record("not as GET /openapi.json says: \(problem)")
        }
        let named = Dictionary(
            answer.headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first })
        return (Answer(status: answer.status, body: value), named)
    }
}

extension JSONValue {
    /// Names of an object's fields.
    var keys: Set<String> {
        if case .object(let fields) = self { return Set(fields.keys) }
        return []
    }

    /// Of a list.
    var items: [JSONValue] {
        if case .array(let items) = self { return items }
        return []
    }

    /// A moment as RFC 3339 has it, in UTC with microseconds.
    var isTime: Bool {
        let form = /[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z/
        return text?.wholeMatch(of: form) != nil
    }
}
