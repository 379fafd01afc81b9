import BerthModel
import NIOHTTP1
import ServiceRuntime
import Testing

/// The field `ports` of create. `docs/contract.md` has the statements.
@Suite struct DocumentedPorts {
    private func shown(_ container: Int, _ host: Int, _ transport: String = "tcp") -> JSONValue {
        .object(["container": .integer(container), "host": .integer(host), "protocol": .string(transport)])
    }

    @Test func `ports are objects or numbers, told to the host, shown in the entry, and not changed by an update`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        let made = try await client.order(
            """
            "ports": [8080, {"container": 80, "host": 8081}, {"container": 80, "protocol": "tcp"},
                      {"container": 53, "host": 8080, "protocol": "udp"},
                      {"container": 65535, "host": null, "protocol": null, "colour": "red"}]
            """)
        #expect(made.status == 202, "\(made)")
        #expect(made.body["warnings"] == .array([.string("ports[4].colour: unknown field, ignored")]), "\(made)")
        let id = try #require(made.text("db_id"))
        let wanted = try await agent.untilWanted(id).spec.ports
        #expect(
            wanted == [
                PublishedPort(container: 8080, host: 8080), PublishedPort(container: 80, host: 8081),
                PublishedPort(container: 80, host: 80), PublishedPort(container: 53, host: 8080, transport: .udp),
                PublishedPort(container: 65_535, host: 65_535),
            ])
        let all = JSONValue.array([
            shown(8080, 8080), shown(80, 8081), shown(80, 80), shown(53, 8080, "udp"), shown(65_535, 65_535),
        ])
        try await client.untilStatus("running", id)
        #expect(try await client.container(id).body["ports"] == all)
        let listed = try await client.entries().first { $0["db_id"]?.text == id }
        #expect(listed?["ports"] == all)

        let patched = try await client.call(.PATCH, "/api/containers/\(id)", #"{"ports":[]}"#)
        #expect(patched.body["warnings"] == .array([.string("ports: unknown field, ignored")]), "\(patched)")
        #expect(patched.body["container"]?["ports"] == all, "\(patched)")

        for none in ["", #""ports":null"#, #""ports":[]"#] {
            let plain = try await client.order(none)
            #expect(plain.status == 202 && plain.body["warnings"] == nil, "\(none): \(plain)")
            let id = try #require(plain.text("db_id"))
            #expect(try await agent.untilWanted(id).spec.ports == nil)
            #expect(try await client.container(id).body["ports"] == nil)
        }
        try await controlPlane.stop()
    }

    @Test func `ports that cannot be are a 400 that names field, value and range`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let range = "a whole number from 1 to 65535"
        let many = (1...33).map { String($0) }.joined(separator: ",")
        for (ports, field, value, expected) in [
            ("8080", "ports", "8080", "a list"), (#"{"container":80}"#, "ports", "an object", "a list"),
            ("[\(many)]", "ports", "33 items", "at most 32"),
            (#"["80"]"#, "ports[0]", #""80""#, "an object or a whole number"),
            ("[80,null]", "ports[1]", "null", "an object or a whole number"),
            ("[80.5]", "ports[0]", "80.5", "an object or a whole number"),
            ("[0]", "ports[0].container", "0", range), ("[80,65536]", "ports[1].container", "65536", range),
            ("[{}]", "ports[0].container", "nothing", range),
            (#"[{"host":80}]"#, "ports[0].container", "nothing", range),
            (#"[{"container":"80"}]"#, "ports[0].container", #""80""#, range),
            (#"[80,{"container":81,"host":0}]"#, "ports[1].host", "0", range),
            (#"[{"container":80,"host":-1}]"#, "ports[0].host", "-1", range),
            (#"[{"container":80,"host":1.5}]"#, "ports[0].host", "1.5", range),
            (#"[{"container":80,"protocol":"sctp"}]"#, "ports[0].protocol", #""sctp""#, "tcp or udp"),
            (#"[{"container":80,"protocol":"TCP"}]"#, "ports[0].protocol", #""TCP""#, "tcp or udp"),
            (#"[{"container":80,"protocol":6}]"#, "ports[0].protocol", "6", "tcp or udp"),
            (
                #"[80,{"container":81,"host":80}]"#, "ports[1].host", "80",
                "a port that is not published for tcp already"
            ),
        ] as [(String, String, String, String)] {
            let refused = try await client.order("\"ports\":\(ports)")
            #expect(refused.status == 400 && refused.text("field") == field, "\(ports): \(refused)")
            #expect(refused.text("value") == value && refused.text("expected") == expected, "\(ports): \(refused)")
            #expect(refused.text("error") == "\(field): found \(value), expected \(expected)", "\(refused)")
        }
        #expect(try await client.entries().isEmpty)
        try await controlPlane.stop()
    }
}
