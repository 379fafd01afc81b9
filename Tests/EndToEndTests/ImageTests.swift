import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// Images from registries that are well and from registries that are not.
extension RealParts {
    @Suite(.serialized) struct Images {
        /// A registry beside the Engine that does what real ones do on bad days.
        private final class Registry: Sendable {
            let program: RunningProgram
            let port: Int

            /// - Parameter other: beside this Engine and not the common one.
            init(asksForLogin: Bool = false, beside other: PrivateEngine? = nil) async throws {
                let endpoint = try other?.endpoint ?? TestEnvironment.engineText
                let parts = endpoint.dropFirst("unix://".count).split(separator: "/").dropLast()
                let folder = "/" + parts.joined(separator: "/")
                let host = try Self.word("host", folder)
                let output = try TemporaryFolder()
                let program = try RunningProgram(
                    "/usr/bin/env",
                    [
                        "nsenter", "--net=/run/netns/\(host)",
                        TestEnvironment.packageRoot.path + "/scripts/hostile-registry",
                        "127.0.0.1:\(try Self.word("port", folder))",
                    ] + (asksForLogin ? ["login"] : []), environment: [:], output: output.file("log"))
                self.program = program
                port = try await eventually("the registry listens", within: 20) {
                    Int(program.output.trimmingCharacters(in: .whitespacesAndNewlines))
                }
            }

            /// What the script of the test host wrote down about itself.
            private static func word(_ name: String, _ folder: String) throws -> String {
                try String(contentsOfFile: "\(folder)/run/\(name)", encoding: .utf8)
                    .trimmingCharacters(in: .whitespacesAndNewlines)
            }

            func image(_ kind: String, _ name: String = "library/archlinux:latest") -> String {
                "127.0.0.1:\(port)/\(kind)/\(name)"
            }

            func end() async throws { try await program.killHard() }
        }

        private func order(_ client: APIClient, _ name: String, _ image: String, _ more: String = "") async throws
            -> String
        {
            let answer = try await client.call(
                .POST, "/api/containers",
                #"{"image":"custom","custom_image":"\#(image)","name":"\#(name)","runtime":"runc","memory_mb":256\#(more)}"#
            )
            #expect(answer.status == 202, "\(answer)")
            return try #require(answer.text("db_id"))
        }

        @Test(.timeLimit(.minutes(4)))
        func `each way in which a registry fails is a reason of its own, and what is well is not held up`() async throws
        {
            // One that has no layer of these images yet; layers of one image are pulled once, whoever asks.
            let host = try await PrivateEngine()
            let registry = try await Registry(beside: host)
            let house = try await House("registries", engine: try await host.engine(), endpoint: host.endpoint)
            let images = ["cut": "library/debian:bookworm", "lies": "library/ubuntu:24.04"]
            let expected = [
                "busy": "registry_busy", "broken": "image_pull_failed", "denied": "image_unauthorized",
                "private": "image_unauthorized", "cut": "image_pull_failed", "lies": "image_corrupt",
                "arch": "image_wrong_platform", "stall": "image_pull_failed_timeout",
            ]
            var ids: [String: String] = [:]
            for kind in expected.keys.sorted() {
                ids[kind] = try await order(
                    house.client, kind, registry.image(kind, images[kind] ?? "library/archlinux:latest"))
            }
            ids["missing"] = try await order(house.client, "missing", registry.image("ok", "library/none:1"))
            let good = try await order(house.client, "good", registry.image("ok"))
            try await house.client.untilStatus("running", good, within: 60)
            for (kind, reason) in expected.merging(["missing": "image_not_found"], uniquingKeysWith: { $1 }) {
                let id = try #require(ids[kind])
                var last: String?
                try await untilTrue("\(kind) is said to be \(reason)", within: 75) {
                    last = try await house.client.container(id).text("message")
                    return last?.hasPrefix(reason + ":") == true
                }
                #expect(last?.contains("secret") != true)
            }
            try await house.end()
            try await registry.end()
            try await host.down()
        }

        @Test(.timeLimit(.minutes(3)))
        func `a login from the agent's own file opens a private registry, and is nowhere to be read`() async throws {
            let registry = try await Registry(asksForLogin: true)
            let folder = try TemporaryFolder()
            try "captain:secret\n".write(toFile: folder.file("login"), atomically: true, encoding: .utf8)
            let house = try await House(
                "private",
                settings: ["BERTH_REGISTRY_CREDENTIALS": "127.0.0.1:\(registry.port)=\(folder.file("login"))"])
            let id = try await order(house.client, "private", registry.image("private"))
            let entry = try await house.client.untilStatus("running", id, within: 60)
            let inspected = try await RunningProgram.run(
                "/usr/bin/env",
                ["docker", "-H", try TestEnvironment.engineText, "inspect", try #require(entry["id"]?.text)])
            #expect(!inspected.output.contains("secret"))
            let said = await house.agent.output
            #expect(!said.contains("secret"))
            for file in try FileManager.default.contentsOfDirectory(atPath: house.agent.stateFolder) {
                let text = (try? String(contentsOfFile: house.agent.stateFolder + "/" + file, encoding: .utf8)) ?? ""
                #expect(!text.contains("secret"), "\(file)")
            }
            try await house.end()
            try await registry.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `twenty that wait for one image are one pull`() async throws {
            let house = try await House("twenty")
            try await house.engine.removeImageIfThere("archlinux:latest")
            let since = Timestamp.now()
            var ids: [String] = []
            for number in 0..<20 {
                ids.append(try await house.client.create("waits-\(number)", image: "archlinux", cpu: 250))
            }
            for id in ids { try await house.client.untilStatus("running", id, within: 120) }
            let events = try await RunningProgram.run(
                "/usr/bin/env",
                [
                    "docker", "-H", try TestEnvironment.engineText, "events", "--since", String(since), "--until",
                    String(Timestamp.now()), "--filter", "type=image", "--filter", "event=pull",
                ])
            let pulls = events.output.split(separator: "\n").filter { $0.contains("archlinux") }
            #expect(pulls.count == 1, "\(events.output)")
            try await house.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `a container that is made again is made of the image that its tag meant before`() async throws {
            let house = try await House("pinned")
            try await house.engine.pullQuietly("alpine:latest")
            try await house.engine.pullQuietly("archlinux:latest")
            func docker(_ arguments: String...) async throws {
                let result = try await RunningProgram.run(
                    "/usr/bin/env", ["docker", "-H", try TestEnvironment.engineText] + arguments)
                #expect(result.status == 0, "\(result.output)")
            }
            let tag = "moving-\(UUID().uuidString.prefix(6).lowercased()):1"
            try await docker("tag", "alpine:latest", tag)
            let old = try await house.engine.inspectImage("alpine:latest").id
            let id = try await order(house.client, "pinned", tag, #","pull":"never""#)
            let first = try #require(try await house.client.untilStatus("running", id)["id"]?.text)
            #expect(try await house.engine.inspectContainer(first).image == old)

            // The tag moves, and the container is gone: not another image under the same generation.
            try await docker("tag", "archlinux:latest", tag)
            try await house.engine.removeContainer(first, force: .killFirst)
            let second = try await eventually("another container runs", within: 60) { () -> String? in
                let container = try await house.client.container(id)
                guard container.text("status") == "running", let now = container.text("id"), now != first else {
                    return nil
                }
                return now
            }
            #expect(try await house.engine.inspectContainer(second).image == old)

            // Where nothing may be pulled, nothing is.
            let never = try await order(house.client, "never", "never-there:1", #","pull":"never""#)
            try await untilTrue("it waits with the reason", within: 30) {
                try await house.client.container(never).text("message")?.hasPrefix("image_missing:") == true
            }
            try await docker("rmi", tag)
            try await house.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `only images that the agent pulled and nothing uses are collected, and a dry run removes none`()
            async throws
        {
            let registry = try await Registry()
            let house = try await House("collected")
            try await house.engine.pullQuietly("alpine:latest")
            let used = try await order(house.client, "used", registry.image("ok"))
            let left = try await order(
                house.client, "left",
                registry.image("ok", "library/ubuntu:24.04"))
            try await house.client.untilStatus("running", used)
            try await house.client.untilStatus("running", left)
            func collected(_ arguments: String...) async throws -> [String] {
                let result = try await RunningProgram.run(
                    try TestEnvironment.binary("berth-agent"),
                    ["gc", "--json", "--config", house.agent.configPath] + arguments)
                #expect(result.status == 0, "\(result.output)")
                guard case .array(let images)? = try JSONCoding.decode(JSONValue.self, from: result.output)["images"]
                else { return ["no list"] }
                return images.compactMap { $0["reference"]?.text }
            }
            #expect(try await collected().isEmpty, "all are in use")
            #expect(try await house.client.call(.DELETE, "/api/containers/\(left)").status == 200)
            let image = registry.image("ok", "library/ubuntu:24.04")
            try await untilTrue("its tombstone is done with", within: 30) {
                try await collected("--dry-run") == [image]
            }
            _ = try await house.engine.inspectImage(image)
            #expect(try await collected() == [image])
            #expect(try await collected().isEmpty)
            // What somebody else pulled, and what is in use, is still there.
            _ = try await house.engine.inspectImage("alpine:latest")
            _ = try await house.engine.inspectImage(registry.image("ok"))
            try await house.end()
            try await house.engine.removeImage(registry.image("ok"))
            try await registry.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `a pull that would fill the Engine's disk waits with the reason, and nothing else does`() async throws {
            let house = try await House("admission", settings: ["BERTH_PULL_RESERVE_MB": "16000000"])
            try await house.engine.pullQuietly("alpine:latest")
            try await house.engine.removeImageIfThere("archlinux:latest")
            let big = try await house.client.create("big", image: "archlinux")
            let here = try await house.client.create("here")
            try await house.client.untilStatus("running", here)
            try await untilTrue("the reason is said", within: 30) {
                try await house.client.container(big).text("message")?.hasPrefix("disk_low:") == true
            }
            try await house.end()
        }
    }
}
