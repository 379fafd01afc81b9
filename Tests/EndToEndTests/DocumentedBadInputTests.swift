import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// Fields that are out of their range or of another type. Of each a 400 says which field, what was found and what is
/// expected.
@Suite struct DocumentedBadInput {
    private static let fields: [(HTTPMethod, String, field: String, bad: [String])] = [
        (.POST, "/api/tokens", "name", [#""""#, "1", "\"\(String(repeating: "x", count: 129))\""]),
        (.POST, "/api/tokens", "scopes", ["[]", #""read""#, #"["read","root"]"#, "[1]", #"["read\u0000"]"#]),
        (.POST, "/api/tokens", "expires_in", ["0", "-1", "3651", "1.5", #""30""#, "1e30", "true"]),
        (.POST, "/api/agents/register", "name", ["null", #""""#, "7", "\"\(String(repeating: "ä", count: 33))\""]),
        (.POST, "/api/agents/register", "description", ["[]", "\"\(String(repeating: "x", count: 2001))\""]),
        (.POST, "/api/agents/register", "hostname", ["{}", "\"\(String(repeating: "x", count: 256))\""]),
        (.POST, "/api/agents/register", "os", ["1", "\"\(String(repeating: "x", count: 65))\""]),
        (
            .POST, "/api/agents/register", "tags",
            [#"[""]"#, #""a""#, "[\(Array(repeating: "\"t\"", count: 33).joined(separator: ","))]"]
        ),
        (.POST, "/api/containers", "image", [#""""#, "null", "1", "[]"]),
        (.POST, "/api/containers", "name", [#""a b""#, #""a_b""#, "\"\(String(repeating: "x", count: 65))\"", "1"]),
        (.POST, "/api/containers", "role", [#""cook""#, "1"]),
        (.POST, "/api/containers", "runtime", [#""kata""#, "1"]),
        (.POST, "/api/containers", "pull", [#""sometimes""#, "1"]),
        (.POST, "/api/containers", "memory_mb", ["255", "-1", "0", "512.5", #""512""#, "true"]),
        (.POST, "/api/containers", "cpu_shares", ["249", "-1", "0.5", "[]"]),
        (.POST, "/api/containers", "disk_mb", ["1023", "-1", "1e-3", "{}"]),
        (.POST, "/api/containers", "egress_kbps", ["63", "-1", "10000001", "64.5", #""64""#]),
        (.POST, "/api/containers", "ingress_kbps", ["63", "-1", "10000001", "[64]"]),
        (.POST, "/api/containers", "volume_mb", ["63", "-1", "16777217", "false"]),
        (.POST, "/api/containers", "idle_timeout_seconds", ["119", "-1", "31536001", "1.5", #""never""#]),
        (.POST, "/api/containers", "environment", [#"{"A=B":"1"}"#, #"{"":"1"}"#, #"{"A":1}"#, "[]"]),
        (.POST, "/api/containers", "labels", [#"{"berth.x":"1"}"#, #"{"":"1"}"#, #"{"a":null}"#, "1"]),
        (.POST, "/api/containers", "command", [#""ls""#, "[1]", #"["a\u0000"]"#]),
        (.POST, "/api/containers", "idempotency_key", [#""""#, "1", "\"\(String(repeating: "k", count: 256))\""]),
        (.POST, "/api/containers", "agent", [#""agent:1 2""#, "1"]),
    ]

    /// Fields that must be there beside the one that is bad.
    private static func others(_ path: String, but field: String) -> String {
        switch path {
        case "/api/containers" where field != "image": #""image":"alpine","#
        case "/api/agents/register" where field != "name": #""name":"n","#
        default: ""
        }
    }

    @Test func `a field out of its range or of another type is named, with what was found and what is expected`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        for (method, path, field, values) in Self.fields {
            for value in values {
                let answer = try await client.call(
                    method, path, "{\(Self.others(path, but: field))\"\(field)\":\(value)}")
                #expect(answer.status == 400, "\(path) \(field) \(value.prefix(80)): \(answer)")
                #expect(answer.text("field") == field, "\(path) \(field) \(value.prefix(80)): \(answer)")
                #expect(
                    (answer.text("value") ?? "").isEmpty == false && (answer.text("expected") ?? "").isEmpty == false)
                // What was sent does not come back whole.
                #expect((answer.text("error") ?? "").utf8.count < 1000, "\(answer)")
                if field == "image" {
                    #expect(answer.body["supported_images"]?.items.isEmpty == false, "\(answer)")
                }
            }
        }
        #expect(try await client.entries().isEmpty)
        try await controlPlane.stop()
    }

    @Test func `many short words are long, too`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let words = Array(repeating: #""""#, count: 20_000).joined(separator: ",")
        for fields in [
            "\"command\":[\(words)]", "\"environment\":{\"A\":\"\(String(repeating: "\\u0001", count: 6000))\"}",
            "\"labels\":{\((0..<4000).map { "\"\($0)\":\"\"" }.joined(separator: ","))}",
        ] {
            let answer = try await client.call(.POST, "/api/containers", "{\"image\":\"alpine\",\(fields)}")
            #expect(answer.status == 400 && answer.text("field") == "environment, labels, command", "\(answer)")
        }
        let most = String(repeating: "x", count: 32_000)
        let made = try await client.call(
            .POST, "/api/containers", #"{"image":"alpine","environment":{"A":"\#(most)"}}"#)
        #expect(made.status == 202, "\(made)")
        try await controlPlane.stop()
    }

    @Test func `a body that cannot be read says where, and what it ought to be`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        for (body, field) in [
            (#"{"image":"alpine","memory_mb":NaN}"#, "body"), (#"{"image":"alpine","memory_mb":Infinity}"#, "body"),
            (#"{"image":"alpine","memory_mb":01}"#, "body"), (#"{"image":"alpine",}"#, "body"), ("[]", "body"),
            ("null", "body"), ("", "body"), (String(repeating: "[", count: 100), "body"),
            (#"{"image":"alpine","image":"ubuntu"}"#, "image"), (#"{"image":"a","name":"b","n\u0061me":"c"}"#, "name"),
        ] {
            let answer = try await client.call(.POST, "/api/containers", body)
            #expect(answer.status == 400 && answer.text("field") == field, "\(body.prefix(80)): \(answer)")
            #expect((answer.text("value") ?? "").isEmpty == false && (answer.text("expected") ?? "").isEmpty == false)
        }
        #expect(try await client.entries().isEmpty)
        try await controlPlane.stop()
    }
}
