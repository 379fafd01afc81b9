import BerthModel
import NIOHTTP1
import ServiceRuntime
import Testing

/// What an operator has set as images and limits is what the API offers, takes and counts with.
@Suite struct ConfiguredCatalogue {
    private static let images = #"""
        {"base:1": {"description": "Our base", "aliases": ["base", "b"],
            "reference": "registry.example.com/base/alpine:1", "architectures": ["amd64"]},
         "alpine:latest": {}}
        """#

    @Test func `images, short names and limits are those of the configuration`() async throws {
        let controlPlane = try await TestControlPlane { _ in
            [
                "BERTH_IMAGES": Self.images, "BERTH_TIERS_FREE_CONTAINERS": "2", "BERTH_TIERS_FREE_MEMORY_MB": "1024",
            ]
        }
        let client = try await controlPlane.user("ada", tier: "free")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        let listed = try await client.call(.GET, "/api/images").body["images"]?.items ?? []
        #expect(listed.compactMap { $0["name"]?.text } == ["alpine:latest", "base:1", "custom"])
        #expect(listed.dropFirst().first?["description"]?.text == "Our base", "\(listed)")
        #expect(listed.compactMap { $0["aliases"]?.items.compactMap(\.text) } == [[], ["base", "b"], []])

        // The documented ones are not there any more, and a refusal counts for nothing.
        let supported = JSONValue.array(["alpine:latest", "base:1", "custom"].map { .string($0) })
        for name in ["alpine", "ubuntu:24.04", "registry.example.com/base/alpine:1"] {
            let refused = try await client.order(image: name)
            #expect(refused.status == 400 && refused.body["supported_images"] == supported, "\(name): \(refused)")
        }
        let missing = try await client.call(.POST, "/api/containers", "{}")
        #expect(missing.text("expected") == "one of alpine:latest, base:1, custom", "\(missing)")

        var ids: [String] = []
        for (asked, fields, memory) in [("b", "", 1024), ("base:1", #""memory_mb":300"#, 300)] {
            let made = try await client.order(fields, image: asked)
            #expect(made.status == 202 && made.text("image") == "base:1", "\(asked): \(made)")
            #expect(made.body["resources"]?["memory_mb"] == .integer(memory), "\(made)")
            let id = try #require(made.text("db_id"))
            #expect(try await agent.untilWanted(id).spec.image == "registry.example.com/base/alpine:1")
            #expect(try await client.container(id).text("image") == "base:1")
            ids.append(id)
        }
        let over = try await client.order(image: "base")
        #expect(over.status == 403 && over.text("error") == "container limit reached", "\(over)")
        #expect(over.body["current"] == .integer(2) && over.body["limit"] == .integer(2))
        #expect(try await client.call(.GET, "/api/containers").body["limit"] == .integer(2))

        // A change is cut down to the limit too.
        let id = try #require(ids.last)
        try await client.untilStatus("running", id)
        let changed = try await client.call(.PATCH, "/api/containers/\(id)", #"{"memory_mb":4096,"cpu_shares":9999}"#)
        let resources = changed.body["container"]?["resources"]
        #expect(resources?["memory_mb"] == .integer(1024) && resources?["cpu_shares"] == .integer(2000), "\(changed)")

        let document = try await client.call(.GET, "/openapi.json").body
        let request = document["components"]?["schemas"]?["CreateRequest"]
        #expect(
            request?["properties"]?["image"]?["enum"]?.items.compactMap(\.text)
                == ["alpine:latest", "base:1", "custom", "base", "b"])
        #expect(request?["required"] == .array([.string("image")]))
        try await controlPlane.stop()
    }
}
