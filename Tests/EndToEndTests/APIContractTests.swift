import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceRuntime
import Testing

/// What the reference documents, against a control plane without any host: every answer here is its own.
@Suite struct APIContract {
    private func user(_ name: String, tier: String, _ controlPlane: TestControlPlane, scopes: String = "read,write")
        async throws -> APIClient
    {
        let server = try TestEnvironment.binary("berth-server")
        let made = try await RunningProgram.run(
            server, ["user", "create", "--name", name, "--tier", tier, "--json"] + controlPlane.databaseFlag)
        #expect(made.status == 0, "\(made.output)")
        let token = try await RunningProgram.run(
            server, ["token", "create", "--user", name, "--scopes", scopes, "--json"] + controlPlane.databaseFlag)
        let text = try #require(try JSONCoding.decode(JSONValue.self, from: token.output)["token"]?.text)
        return APIClient(port: await controlPlane.port, token: text)
    }

    @Test func `create answers 202 with every documented field, and the list shows it`() async throws {
        let controlPlane = try await TestControlPlane()
        let free = try await user("free", tier: "free", controlPlane)
        let answer = try await free.call(
            .POST, "/api/containers",
            #"{"image":"ubuntu:24.04","name":"dev-environment","role":"node","memory_mb":1024,"cpu_shares":99999,"shell":{"enhanced":true},"colour":1}"#
        )
        #expect(answer.status == 202, "\(answer)")
        #expect(
            answer.body["id"] == answer.body["db_id"] && answer.text("status") == "creating"
                && answer.body["async"] == .bool(true))
        #expect(
            answer.text("user_id")?.hasPrefix("usr_") == true && answer.text("role") == "node"
                && answer.text("image") == "ubuntu:24.04")
        #expect(
            answer.body["resources"]
                == .object(["memory_mb": .integer(1024), "cpu_shares": .integer(2000), "disk_mb": .integer(10240)]))
        #expect(answer.body["session_limit_seconds"] == .integer(180_000) && answer.text("expires_at") != nil)
        guard case .array(let warnings)? = answer.body["warnings"] else {
            Issue.record("warnings are missing")
            return
        }
        #expect(warnings.contains(.string("colour: unknown field, ignored")))
        let list = try await free.call(.GET, "/api/containers")
        #expect(list.status == 200 && list.body["count"] == .integer(1) && list.body["limit"] == .integer(5))
        let entry = try #require(try await free.entries().first)
        for field in [
            "id", "db_id", "user_id", "name", "image", "role", "status", "created_at", "last_used_at", "idle_seconds",
            "mfa_locked", "resources",
        ] {
            #expect(entry[field] != nil, "\(field)")
        }
        let id = try #require(answer.text("db_id"))
        for path in [id, String(id.prefix(12))] {
            #expect(try await free.container(path).text("name") == "dev-environment")
        }
        // Without a host everything is accepted and told as it is.
        #expect(try await free.call(.PATCH, "/api/containers/\(id)", #"{"name":"renamed"}"#).status == 202)
        #expect(try await free.call(.POST, "/api/containers/\(id)/stop").status == 200)
        #expect(try await free.container(id).text("name") == "renamed")
        let deleted = try await free.call(.DELETE, "/api/containers/\(id)")
        #expect(
            deleted.status == 200 && deleted.body["db_id"] == .string(id)
                && deleted.text("message") == "container deleted")
        #expect(try await free.container(id).status == 404)
        let empty = try await free.call(.GET, "/api/containers")
        #expect(empty.body["containers"] == .array([]))
        try await controlPlane.stop()
    }

    @Test func `limits, names and images are refused as documented`() async throws {
        let controlPlane = try await TestControlPlane()
        let guest = try await user("guest", tier: "guest", controlPlane)
        let image = try await guest.call(.POST, "/api/containers", #"{"image":"windows"}"#)
        #expect(image.status == 400 && image.text("error") == "unsupported image type")
        #expect(
            image.body["supported_images"]
                == .array(
                    ["ubuntu:24.04", "debian:bookworm", "alpine:latest", "archlinux:latest", "custom"].map {
                        .string($0)
                    }))
        let first = try await guest.call(.POST, "/api/containers", #"{"image":"alpine"}"#)
        #expect(first.status == 202 && first.text("name")?.isEmpty == false)
        let over = try await guest.call(.POST, "/api/containers", #"{"image":"alpine"}"#)
        #expect(
            over.status == 403 && over.text("error") == "container limit reached" && over.text("tier") == "guest",
            "\(over)")
        #expect(over.body["current"] == .integer(1) && over.body["limit"] == .integer(1))
        let pro = try await user("pro", tier: "pro", controlPlane)
        #expect(try await pro.call(.POST, "/api/containers", #"{"image":"alpine","name":"x"}"#).status == 202)
        let taken = try await pro.call(.POST, "/api/containers", #"{"image":"alpine","name":"x"}"#)
        #expect(taken.status == 409 && taken.text("error") == "container name already exists")
        // Another user's container does not exist, for whatever is asked.
        let id = try #require(first.text("db_id"))
        for (method, path, body) in [
            (HTTPMethod.GET, "", nil), (.POST, "/start", nil), (.POST, "/stop", nil), (.PATCH, "", "{}"),
            (.DELETE, "", nil),
        ] as [(HTTPMethod, String, String?)] {
            let answer = try await pro.call(method, "/api/containers/\(id)\(path)", body)
            #expect(answer.status == 404 && answer.text("error") == "container not found", "\(method) \(path)")
        }
        try await controlPlane.stop()
    }

    @Test func `bad input is a 400 that names field, value and range`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        func create(_ fields: String) async throws -> APIClient.Answer {
            try await client.call(.POST, "/api/containers", "{\"image\":\"alpine\"\(fields)}")
        }
        for (fields, field) in [
            (#","memory_mb":255"#, "memory_mb"), (#","memory_mb":-1"#, "memory_mb"),
            (#","memory_mb":300.5"#, "memory_mb"),
            (#","memory_mb":"512""#, "memory_mb"), (#","memory_mb":99999999999999999999999"#, "memory_mb"),
            (#","cpu_shares":1"#, "cpu_shares"), (#","cpu_shares":true"#, "cpu_shares"), (#","disk_mb":[]"#, "disk_mb"),
            (#","name":"a b""#, "name"), (#","name":5"#, "name"), (#","role":"wizard""#, "role"),
            (#","runtime":"kata""#, "runtime"),
            (#","command":"ls""#, "command"), (#","environment":{"A":1}"#, "environment"),
            (#","agent":"agent:../x""#, "agent"),
            (#","idempotency_key":"\#(String(repeating: "k", count: 256))""#, "idempotency_key"),
        ] {
            let answer = try await create(fields)
            #expect(
                answer.status == 400 && answer.text("field") == field && answer.text("error")?.contains(field) == true,
                "\(fields): \(answer)")
        }
        for fields in [#","labels":{"berth.agent":"x"}"#, #","environment":{"":"x"}"#, #","environment":{"A=B":"x"}"#] {
            #expect(try await create(fields).status == 400, "\(fields)")
        }
        for body in ["", "[]", "null", "{", "\"text\"", "\u{0}", String(repeating: "[", count: 100_000)] {
            #expect(try await client.call(.POST, "/api/containers", body).status == 400, "\(body.prefix(20))")
        }
        for reference in ["", "UPPER", "a b", "../x"] {
            #expect(
                try await client.call(.POST, "/api/containers", #"{"image":"custom","custom_image":"\#(reference)"}"#)
                    .status == 400)
        }
        let large = try await client.call(
            .POST, "/api/containers", #"{"image":"\#(String(repeating: "x", count: 1_100_000))"}"#)
        #expect(large.status == 413 && large.text("error") != nil, "\(large)")
        for path in [
            "/api/containers/%00", "/api/containers/..%2f..", "/api/containers/'%20OR%201=1",
            "/api/containers/agent:nope", "/api/nothing", "/",
        ] {
            let answer = try await client.call(.GET, path)
            #expect([400, 404].contains(answer.status) && answer.text("error") != nil, "\(path): \(answer)")
        }
        try await controlPlane.stop()
    }

    @Test func `no token, a wrong one, and one without the scope`() async throws {
        let controlPlane = try await TestControlPlane()
        let reader = try await user("reader", tier: "pro", controlPlane, scopes: "read")
        let nobody = APIClient(port: await controlPlane.port, token: "berth_" + String(repeating: "0", count: 64))
        for path in ["/api/containers", "/api/agents", "/api/profile", "/api/tokens/validate"] {
            let answer = try await nobody.call(.GET, path)
            #expect(answer.status == 401 && answer.text("error") == "unauthorized")
            #expect(try await reader.call(.GET, path).status == 200)
        }
        #expect(try await reader.call(.POST, "/api/containers", #"{"image":"alpine"}"#).status == 403)
        #expect(try await reader.call(.POST, "/api/agents/register", #"{"name":"x"}"#).status == 403)
        #expect(try await reader.call(.POST, "/api/tokens", #"{"scopes":["admin"]}"#).status == 403)
        for path in ["/health", "/api/version"] { #expect(try await nobody.call(.GET, path).status == 200) }

        // Revoked tokens fail at once.
        let admin = await controlPlane.client()
        let made = try await admin.call(.POST, "/api/tokens", #"{"name":"t","scopes":["read"],"expires_in":1}"#)
        #expect(made.status == 201, "\(made)")
        let short = APIClient(port: await controlPlane.port, token: try #require(made.text("token")))
        #expect(try await short.call(.GET, "/api/containers").status == 200)
        #expect(try await admin.call(.DELETE, "/api/tokens/\(try #require(made.text("id")))").status == 200)
        #expect(try await short.call(.GET, "/api/containers").status == 401)
        try await controlPlane.stop()
    }

    @Test func `a list is never older than the last change, whoever made it`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let command = try TestEnvironment.binary("berth-server")
        func limit() async throws -> Int? { try await client.call(.GET, "/api/containers").body["limit"]?.number }
        for round in 0..<20 {
            let made = try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"a\#(round)"}"#)
            let id = try #require(made.text("db_id"))
            #expect(try await client.entries().map { $0["name"]?.text } == ["a\(round)"])
            #expect(try await client.call(.PATCH, "/api/containers/\(id)", #"{"name":"b"}"#).status == 202)
            #expect(try await client.entries().map { $0["name"]?.text } == ["b"])
            #expect(try await client.call(.DELETE, "/api/containers/\(id)").status == 200)
            #expect(try await client.entries().isEmpty)
        }
        // By another program, of which the server hears nothing.
        for (tier, number) in [("pro", 10), ("free", 5), ("enterprise", 25)] {
            let result = try await RunningProgram.run(
                command, ["user", "set-tier", "--name", "admin", "--tier", tier] + controlPlane.databaseFlag)
            #expect(result.status == 0, "\(result.output)")
            #expect(try await limit() == number)
        }
        let made = try await client.call(.POST, "/api/tokens", #"{"scopes":["read"]}"#)
        let other = APIClient(port: client.port, token: try #require(made.text("token")))
        #expect(try await other.call(.GET, "/api/containers").status == 200)
        let revoked = try await RunningProgram.run(
            command,
            ["token", "revoke", "--user", "admin", try #require(made.text("id"))] + controlPlane.databaseFlag)
        #expect(revoked.status == 0, "\(revoked.output)")
        #expect(try await other.call(.GET, "/api/containers").status == 401)
        try await controlPlane.stop()
    }

    @Test func `events start with a list, and can be replayed from a sequence`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let seen = try await client.events(
            within: 20,
            opened: {
                _ = try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"one"}"#)
            }, until: { $0["type"]?.text == "container_progress" })
        #expect(seen.map { $0["type"]?.text } == ["list", "container_created", "container_progress"])
        #expect(seen[1]["data"] == seen[1]["container"] && seen[1]["timestamp"] != nil)
        #expect(seen[2]["data"]?["stage"]?.text == "validating")
        let nobody = APIClient(port: client.port, token: "wrong")
        await #expect(throws: (any Error).self) { try await nobody.events(within: 5, opened: {}, until: { _ in true }) }
        try await controlPlane.stop()
    }

    @Test func `an event stream starts with a list whatever it asks to replay`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        // On a new PostgreSQL numbers begin at 1, which is no old one there.
        let old = controlPlane.database.hasPrefix("sqlite:") ? ["1"] : []
        for after in ["0", "-5", "99999999999999999", "x"] + old {
            let first = try await client.events(within: 10, after: after, opened: {}, until: { _ in true })
            #expect(first.first?["type"]?.text == "list", "after=\(after)")
        }
        // What is still known is replayed, in order, without a list.
        let seen = try await client.events(
            within: 20,
            opened: {
                for name in ["a", "b"] {
                    _ = try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"\#(name)"}"#)
                }
            }, until: { $0["data"]?["name"]?.text == "b" })
        let created = try #require(seen.first { $0["type"]?.text == "container_created" }?["seq"]?.number)
        let replayed = try await client.events(
            within: 10, after: String(created), opened: {}, until: { $0["data"]?["name"]?.text == "b" })
        #expect(replayed.map { $0["type"]?.text } == ["container_progress", "container_created"])
        try await controlPlane.stop()
    }

    @Test func `the server ends although clients hold connections`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let opened = Collected()
        let stream = Task {
            try await client.events(within: 60, opened: { await opened.add(.null) }, until: { _ in false })
        }
        try await untilTrue("the stream is open") { await opened.all.count == 1 }
        // A connection that is kept alive, and one that has said nothing yet.
        let kept = try await ClientBootstrap(group: TestEnvironment.group).connect(host: "127.0.0.1", port: client.port)
            .get()
        try await kept.writeAndFlush(ByteBuffer(string: "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))
        let silent = try await ClientBootstrap(group: TestEnvironment.group).connect(
            host: "127.0.0.1", port: client.port
        ).get()
        try await Task.sleep(for: .milliseconds(200))
        let program = try #require(await controlPlane.program)
        kill(program.pid, SIGTERM)
        #expect(try await program.ended(within: 8) == 0)
        stream.cancel()
        _ = await stream.result
        try? await kept.close()
        try? await silent.close()
    }

    @Test func `an idempotency key makes one container, and is free again when that is deleted`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        func create() async throws -> String? {
            try await client.call(.POST, "/api/containers", #"{"image":"alpine","idempotency_key":"k"}"#).text("db_id")
        }
        let first = try #require(try await create())
        #expect(try await create() == first)
        #expect(try await client.call(.DELETE, "/api/containers/\(first)").status == 200)
        let second = try #require(try await create())
        #expect(second != first)
        #expect(try await client.container(second).status == 200)
        let large = String(repeating: "x", count: 40_000)
        let answer = try await client.call(
            .POST, "/api/containers", #"{"image":"alpine","environment":{"A":"\#(large)"}}"#)
        #expect(answer.status == 400, "\(answer.status)")
        try await controlPlane.stop()
    }
}
