import AgentProtocol
import BerthModel
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// `POST /api/containers` as it is documented, and where a container goes. `docs/contract.md` has the statements.
@Suite struct DocumentedCreate {
    private static let accepted =
        "Container is being created. This may take a moment if the image needs to be pulled."

    private func resources(_ memory: Int, _ cpu: Int, _ disk: Int) -> JSONValue {
        .object(["memory_mb": .integer(memory), "cpu_shares": .integer(cpu), "disk_mb": .integer(disk)])
    }

    @Test func `a creation is answered 202 at once, with the documented fields, types and words`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        // It does not say what becomes of it: nobody waits for that.
        agent.answers { _ in nil }
        let made = try await client.order(
            """
            "name": "dev-environment", "role": "node", "memory_mb": 2048, "cpu_shares": 2000, "disk_mb": 10240,
            "shell": {"enhanced": true, "theme": "rexec", "use_tmux": true}
            """, image: "ubuntu:24.04")
        #expect(made.status == 202, "\(made)")
        #expect(
            made.body.keys == [
                "id", "db_id", "user_id", "name", "image", "role", "status", "created_at", "async", "message",
                "resources",
            ])
        let id = try #require(made.text("db_id"))
        let owner = try await client.call(.GET, "/api/profile").body["user"]?["id"]
        #expect(made.text("id") == id && UUID(uuidString: id) != nil && made.body["user_id"] == owner)
        #expect(made.text("name") == "dev-environment" && made.text("image") == "ubuntu:24.04")
        #expect(made.text("role") == "node" && made.text("status") == "creating")
        #expect(made.body["created_at"]?.isTime == true && made.body["async"] == .bool(true))
        #expect(made.text("message") == Self.accepted)
        #expect(made.body["resources"] == resources(2048, 2000, 10240))

        // That much is what its host is told, and the list shows the rest.
        let wanted = try await agent.untilWanted(id)
        #expect(wanted.wish == .running && wanted.spec.image == "ubuntu:24.04" && wanted.spec.setUp?.role == .node)
        let shell = try #require(wanted.spec.setUp?.shell)
        #expect(shell.isEnhanced && shell.theme == "rexec" && shell.usesTmux && !shell.hasGitAliases)
        #expect(wanted.spec.resources.memoryMB == 2048 && wanted.spec.resources.cpuMillicores == 2000)
        let creating = try await client.container(id)
        #expect(creating.text("status") == "creating" && creating.text("id") == id)
        try await agent.say(ScriptedAgent.done(wanted))
        let running = try await client.untilStatus("running", id)
        #expect(running["id"]?.text == ScriptedAgent.docker(id) && running["db_id"]?.text == id)
        try await controlPlane.stop()
    }

    @Test func `an image is a documented name, its short form, or as custom any reference`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let names = ["ubuntu:24.04", "debian:bookworm", "alpine:latest", "archlinux:latest"]
        for (asked, shown) in zip(names + ["ubuntu", "debian", "alpine", "archlinux"], names + names) {
            let made = try await client.order(image: asked)
            #expect(made.status == 202 && made.text("image") == shown, "\(asked): \(made)")
        }
        let digest = "sha256:" + String(repeating: "0a", count: 32)
        for reference in [
            "node:20-alpine", "python:3.11", "registry.example.com:5000/team/app:1.0",
            "registry.example.com:5000/team/app@\(digest)",
        ] {
            let made = try await client.order(#""custom_image":"\#(reference)""#, image: "custom")
            #expect(made.status == 202 && made.text("image") == reference, "\(reference): \(made)")
        }

        // Refused with what there is.
        let supported = JSONValue.array((names + ["custom"]).map { .string($0) })
        for name in ["windows", "ubuntu:22.04", "node:20-alpine"] {
            let unknown = try await client.order(image: name)
            #expect(unknown.status == 400)
            #expect(
                unknown.body
                    == .object(["error": .string("unsupported image type"), "supported_images": supported]))
        }
        for fields in ["", #""custom_image":"""#, #""custom_image":"a b""#, #""custom_image":"UPPER""#] {
            let refused = try await client.order(fields, image: "custom")
            #expect(refused.status == 400 && refused.text("field") == "custom_image", "\(fields): \(refused)")
        }
        for body in ["{}", #"{"image":""}"#, #"{"image":7}"#] {
            let missing = try await client.call(.POST, "/api/containers", body)
            #expect(missing.status == 400 && missing.text("field") == "image", "\(body): \(missing)")
        }
        let catalogue = try await client.call(.GET, "/api/images").body["images"]?.items ?? []
        #expect(catalogue.compactMap { $0["name"]?.text } == names + ["custom"])
        #expect(
            catalogue.prefix(4).compactMap { $0["description"]?.text }
                == ["Ubuntu 24.04 LTS", "Debian 12", "Alpine Linux", "Arch Linux"])
        try await controlPlane.stop()
    }

    @Test func `a name is 1 to 64 letters, digits and hyphens, its owner's once, and made up where none is given`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        for name in ["a", "A-1", "-", String(repeating: "x", count: 64)] {
            let made = try await client.order(#""name":"\#(name)""#)
            #expect(made.status == 202 && made.text("name") == name, "\(made)")
        }
        for name in ["a_b", "a b", "ä", "a/b", "a.b", String(repeating: "x", count: 65)] {
            let refused = try await client.order(#""name":"\#(name)""#)
            #expect(refused.status == 400 && refused.text("field") == "name", "\(name): \(refused)")
            #expect(refused.text("expected") == "1 to 64 letters, digits and hyphens")
        }
        let taken = try await client.order(#""name":"a""#)
        #expect(taken.status == 409)
        #expect(taken.body == .object(["error": .string("container name already exists")]))
        // Another user's names are no matter, and that of a deleted container is free.
        let other = try await controlPlane.user("ada", tier: "free")
        #expect(try await other.order(#""name":"a""#).status == 202)
        let first = try #require(try await client.entries().first { $0["name"]?.text == "a" }?["db_id"]?.text)
        #expect(try await client.call(.DELETE, "/api/containers/\(first)").status == 200)
        #expect(try await client.order(#""name":"a""#).status == 202)

        let invented = try #require(try await client.order().text("name"))
        let likeTheExample = /[a-z]+-[a-z]+-[0-9]{3}/
        #expect(invented.wholeMatch(of: likeTheExample) != nil, "\(invented)")
        try await controlPlane.stop()
    }

    @Test func `a role is one of six or none, and shell options are taken with and without their prefix`() async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect(memoryMB: 100_000)
        let roles = ["node", "python", "go", "rust", "devops", "barebone"]
        for role in roles + ["", "default", "standard"] {
            let made = try await client.order(#""role":"\#(role)""#)
            #expect(made.status == 202, "\(role): \(made)")
            let setUp = try await agent.untilWanted(try #require(made.text("db_id"))).spec.setUp
            guard roles.contains(role), role != "barebone" else {
                #expect(setUp == nil, "nothing is installed for \"\(role)\"")
                continue
            }
            #expect(made.text("role") == role && setUp?.role?.rawValue == role, "\(made)")
        }
        let plain = try await client.order(#""role":"barebone""#)
        #expect(plain.text("role") == "barebone", "\(plain)")
        let unknown = try await client.order(#""role":"cobol""#)
        #expect(unknown.status == 400 && unknown.text("field") == "role", "\(unknown)")
        #expect(unknown.text("expected") == "one of " + roles.joined(separator: ", "))
        let catalogue = try await client.call(.GET, "/api/roles").body["roles"]?.items ?? []
        #expect(catalogue.compactMap { $0["name"]?.text } == roles)
        #expect(catalogue.allSatisfy { $0["description"]?.text?.isEmpty == false })

        let options = [
            "enhanced", "autosuggestions", "syntax_highlight", "history_search", "git_aliases", "system_stats",
            "use_tmux",
        ]
        for prefix in ["", "shell."] {
            let flags = options.map { "\"\(prefix)\($0)\":true" }.joined(separator: ",")
            let made = try await client.order("\"shell\":{\(flags),\"\(prefix)theme\":\"rexec\"}")
            #expect(made.status == 202 && made.body["warnings"] == nil, "\(made)")
            let refused = try await client.order("\"shell\":{\"\(prefix)use_tmux\":\"yes\"}")
            #expect(refused.status == 400 && refused.text("field") == "shell.use_tmux", "\(refused)")
        }
        try await controlPlane.stop()
    }

    @Test func `resources are the tier's where left out, cut down to it, and refused below the documented least`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "free")
        let most = resources(2048, 2000, 10240)
        for (fields, given) in [
            ("", most),
            (#""memory_mb":256,"cpu_shares":250,"disk_mb":1024"#, resources(256, 250, 1024)),
            // The upper ends of the documented ranges.
            (#""memory_mb":4096,"cpu_shares":4000,"disk_mb":16384"#, most),
            (#""memory_mb":1000000000,"cpu_shares":1000000000,"disk_mb":1000000000"#, most),
        ] {
            let made = try await client.order(fields)
            #expect(made.status == 202 && made.body["resources"] == given, "\(fields): \(made)")
        }
        let least = ["memory_mb": "256", "cpu_shares": "250", "disk_mb": "1024"]
        for (field, value) in [
            ("memory_mb", "255"), ("cpu_shares", "249"), ("disk_mb", "1023"), ("memory_mb", "0"), ("memory_mb", "-1"),
            ("memory_mb", "300.5"), ("cpu_shares", "\"500\""), ("cpu_shares", "true"), ("disk_mb", "[2048]"),
            ("disk_mb", "99999999999999999999"),
        ] {
            let refused = try await client.order("\"\(field)\":\(value)")
            #expect(refused.status == 400 && refused.text("field") == field, "\(field) \(value): \(refused)")
            #expect(refused.text("value") != nil && refused.text("error")?.hasPrefix("\(field): ") == true)
            #expect(refused.text("expected")?.contains(least[field] ?? "?") == true, "\(refused)")
        }
        let range = "a whole number from 256 to 2048"
        #expect(
            try await client.order(#""memory_mb":255"#).body
                == .object([
                    "error": .string("memory_mb: found 255, expected \(range)"), "field": .string("memory_mb"),
                    "value": .string("255"), "expected": .string(range),
                ]))
        try await controlPlane.stop()
    }

    @Test func `a creation that is refused says why, with the documented status and fields`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "free")
        let nobody = APIClient(port: client.port, token: "wrong")
        let unknown = try await nobody.order()
        #expect(unknown.status == 401 && unknown.body == .object(["error": .string("unauthorized")]))
        let reader = try await controlPlane.user("reader", tier: "pro", scopes: "read")
        let forbidden = try await reader.order()
        #expect(forbidden.status == 403 && forbidden.text("error") == "insufficient permissions", "\(forbidden)")

        var ids: [String] = []
        for _ in 0..<5 { ids.append(try #require(try await client.order().text("db_id"))) }
        let over = try await client.order()
        #expect(over.status == 403)
        #expect(
            over.body
                == .object([
                    "error": .string("container limit reached"), "current": .integer(5), "limit": .integer(5),
                    "tier": .string("free"), "message": .string("Upgrade your plan to create more containers"),
                ]))
        #expect(try await client.call(.DELETE, "/api/containers/\(ids[0])").status == 200)
        let warned = try await client.order(#""colour":1"#)
        #expect(warned.status == 202, "one was deleted: \(warned)")
        #expect(warned.body["warnings"] == .array([.string("colour: unknown field, ignored")]))
        try await controlPlane.stop()
    }

    @Test func `a creation that is repeated under an Idempotency-Key header is the first one`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let headers: HTTPHeaders = [
            "Authorization": "Bearer \(client.token)", "Content-Type": "application/json", "Idempotency-Key": "k",
        ]
        let first = try await client.send(.POST, "/api/containers", #"{"image":"alpine"}"#, headers: headers).answer
        let second = try await client.send(.POST, "/api/containers", #"{"image":"alpine"}"#, headers: headers).answer
        #expect(first.status == 202 && second.status == 202, "\(first) \(second)")
        #expect(first.text("db_id") == second.text("db_id") && first.text("name") == second.text("name"))
        #expect(try await client.entries().count == 1)
        try await controlPlane.stop()
    }

    @Test func `progress is told as the six documented stages, within their shares, and never goes back`() async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        agent.answers { _ in nil }
        let seen = try await client.events(
            within: 30,
            opened: {
                let id = try await client.create("one")
                let wanted = try await agent.untilWanted(id)
                let steps: [(WorkloadProgress.Stage, Int)] = [
                    (.pulling, 0), (.pulling, 50), (.pulling, 20), (.pulling, 90), (.creating, 0), (.starting, 0),
                    (.configuring, 0), (.starting, 0),
                ]
                for (stage, percent) in steps {
                    let progress = WorkloadProgress(
                        workload: wanted.id, generation: wanted.generation, stage: stage, doneBytes: percent,
                        totalBytes: stage == .pulling ? 100 : 0)
                    try await agent.say(AgentMessage.progress(progress))
                }
                try await agent.say(ScriptedAgent.done(wanted))
            }, until: { $0["data"]?["stage"]?.text == "ready" })
        let progress = seen.filter { $0["type"]?.text == "container_progress" }.compactMap { $0["data"] }
        #expect(
            progress.compactMap { $0["stage"]?.text } == [
                "validating", "pulling", "pulling", "pulling", "creating", "starting", "configuring", "ready",
            ])
        #expect(progress.compactMap { $0["progress"]?.number } == [5, 10, 35, 55, 60, 75, 85, 100])
        let id = try #require(try await client.entries().first { $0["name"]?.text == "one" }?["db_id"])
        for one in progress {
            #expect(one.keys == ["id", "stage", "message", "progress"] && one["id"] == id, "\(one)")
            #expect(one["message"]?.text?.isEmpty == false)
        }
        let pulling = progress.filter { $0["stage"]?.text == "pulling" }
        #expect(pulling.allSatisfy { $0["message"]?.text == "Pulling image..." })
        try await controlPlane.stop()
    }

    // MARK: where it goes

    @Test func `where no host fits a creation is accepted all the same, and says what is missing`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "free")
        func waiting(_ name: String, because reason: String) async throws {
            let made = try await client.order(#""name":"\#(name)","memory_mb":512"#)
            #expect(made.status == 202 && made.text("status") == "creating", "\(made)")
            #expect(made.text("message") == "Container will be created once there is a host: \(reason)")
            let shown = try await client.container(try #require(made.text("db_id")))
            #expect(shown.text("message") == "waiting for a host: \(reason)" && shown.body["agent"] == nil)
        }
        try await waiting("one", because: "no host is connected to this account; run berth-agent register on one")
        let own = try await ScriptedAgent(of: client, name: "own")
        _ = try await ScriptedAgent(of: await controlPlane.client(), name: "shared")
        try await waiting("two", because: "none of 2 hosts is online")
        try await own.connect(runtimes: ["runc"])
        let unable = #"no online host offers the runtime "gvisor""#
        try await waiting("three", because: unable)
        // A reason that holds no longer is not shown on.
        try await untilTrue("all say the same") {
            let entries = try await client.entries().filter { $0["session_type"] == nil }
            return entries.allSatisfy { $0["message"]?.text == "waiting for a host: \(unable)" }
        }
        try await own.disconnect()
        try await own.connect()
        try await untilTrue("all are on the host that can take them, and run") {
            let entries = try await client.entries().filter { $0["session_type"] == nil }
            return entries.count == 3
                && entries.allSatisfy { $0["agent"]?.text == "agent:\(own.id)" && $0["status"]?.text == "running" }
        }
        try await controlPlane.stop()
    }

    @Test func `a host's memory is promised four times over, and what waits is placed when there is room again`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect(memoryMB: 330)
        var ids: [String] = []
        for _ in 0..<4 {
            let made = try await client.order(#""memory_mb":512"#)
            #expect(made.text("message") == Self.accepted, "\(made)")
            ids.append(try #require(made.text("db_id")))
        }
        let late = try await client.order(#""memory_mb":512"#)
        let full = "no online host has 512 MB of memory left to promise"
        #expect(late.text("message") == "Container will be created once there is a host: \(full)", "\(late)")
        let id = try #require(late.text("db_id"))
        #expect(try await client.call(.DELETE, "/api/containers/\(ids[0])").status == 200)
        let placed = try await client.untilStatus("running", id, within: 20)
        #expect(placed["agent"]?.text == "agent:\(agent.id)" && placed["message"] == nil, "\(placed)")
        // Room comes by updates, too: four times 330 MB are promised, and then four times 256.
        let small = try #require(try await client.order(#""memory_mb":256"#).text("db_id"))
        #expect(try await client.container(small).body["agent"] == nil)
        for kept in ids.dropFirst() + [id] {
            #expect(try await client.call(.PATCH, "/api/containers/\(kept)", #"{"memory_mb":256}"#).status == 200)
        }
        #expect(try await client.untilStatus("running", small, within: 20)["agent"]?.text == "agent:\(agent.id)")
        try await controlPlane.stop()
    }

    @Test func `a container goes to the least loaded of its owner's hosts and the shared ones, and to no other's`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let (ada, bob) = (
            try await controlPlane.user("ada", tier: "pro"), try await controlPlane.user("bob", tier: "pro")
        )
        // What an administrator registers is everybody's.
        let shared = try await ScriptedAgent(of: await controlPlane.client(), name: "shared")
        let own = try await ScriptedAgent(of: ada, name: "own")
        try await shared.connect()
        try await own.connect()
        func hosts(of client: APIClient) async throws -> [String: Int] {
            let agents = try await client.entries().compactMap { $0["agent"]?.text }
            return Dictionary(agents.map { ($0, 1) }, uniquingKeysWith: +)
        }
        for _ in 0..<4 { #expect(try await ada.order(#""memory_mb":1024"#).status == 202) }
        #expect(try await hosts(of: ada) == ["agent:\(own.id)": 2, "agent:\(shared.id)": 2])
        for _ in 0..<2 { #expect(try await bob.order(#""memory_mb":1024"#).status == 202) }
        #expect(try await hosts(of: bob) == ["agent:\(shared.id)": 2])
        // Bob's load counts, wherever he is from.
        for _ in 0..<2 { #expect(try await ada.order(#""memory_mb":1024"#).status == 202) }
        #expect(try await hosts(of: ada) == ["agent:\(own.id)": 4, "agent:\(shared.id)": 2])
        let listed = try await ada.entries().filter { $0["session_type"] != nil }.compactMap { $0["name"]?.text }
        #expect(listed == ["own"], "a shared host is in its owner's list alone")
        try await controlPlane.stop()
    }
}
