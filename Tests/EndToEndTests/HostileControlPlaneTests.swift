import BerthModel
import DockerEngine
import Foundation
import NIOCore
import ServiceRuntime
import Testing

/// An agent under a control plane that means harm: no message can widen what the host's owner allows.
extension RealParts {
    @Suite(.serialized) struct HostileControlPlanes {
        private static let policy = """
            {"registries":["docker.io"],"images":["docker.io/library/alpine:*"],"runtimes":["runc","gvisor"],
             "most_memory_mb":512,"most_pids":256,"most_containers":4,"forbidden_environment":["LD_*"]}
            """

        /// A workload's JSON, with some of it changed to what no honest control plane would say.
        private func item(
            _ id: String, _ change: (inout [String: Any]) -> Void = { _ in }, wish: DesiredWorkload.Wish = .running
        ) throws -> String {
            let workload = DesiredWorkload(
                id: WorkloadID(validated: id), generation: wish == .removed ? 2 : 1, wish: wish,
                spec: WorkloadSpec(
                    name: "w", image: "alpine:latest", runtime: .init(name: "runc"),
                    resources: .init(memoryMB: 64, cpuMillicores: 100, diskMB: 1024, pids: 64),
                    volumes: [VolumeMount(volume: VolumeMount.name(for: WorkloadID(validated: id)), path: "/data")]))
            var object = try #require(
                try JSONSerialization.jsonObject(with: Data(try JSONCoding.encodeText(workload).utf8)) as? [String: Any]
            )
            change(&object)
            return String(decoding: try JSONSerialization.data(withJSONObject: object), as: UTF8.self)
        }

        private func spec(_ key: String, _ value: Any) -> (inout [String: Any]) -> Void {
            { object in
                var spec = object["spec"] as? [String: Any] ?? [:]
                spec[key] = value
                object["spec"] = spec
            }
        }

        private func resource(_ key: String, _ value: Any) -> (inout [String: Any]) -> Void {
            { object in
                var spec = object["spec"] as? [String: Any] ?? [:]
                var resources = spec["resources"] as? [String: Any] ?? [:]
                resources[key] = value
                spec["resources"] = resources
                object["spec"] = spec
            }
        }

        private func port(_ number: Int) -> [String: Any] { ["container": 22, "host": number, "protocol": "tcp"] }

        private func volume(_ name: String, _ path: String) -> (inout [String: Any]) -> Void {
            spec("volumes", [["volume": name, "path": path, "access": "readWrite"]])
        }

        @Test(.timeLimit(.minutes(3)))
        func `whatever a control plane says, a host does no more than its owner allows`() async throws {
            let engine = try await TestEnvironment.engine()
            try await engine.pullQuietly("alpine:latest")
            let bystander = try await Bystander(engine)
            // The data of another agent on the same Engine.
            let foreign = "berth-hostile-foreign"
            _ = try await engine.createVolume(name: foreign, labels: ["berth.agent": "somebody-else"])
            let enemy = try await HostileControlPlane()
            let agent = try TestAgent(serverPort: enemy.port, policy: Self.policy)
            try await agent.start()

            // What may run, dressed up as much more.
            let dressed = try item("hostile-dressed") { object in
                for (key, value) in [
                    "privileged": true, "Privileged": true, "hostNetwork": true, "networkMode": "host",
                    "pidMode": "host",
                    "binds": ["/:/host"], "devices": ["/dev/sda"], "capAdd": ["SYS_ADMIN"],
                    "runtimeArgs": ["--network=host"], "securityOptions": ["seccomp=unconfined"],
                ] as [String: Any] {
                    spec(key, value)(&object)
                    object[key] = value
                }
            }
            // Refused one by one; what is said of each names the fault.
            let refusedItems: [(id: String, says: String, json: String)] = [
                ("hostile-root", "volumes", try item("hostile-root", volume("/", "/host"))),
                ("hostile-socket", "volumes", try item("hostile-socket", volume("/var/run/docker.sock", "/s"))),
                ("hostile-dots", "volumes", try item("hostile-dots", volume("berth-../../etc", "/etc2"))),
                ("hostile-steal", "volumes", try item("hostile-steal", volume("berth-hostile-dressed", "/d"))),
                ("hostile-alien", "volumes", try item("hostile-alien", volume("precious", "/d"))),
                ("hostile-path", "volumes", try item("hostile-path", volume("berth-hostile-path", "/a/../../b"))),
                ("hostile-slash", "volumes", try item("hostile-slash", volume("berth-hostile-slash", "/"))),
                ("hostile-label", "labels", try item("hostile-label", spec("labels", ["berth.agent": "other"]))),
                ("hostile-name", "name", try item("hostile-name", spec("name", "../../x"))),
                ("hostile-env", "environment", try item("hostile-env", spec("environment", ["A=B": "c"]))),
                ("hostile-giant", "memory_mb", try item("hostile-giant", resource("memoryMB", 1 << 50))),
                ("hostile-below", "pids", try item("hostile-below", resource("pids", -1))),
                ("hostile-port", "ports[0].host", try item("hostile-port", spec("ports", [port(65_536)]))),
                ("hostile-image", "image", try item("hostile-image", spec("image", "alpine; rm -rf /"))),
            ]
            // Understood, and against the owner's rules: the status names the rule.
            let refusedByHost: [(id: String, rule: String, json: String)] = [
                ("policy-registry", "registries", try item("policy-registry", spec("image", "evil.example.com/x:1"))),
                ("policy-image", "images", try item("policy-image", spec("image", "ubuntu:24.04"))),
                (
                    "policy-runtime", "runtimes",
                    try item("policy-runtime", spec("runtime", ["name": "hang", "necessity": "require"]))
                ),
                ("policy-memory", "most_memory_mb", try item("policy-memory", resource("memoryMB", 513))),
                ("policy-port", "ports", try item("policy-port", spec("ports", [port(22)]))),
                ("policy-pids", "most_pids", try item("policy-pids", resource("pids", 257))),
                (
                    "policy-env", "forbidden_environment",
                    try item("policy-env", spec("environment", ["LD_PRELOAD": "/x.so"]))
                ),
            ]
            let others = [
                try item("hostile-aaa"), try item("hostile-bbb"), try item("hostile-foreign"), try item("hostile-zzz"),
                // Removals of what is not this agent's: its volume, an unmanaged container by its name and id.
                try item(bystander.id, wish: .removed), try item("bystander", wish: .removed),
            ]
            let items = ([dressed] + others + refusedItems.map(\.json) + refusedByHost.map(\.json)).joined(
                separator: ",")
            try await enemy.say(
                #"{"type":"desired_snapshot","data":{"revision":7,"digest":"0","complete":true,"items":[\#(items)]}}"#)

            for (id, says, _) in refusedItems {
                try await untilTrue("\(id) is refused by \(says)", within: 20) {
                    enemy.heard("nack").contains {
                        $0["workload"]?.text == id && $0["reason"]?.text?.contains(says) == true
                    }
                }
            }
            for (id, rule, _) in refusedByHost {
                try await untilTrue("\(id) is refused by policy.\(rule)", within: 20) {
                    let status = enemy.status(id)
                    return status?["reason"]?.text == "refused_by_host"
                        && status?["message"]?.text?.contains("policy.\(rule)") == true
                }
            }
            try await untilTrue("one is beyond the number that is allowed", within: 30) {
                enemy.status("hostile-zzz")?["message"]?.text?.contains("policy.most_containers") == true
            }
            try await untilTrue("a volume that another agent made is not mounted", within: 20) {
                enemy.status("hostile-foreign")?["reason"]?.text == "volume_of_another"
            }
            try await untilTrue("what may run runs", within: 40) {
                ["hostile-dressed", "hostile-aaa", "hostile-bbb"].allSatisfy {
                    enemy.status($0)?["phase"]?.text == "running"
                }
            }

            // Nonsense between it changes nothing.
            for text in [
                "{", "[]", #"{"type":"command","data":{"op":"1","kind":"exec","workload":"hostile-aaa","cmd":["sh"]}}"#,
                #"{"type":"desired_delta","data":{"appliesTo":7,"resultsIn":8,"digest":"0","put":[{"id":"../../etc","generation":1,"wish":"running"}]}}"#,
            ] { try await enemy.say(text) }
            try await untilTrue("a command that is not known is refused", within: 20) {
                enemy.heard("op_result").contains { $0["ok"] == .bool(false) }
            }

            // By an independent client: what was made has none of what was asked for.
            let made = try await agent.containers(engine).map(\.id)
            #expect(made.count == 3)
            for id in made {
                let result = try await RunningProgram.run(
                    "/usr/bin/env", ["docker", "-H", try TestEnvironment.engineText, "inspect", id])
                let inspected = try #require(
                    (try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [[String: Any]])?.first)
                let host = try #require(inspected["HostConfig"] as? [String: Any])
                #expect(host["Privileged"] as? Bool == false)
                #expect((host["Binds"] as? [Any] ?? []).isEmpty && (host["Devices"] as? [Any] ?? []).isEmpty)
                #expect(host["NetworkMode"] as? String == "berth" && host["PidMode"] as? String == "")
                #expect((host["PortBindings"] as? [String: Any] ?? [:]).isEmpty)
                #expect(
                    host["SecurityOpt"] as? [String] == ["no-new-privileges"] && host["CapDrop"] as? [String] == ["ALL"]
                )
                #expect((host["CapAdd"] as? [String])?.contains { $0.contains("ADMIN") } == false)
            }
            try await bystander.isUntouched()
            #expect(try await engine.inspectVolume(foreign).labels?["berth.agent"] == "somebody-else")

            // All of it removed at once is asked about first, and only what is its own goes.
            let gone = try ["hostile-dressed", "hostile-aaa", "hostile-bbb", "hostile-zzz"].map {
                try item($0, wish: .removed)
            }.joined(separator: ",")
            // And the data of another agent's does not.
            let purge = try item("hostile-foreign", { $0["purgesVolumes"] = true }, wish: .removed)
            try await enemy.say(
                #"{"type":"desired_delta","data":{"appliesTo":8,"resultsIn":9,"digest":"0","put":[\#(gone),\#(purge)]}}"#
            )
            try await untilTrue("it asks before it removes everything", within: 20) {
                !enemy.heard("removal_candidates").isEmpty
            }
            #expect(try await agent.containers(engine).count == 3)
            try await bystander.isUntouched()

            try await agent.cleanUp(engine)
            try await engine.removeVolume(foreign)
            try await bystander.cleanUp()
            enemy.stop()
        }
    }
}
