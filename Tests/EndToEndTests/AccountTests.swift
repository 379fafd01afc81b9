import ControlPlaneCore
import Crypto
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceRuntime
import Synchronization
import Testing
import WebSocketTransport

/// Limits, records and locks around an account, against a control plane without any host.
@Suite struct Accounts {
    @Test func `each class of requests has its limit, with headers and 429`() async throws {
        let controlPlane = try await TestControlPlane { _ in
            [
                "BERTH_CREATES_PER_MINUTE": "3", "BERTH_LISTS_PER_MINUTE": "5", "BERTH_OPERATIONS_PER_MINUTE": "4",
                "BERTH_UNKNOWN_PER_MINUTE": "2",
            ]
        }
        let client = await controlPlane.client()
        func statuses(_ count: Int, _ method: HTTPMethod, _ path: String, _ body: String? = nil) async throws -> [Int] {
            var statuses: [Int] = []
            for _ in 0..<count { statuses.append(try await client.call(method, path, body).status) }
            return statuses
        }
        #expect(
            try await statuses(5, .POST, "/api/containers", #"{"image":"alpine"}"#) == [202, 202, 202, 429, 429])
        #expect(try await statuses(6, .GET, "/api/containers") == [200, 200, 200, 200, 200, 429])
        #expect(try await statuses(5, .POST, "/api/containers/none/stop") == [404, 404, 404, 404, 429])
        let over = try await client.call(.GET, "/api/agents")
        #expect(over.text("error") == "rate limit exceeded", "\(over)")
        let seconds = try #require(over.body["retry_after"]?.number)
        #expect((1...60).contains(seconds))
        let (headers, _) = try await raw(controlPlane, "GET", token: client.token)
        for header in ["Retry-After: \(seconds)", "X-RateLimit-Limit: 5", "X-RateLimit-Remaining: 0"] {
            #expect(headers.contains(header) || header.hasPrefix("Retry-After"), "\(header) in \(headers)")
        }
        #expect(headers.contains("Retry-After: "))
        // Whoever is not known is counted by address, and cannot use up anybody's limit.
        let nobody = APIClient(port: client.port, token: "berth_wrong")
        for expected in [401, 401, 429] { #expect(try await nobody.call(.GET, "/api/containers").status == expected) }
        do {
            _ = try await WebSocketClient.connect(
                to: try #require(RemoteURL("ws://127.0.0.1:\(client.port)/ws/events")),
                headers: ["Authorization": "Bearer wrong"], group: TestEnvironment.group)
            Issue.record("connected")
        } catch ConnectError.refused(let status, let retryAfter, _) {
            #expect(status == 429 && retryAfter != nil, "handshakes count too")
        }
        try await controlPlane.stop()
    }

    @Test
    func `nobody uses up another's limit: not an agent its owner's, and who revokes a token has a count of their own`()
        async throws
    {
        let controlPlane = try await TestControlPlane { _ in ["BERTH_OPERATIONS_PER_MINUTE": "3"] }
        let client = await controlPlane.client()
        let agent = try await client.call(.POST, "/api/agents/register", #"{"name":"one"}"#)
        let own = APIClient(port: client.port, token: try #require(agent.text("token")))
        var statuses: [Int] = []
        for _ in 0..<5 { statuses.append(try await own.call(.POST, "/api/containers/x/stop").status) }
        #expect(statuses == [403, 403, 403, 429, 429])
        let made = try await client.call(.POST, "/api/tokens", #"{"scopes":["write"],"expires_in":1}"#)
        let stolen = APIClient(port: client.port, token: try #require(made.text("token")))
        let made2 = try await stolen.call(.POST, "/api/tokens", #"{"scopes":["write"]}"#)
        #expect(
            made2.text("expires_at") == made.text("expires_at"), "a token makes none that outlives it: \(made2)")
        #expect(try await stolen.call(.POST, "/api/containers/x/stop").status == 429)
        #expect(try await client.call(.DELETE, "/api/tokens/\(try #require(made.text("id")))").status == 200)
        #expect(try await stolen.call(.GET, "/api/containers").status == 401)
        try await controlPlane.stop()
    }

    /// Head and body as they came.
    private func raw(
        _ controlPlane: TestControlPlane, _ method: String, _ path: String = "/api/containers", token: String,
        headers: [String] = [], body: String = ""
    ) async throws -> (String, String) {
        var arguments = [
            "-sS", "-i", "-X", method, "-H", "Authorization: Bearer \(token)",
            "http://127.0.0.1:\(await controlPlane.port)\(path)",
        ]
        for header in headers { arguments += ["-H", header] }
        if !body.isEmpty { arguments += ["--data-binary", body] }
        let result = try await RunningProgram.run("/usr/bin/curl", arguments)
        #expect(result.status == 0, "\(result.output)")
        let parts = result.output.components(separatedBy: "\r\n\r\n")
        return (parts[0], parts.dropFirst().joined())
    }

    @Test func `a body is JSON, said to be JSON, and means one thing`() async throws {
        let controlPlane = try await TestControlPlane()
        let token = await controlPlane.token
        func status(_ type: String?, _ body: String) async throws -> (Substring, String) {
            let (head, answer) = try await raw(
                controlPlane, "POST", token: token, headers: [type.map { "Content-Type: \($0)" } ?? "Content-Type:"],
                body: body)
            return (head.split(separator: " ")[1], answer)
        }
        let good = #"{"image":"alpine"}"#
        for type in ["application/json", "application/json; charset=UTF-8", "Application/JSON", nil] {
            #expect(try await status(type, good).0 == "202", "\(type ?? "none")")
        }
        for type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "xml"] {
            let (code, answer) = try await status(type, good)
            #expect(code == "415" && answer.contains("unsupported media type"), "\(type): \(answer)")
        }
        let (code, answer) = try await status(
            "application/json", #"{"image":"alpine","memory_mb":300,"memory_mb":400}"#)
        #expect(code == "400" && answer.contains("memory_mb"), "\(answer)")
        #expect(try await status("application/json", #"{"image":NaN}"#).0 == "400")
        try await controlPlane.stop()
    }

    @Test func `what was done is kept: by whom, with which token, from where, and what came of it`() async throws {
        let controlPlane = try await TestControlPlane { _ in ["BERTH_TRUSTED_PROXIES": "127.0.0.1"] }
        let client = await controlPlane.client()
        let made = try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"a"}"#)
        let id = try #require(made.text("db_id"))
        _ = try await raw(
            controlPlane, "DELETE", "/api/containers/\(id)", token: client.token,
            headers: ["X-Forwarded-For: 6.6.6.6, 203.0.113.5"])
        #expect(try await client.call(.POST, "/api/containers", #"{"image":"windows"}"#).status == 400)
        let audit = try await client.call(.GET, "/api/audit")
        guard audit.status == 200, case .array(let entries)? = audit.body["entries"] else {
            Issue.record("\(audit)")
            return
        }
        #expect(
            entries.map { $0["status"]?.number } == [400, 200, 202]
                && entries.allSatisfy { $0["username"]?.text == "admin" && $0["token_id"]?.text?.isEmpty == false },
            "\(entries)")
        #expect(entries[2]["object"]?.text == id, "what it has made: \(entries[2])")
        #expect(entries[1]["object"]?.text == id && entries[1]["action"]?.text == "DELETE /api/containers/{id}")
        #expect(entries[1]["address"]?.text == "203.0.113.5", "the proxy's word, not the client's: \(entries[1])")
        let first = try #require(entries.last?["number"]?.number)
        let page = try await client.call(.GET, "/api/audit?limit=1&before=\(first + 1)")
        #expect(page.body["count"] == .integer(1) && page.body["entries"] == .array([entries[2]]))
        #expect(try await client.call(.GET, "/api/audit?limit=0").status == 400)
        let token = try await client.call(.POST, "/api/tokens", #"{"scopes":["read"]}"#)
        let agent = try await client.call(.POST, "/api/agents/register", #"{"name":"one"}"#)
        let command = try await RunningProgram.run(
            try TestEnvironment.binary("berth-server"),
            ["user", "set-tier", "--name", "admin", "--tier", "pro"] + controlPlane.databaseFlag)
        #expect(command.status == 0, "\(command)")
        let later = try await client.call(.GET, "/api/audit?limit=3").body["entries"]
        guard case .array(let newest)? = later else {
            Issue.record("\(String(describing: later))")
            return
        }
        #expect(
            newest.map { $0["object"]?.text } == [
                "admin pro", agent.text("id").map { "agent:\($0)" }, token.text("id"),
            ], "\(newest)")
        #expect(newest[0]["action"]?.text == "berth-server user set-tier" && newest[0]["token_id"]?.text == "command")
        #expect(try await client.call(.GET, "/api/audit?user=nobody").body["count"] == .integer(0))
        try await controlPlane.stop()
    }

    private func code(_ secret: String, step offset: Int = 0) throws -> String {
        let key = SymmetricKey(data: try #require(TOTP.bytes(base32: secret)))
        return TOTP.code(step: TOTP.step(at: Date().timeIntervalSince1970) + offset) {
            Array(HMAC<Insecure.SHA1>.authenticationCode(for: $0, using: key))
        }
    }

    @Test func `a locked container is not touched without a code, and a code is good once`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let id = try #require(
            try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"a"}"#).text("db_id"))
        #expect(
            try await client.call(.POST, "/api/containers/\(id)/mfa-lock").status == 409, "nothing to unlock it with")
        // All of it within one step of the codes: the server takes the one before, and no earlier one.
        let into = Date().timeIntervalSince1970.truncatingRemainder(dividingBy: 30)
        if into > 15 { try await Task.sleep(for: .seconds(30.5 - into)) }
        let begun = try await client.call(.POST, "/api/security/mfa")
        let secret = try #require(begun.text("secret"), "\(begun)")
        #expect(begun.status == 201 && begun.text("otpauth_url")?.contains(secret) == true)
        #expect(try await client.call(.POST, "/api/containers/\(id)/mfa-lock").status == 409, "not confirmed yet")
        #expect(
            try await client.call(.POST, "/api/security/mfa/verify", #"{"code":"\#(try code(secret, step: -1))"}"#)
                .status == 200)
        #expect(try await client.call(.POST, "/api/security/mfa").status == 409, "not replaced without a code")

        #expect(try await client.call(.POST, "/api/containers/\(id)/mfa-lock").body["mfa_locked"] == .bool(true))
        #expect(try await client.container(id).body["mfa_locked"] == .bool(true))
        for (method, path, body) in [
            (HTTPMethod.POST, "/start", nil), (.POST, "/stop", nil), (.PATCH, "", #"{"name":"b"}"#), (.DELETE, "", nil),
        ] as [(HTTPMethod, String, String?)] {
            let answer = try await client.call(method, "/api/containers/\(id)\(path)", body)
            #expect(answer.status == 423 && answer.body["mfa_locked"] == .bool(true), "\(method) \(path): \(answer)")
        }
        #expect(try await client.container(id).text("name") == "a")
        let unlock = "/api/containers/\(id)/mfa-unlock"
        #expect(try await client.call(.POST, unlock).status == 400)
        #expect(
            try await client.call(.POST, unlock, #"{"code":"\#(try code(secret, step: -1))"}"#).status == 403, "used")
        let now = try code(secret)
        let wrong = now == "000000" ? "000001" : "000000"
        #expect(try await client.call(.POST, unlock, #"{"code":"\#(wrong)"}"#).status == 403)
        #expect(try await client.call(.POST, unlock, #"{"code":"\#(now)"}"#).body["mfa_locked"] == .bool(false))
        #expect(try await client.call(.PATCH, "/api/containers/\(id)", #"{"name":"b"}"#).status == 202)
        // A fifth and sixth guess within a minute are not looked at.
        var last = 0
        for _ in 0..<4 { last = try await client.call(.POST, unlock, #"{"code":"\#(wrong)"}"#).status }
        #expect(last == 429)
        try await controlPlane.stop()
    }

    /// How a stream of a new token ends, and how soon, once `revoke` is through with the token's id.
    private func stream(
        of admin: APIClient, revoked revoke: @escaping @Sendable (_ id: String) async throws -> Void
    ) async throws -> (closure: WebSocketClosure, after: Duration) {
        let made = try await admin.call(.POST, "/api/tokens", #"{"name":"t","scopes":["read"]}"#)
        let (id, text) = (try #require(made.text("id")), try #require(made.text("token")))
        let connection = try await WebSocketClient.connect(
            to: try #require(RemoteURL("ws://127.0.0.1:\(admin.port)/ws/events")),
            headers: ["Authorization": "Bearer \(text)"], group: TestEnvironment.group)
        let passed = Mutex(Duration.zero)
        let closure = try await connection.run { messages, _ in
            var iterator = messages.makeAsyncIterator()
            _ = try await iterator.next()
            try await revoke(id)
            let start = ContinuousClock.now
            while try await iterator.next() != nil {}
            passed.withLock { $0 = start.duration(to: .now) }
        }
        return (closure, passed.withLock { $0 })
    }

    @Test func `a revoked token ends the event streams that were opened with it, at once`() async throws {
        let controlPlane = try await TestControlPlane()
        let admin = await controlPlane.client()
        let ended = try await stream(of: admin) { id in
            let revoked = try await admin.call(.DELETE, "/api/tokens/\(id)")
            #expect(revoked.status == 200)
        }
        #expect(ended.closure.code == 4401 && ended.after < .seconds(5), "\(ended)")
        try await controlPlane.stop()
    }

    @Test func `no text of a token is in the database`() async throws {
        let controlPlane = try await TestControlPlane()
        let admin = await controlPlane.client()
        let made = try await admin.call(.POST, "/api/tokens", #"{"scopes":["read"]}"#)
        let agent = try await admin.call(.POST, "/api/agents/register", #"{"name":"one"}"#)
        let texts = [admin.token, try #require(made.text("token")), try #require(agent.text("token"))]
        #expect(try await APIClient(port: admin.port, token: texts[1]).call(.GET, "/api/profile").status == 200)
        var holdsHash = false
        // The database, its log, and whatever else is beside it but the file that the first one was written to.
        for file in try FileManager.default.contentsOfDirectory(atPath: controlPlane.folder.path)
        where file != "admin-token" {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: controlPlane.folder.file(file)))
            for text in texts {
                #expect(bytes.range(of: Data(text.dropFirst(12).utf8)) == nil, "\(file)")
            }
            let hash = SHA256.hash(data: Data(texts[1].utf8)).map { String(format: "%02x", $0) }.joined()
            holdsHash = holdsHash || bytes.range(of: Data(hash.utf8)) != nil
        }
        // PostgreSQL's files are elsewhere; there it is the programs' logs that were looked at.
        #expect(holdsHash == controlPlane.databaseFlag[1].hasPrefix("sqlite:"))
        try await controlPlane.stop()
    }

    @Test func `a token that another program revokes ends its event streams as well`() async throws {
        let controlPlane = try await TestControlPlane()
        let ended = try await stream(of: await controlPlane.client()) { id in
            let revoked = try await RunningProgram.run(
                try TestEnvironment.binary("berth-server"),
                ["token", "revoke", "--user", "admin", id] + controlPlane.databaseFlag)
            #expect(revoked.status == 0, "\(revoked)")
        }
        // Far below the 30 s after which each stream looks by itself.
        #expect(ended.closure.code == 4401 && ended.after < .seconds(10), "\(ended)")
        try await controlPlane.stop()
    }

    @Test func `a user has so many event streams and no more, and none takes more than a ping`() async throws {
        let controlPlane = try await TestControlPlane { _ in ["BERTH_EVENT_STREAMS_PER_USER": "2"] }
        let admin = await controlPlane.client()
        let other = try await controlPlane.user("ada", tier: "pro")
        func connect(_ client: APIClient) async throws -> WebSocketConnection {
            try await WebSocketClient.connect(
                to: try #require(RemoteURL("ws://127.0.0.1:\(client.port)/ws/events")),
                headers: ["Authorization": "Bearer \(client.token)"], group: TestEnvironment.group)
        }
        let flood = String(repeating: "x", count: 5000)
        let closures = try await withThrowingTaskGroup(of: WebSocketClosure.self) { group in
            let (opened, ready) = AsyncStream.makeStream(of: Void.self)
            let (full, release) = AsyncStream.makeStream(of: Void.self)
            for _ in 1...2 {
                let connection = try await connect(admin)
                group.addTask {
                    try await connection.run { messages, writer in
                        var iterator = messages.makeAsyncIterator()
                        _ = try await iterator.next()
                        ready.yield()
                        for await _ in full { break }
                        try await writer.send(flood)
                        while try await iterator.next() != nil {}
                    }
                }
            }
            var waiting = opened.makeAsyncIterator()
            for _ in 1...2 { await waiting.next() }
            do {
                _ = try await connect(admin)
                Issue.record("a third stream")
            } catch ConnectError.refused(let status, let retryAfter, _) {
                #expect(status == 429 && retryAfter == 30)
            }
            // Another user is no worse off.
            let theirs = try await connect(other)
            _ = try await theirs.run { _, writer in await writer.close() }
            release.finish()
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(closures.map(\.code) == [1009, 1009], "\(closures)")
        // What has ended makes room.
        try await untilTrue("a new one is let in", within: 10) {
            guard let again = try? await connect(admin) else { return false }
            _ = try await again.run { _, writer in await writer.close() }
            return true
        }
        try await controlPlane.stop()
    }

    @Test func `catalogues, macOS, and an agent's name`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        guard case .array(let images)? = try await client.call(.GET, "/api/images").body["images"],
            case .array(let roles)? = try await client.call(.GET, "/api/roles").body["roles"]
        else {
            Issue.record("no catalogues")
            return
        }
        #expect(
            images.contains { $0["name"]?.text == "debian:bookworm" && $0["aliases"] == .array([.string("debian")]) })
        #expect(roles.compactMap { $0["name"]?.text } == ["node", "python", "go", "rust", "devops", "barebone"])
        // An administrator may, and no host can.
        let mac = try await client.call(.POST, "/api/containers", #"{"image":"macos"}"#)
        #expect(mac.status == 400 && mac.text("message")?.contains("macos") == true, "\(mac)")
        let server = try TestEnvironment.binary("berth-server")
        _ = try await RunningProgram.run(
            server, ["user", "create", "--name", "free", "--json"] + controlPlane.databaseFlag)
        let token = try await RunningProgram.run(
            server, ["token", "create", "--user", "free"] + controlPlane.databaseFlag)
        let free = APIClient(port: client.port, token: token.output.trimmingCharacters(in: .whitespacesAndNewlines))
        #expect(try await free.call(.POST, "/api/containers", #"{"image":"macos-legacy"}"#).status == 403)
        #expect(try await free.call(.GET, "/api/audit").status == 403)

        let agent = try await client.call(.POST, "/api/agents/register", #"{"name":"one","tags":["a"]}"#)
        let id = try #require(agent.text("id"))
        let changed = try await client.call(.PATCH, "/api/agents/\(id)", #"{"name":"two","description":"d"}"#)
        #expect(
            changed.status == 200 && changed.text("name") == "two" && changed.text("description") == "d"
                && changed.body["tags"] == .array([.string("a")]), "\(changed)")
        #expect(try await client.call(.PATCH, "/api/agents/\(id)", #"{"name":""}"#).status == 400)
        #expect(try await free.call(.PATCH, "/api/agents/\(id)", #"{"name":"x"}"#).status == 404)
        try await controlPlane.stop()
    }

    @Test func `an agent of the reference product is listed with what it says, given nothing, and sent away`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let agent = try await client.call(.POST, "/api/agents/register", #"{"name":"old"}"#)
        let (id, token) = (try #require(agent.text("id")), try #require(agent.text("token")))
        func connect(_ token: String, _ id: String) async throws -> WebSocketConnection {
            try await WebSocketClient.connect(
                to: try #require(RemoteURL("ws://127.0.0.1:\(client.port)/ws/agent/\(id)")),
                headers: ["Authorization": "Bearer \(token)"], group: TestEnvironment.group)
        }
        for (token, id, status) in [
            ("wrong", id, 401), (client.token, id, 403), (token, "00000000-0000-4000-8000-000000000000", 404),
        ] {
            do {
                _ = try await connect(token, id)
                Issue.record("connected")
            } catch ConnectError.refused(let found, _, _) {
                #expect(found == status)
            }
        }
        @Sendable func entry() async throws -> JSONValue {
            try await client.call(.GET, "/api/containers/agent:\(id)").body
        }
        let closure = try await connect(token, id).run { messages, writer in
            try await writer.send(
                #"{"type":"system_info","data":{"hostname":"box","os":"linux","arch":"arm64","num_cpu":4,"memory_total":8589934592}}"#
            )
            try await writer.send(#"{"type":"stats","data":{"cpu_percent":12.5,"memory":1000,"memory_limit":2000}}"#)
            try await writer.send(#"{"type":"shell_output","data":"whatever"}"#)
            try await writer.send("no json")
            try await untilTrue("it is listed with what it says", within: 10) {
                let entry = try await entry()
                return entry["status"]?.text == "online" && entry["hostname"]?.text == "box"
                    && entry["stats"]?["memory"] == .integer(1000)
            }
            #expect(try await entry()["resources"]?["memory_mb"] == .integer(8192))
            // Nothing is placed on it.
            let made = try await client.call(.POST, "/api/containers", #"{"image":"alpine","agent":"agent:\#(id)"}"#)
            let waiting = try await client.container(try #require(made.text("db_id")))
            #expect(waiting.body["agent"] == nil && waiting.text("message")?.contains("runtime") == true, "\(waiting)")
            #expect(try await client.call(.POST, "/api/containers/agent:\(id)/stop").status == 200)
            for try await message in messages {
                if case .text(let text) = message { #expect(!text.contains("desired"), "\(text)") }
            }
        }
        #expect(closure.code == 1000, "\(closure)")
        #expect(try await entry()["status"]?.text == "offline")
        try await controlPlane.stop()
    }
}
