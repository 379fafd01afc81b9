import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// What a user trusts us with is the data in the volume. After each of these: its checksum is as it was, at most one
/// container wrote at any moment (by the Engine's events), the wish is reached, and then there is silence.
extension RealParts {
    @Suite(.serialized) struct DataSafety {
        /// Every step of a replacement, before its call and after it.
        @Test(.timeLimit(.minutes(5)))
        func `an agent killed at each step of a replacement finishes it with the data kept`() async throws {
            let cradle = try await Cradle("killed")
            var disk = 4096
            for step in ["create", "stop", "start"] {
                for moment in ["before", "after"] {
                    let old = try await cradle.settled()
                    try await cradle.agent.stop()
                    try await cradle.agent.start(["BERTH_FAIL_POINT": "\(moment)-\(step)"])
                    try await agentIsOnline(cradle.client, cradle.agent)
                    disk += 1
                    // Answered or not: the wish is stored.
                    let patch = Task { [cradle, disk] in
                        try await cradle.client.call(
                            .PATCH, "/api/containers/\(cradle.id)", #"{"disk_mb":\#(disk)}"#)
                    }
                    #expect(try await cradle.agent.program?.ended() == -SIGKILL, "it died at \(moment)-\(step)")
                    try await cradle.agent.start()
                    _ = try await patch.value
                    let new = try await cradle.isWell("a kill \(moment) \(step)")
                    #expect(new != old)
                }
            }
            try await cradle.isSilent()
            try await cradle.end()
        }

        @Test(.timeLimit(.minutes(3)), arguments: ["runc", "gvisor"])
        func `an agent killed at each step of a change of limits finishes it on the same container`(
            runtime: String
        ) async throws {
            let cradle = try await Cradle("resized", runtime: runtime)
            let container = try await cradle.settled()
            _ = try await cradle.engine.run("echo layer > /outside", in: container)
            var memory = 300
            for step in runtime == "runc" ? ["update"] : ["stop", "update", "start"] {
                for moment in ["before", "after"] {
                    try await cradle.agent.stop()
                    try await cradle.agent.start(["BERTH_FAIL_POINT": "\(moment)-\(step)"])
                    try await agentIsOnline(cradle.client, cradle.agent)
                    memory += 1
                    let patch = Task { [cradle, memory] in
                        try await cradle.client.call(
                            .PATCH, "/api/containers/\(cradle.id)", #"{"memory_mb":\#(memory)}"#)
                    }
                    #expect(try await cradle.agent.program?.ended() == -SIGKILL, "it died at \(moment)-\(step)")
                    try await cradle.agent.start()
                    _ = try await patch.value
                    #expect(try await cradle.isWell("a kill \(moment) \(step)") == container)
                    let limit = try await cradle.engine.inspectContainer(container).hostConfiguration.memory
                    #expect(limit == memory * 1_048_576)
                }
            }
            #expect(try await cradle.engine.run("cat /outside", in: container) == "layer\n")
            try await cradle.isSilent()
            try await cradle.end()
        }

        @Test(.timeLimit(.minutes(4)))
        func `whatever a hand does to the containers is put right, and the data stays`() async throws {
            let cradle = try await Cradle("handled")
            let engine = cradle.engine
            var container = try await cradle.settled()

            try await engine.stopContainer(container, graceSeconds: 0)
            #expect(try await cradle.isWell("docker stop") == container)

            try await engine.removeContainer(container, force: .killFirst)
            container = try await cradle.isWell("docker rm -f")

            // Other limits, and a restart policy with which the Engine would revive an old copy after a reboot.
            let limit = try await engine.inspectContainer(container).hostConfiguration.memory
            try await engine.updateByHand(
                container, #"{"Memory":400000000,"MemorySwap":400000000,"RestartPolicy":{"Name":"always"}}"#)
            try await untilTrue("docker update is taken back", within: 20) {
                let host = try await engine.inspectContainer(container).hostConfiguration
                return host.memory == limit && host.restartPolicy?.name == "no"
            }
            #expect(try await cradle.isWell("docker update") == container)

            try await engine.disconnectNetwork("berth", container: container)
            try await untilTrue("the network is back", within: 20) {
                try await engine.inspectContainer(container).networkSettings.networks?["berth"] != nil
            }
            #expect(try await cradle.isWell("docker network disconnect") == container)
            #expect(try await engine.run("ip route", in: container).contains("default"))

            // The image goes by hand; the next replacement pulls it again.
            let image = try await engine.inspectContainer(container).image
            try await engine.forceRemoveImage("alpine:latest")
            #expect(
                try await cradle.client.call(.PATCH, "/api/containers/\(cradle.id)", #"{"disk_mb":5000}"#).status == 200
            )
            let replaced = try await cradle.isWell("docker rmi -f")
            #expect(try await engine.inspectContainer(replaced).image == image)

            // The old container, kept for an hour, is started beside the new one: it is stopped at once.
            #expect(cradle.writers.most <= 1)
            try await engine.startContainer(container)
            try await untilTrue("the old one is stopped") {
                try await engine.inspectContainer(container).state.status == "exited"
            }
            cradle.writers.forget()
            try await cradle.isWell("docker start of the old container")
            try await cradle.isSilent()
            try await cradle.end()
        }

        @Test(.timeLimit(.minutes(2)))
        func `processes that outlived their container are ended before it is started again`() async throws {
            let cradle = try await Cradle("outlived")
            let container = try await cradle.settled()
            let pid = try await cradle.engine.inspectContainer(container).state.pid
            let cgroups = try String(contentsOfFile: "/proc/\(pid)/cgroup", encoding: .utf8)
            // The agent is away while the container ends and something of it lives on.
            try await cradle.agent.stop()
            try await cradle.engine.stopContainer(container, graceSeconds: 0)
            let left = Process()
            left.executableURL = URL(fileURLWithPath: "/bin/sleep")
            left.arguments = ["600"]
            try left.run()
            let line = try #require(
                cgroups.split(separator: "\n").first { $0.contains(":pids:") || $0.hasPrefix("0::") })
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            let folder = "/sys/fs/cgroup/\(fields[1])\(fields[2])"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try "\(left.processIdentifier)".write(toFile: folder + "/cgroup.procs", atomically: false, encoding: .utf8)

            try await cradle.agent.start()
            try await cradle.isWell("a process outlived its container")
            try await untilTrue("it was killed") { !left.isRunning }
            let history = try await cradle.client.call(.GET, "/api/containers/\(cradle.id)/history").body["actions"]
            #expect("\(String(describing: history))".contains("outlived it"))
            try await cradle.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `state files that are corrupted, cut, empty or another agent's cost no container and no data`()
            async throws
        {
            let cradle = try await Cradle("damaged")
            let container = try await cradle.settled()
            let startedAt = try await cradle.engine.inspectContainer(container).state.startedAt
            let state = cradle.agent.stateFolder
            let foreign =
                #"{"schema":1,"agent":"somebody-else","checksum":"0","held":{"state":{"revision":9,"workloads":[]},"digest":"0"}}"#
            let good = try String(contentsOfFile: state + "/desired.json", encoding: .utf8)
            for damage in ["", "{", String(good.prefix(good.count / 2)), "\0\u{1}\u{2}garbage", foreign] {
                try await cradle.agent.stop()
                for file in ["desired.json", "desired.json.previous", "memory.json", "history.jsonl"] {
                    try damage.write(toFile: "\(state)/\(file)", atomically: false, encoding: .utf8)
                }
                try await cradle.agent.start()
                try await agentIsOnline(cradle.client, cradle.agent)
                #expect(try await cradle.isWell("damage \(damage.prefix(20))") == container)
            }
            #expect(try await cradle.engine.inspectContainer(container).state.startedAt == startedAt)
            try await cradle.isSilent()
            try await cradle.end()
        }

        @Test(.timeLimit(.minutes(2)))
        func `what happens while the stream of events is cut is found all the same`() async throws {
            let folder = try TemporaryFolder()
            let real = String(try TestEnvironment.engineText.dropFirst("unix://".count))
            let proxy = try await EngineProxy(folder.file("docker.sock"), to: real)
            let cradle = try await Cradle("deaf", endpoint: "unix://\(proxy.path)")
            let container = try await cradle.settled()
            for forGood in [false, true] {
                proxy.cutEvents(forGood: forGood)
                try await cradle.engine.killContainer(container)
                #expect(try await cradle.isWell("a cut stream of events", within: 40) == container)
            }
            proxy.letEventsThrough()
            try await cradle.isSilent()
            try await cradle.end()
            proxy.stop()
        }

        @Test(.timeLimit(.minutes(2)))
        func `a failure count outlives the agent: no crash loop begins afresh with a restart`() async throws {
            let cradle = try await Cradle("looping")
            let container = try await cradle.settled()
            for _ in 0..<3 {
                try await untilTrue("it runs", within: 30) {
                    try await cradle.engine.inspectContainer(container).state.status == "running"
                }
                try await cradle.engine.killContainer(container)
                let death = try await cradle.engine.inspectContainer(container).state.startedAt
                try await untilTrue("its end was noticed", within: 30) {
                    let state = try await cradle.engine.inspectContainer(container).state
                    return state.status != "running" || state.startedAt != death
                }
            }
            try await untilTrue("three deaths are counted", within: 30) {
                try await cradle.agent.ask("explain", cradle.id)["failures_in_a_row"]?.number == 3
            }
            // The same over the API, and the history of it.
            let path = "/api/containers/\(cradle.id)"
            let explained = try await cradle.client.call(.GET, "\(path)/explain")
            #expect(explained.body["explanation"]?["failures_in_a_row"]?.number == 3, "\(explained)")
            #expect(explained.body["wanted"]?.text == "running")
            let died = try await cradle.client.call(.GET, "\(path)/history?limit=100")
            #expect("\(died.body)".components(separatedBy: "died").count - 1 == 3, "\(died)")
            #expect(try await cradle.client.call(.GET, "\(path)/history?limit=0").status == 400)
            #expect(try await cradle.client.call(.GET, "/api/containers/nobody/explain").status == 404)
            #expect(try await cradle.agent.ask("plan")["problem"] == nil)
            try await cradle.agent.killHard()
            try await cradle.agent.start()
            try await untilTrue("the count is known again") {
                (try? await cradle.agent.ask("explain", cradle.id))?["failures_in_a_row"]?.number == 3
            }
            try await cradle.isWell("a crash loop")
            try await cradle.end()
        }
    }
}

extension DockerEngine {
    /// As a person with the Docker client would.
    func updateByHand(_ container: String, _ body: String) async throws {
        try await byHand(.POST, "/containers/\(container)/update", body)
    }

    func forceRemoveImage(_ reference: String) async throws {
        try await byHand(.DELETE, "/images/\(reference)?force=1", nil)
    }

    private func byHand(_ method: HTTPMethod, _ path: String, _ body: String?) async throws {
        let socket = String(endpoint.description.dropFirst("unix://".count))
        var arguments = ["-fsS", "-X", method.rawValue, "--unix-socket", socket, "http://d/v1.41\(path)"]
        if let body { arguments += ["-H", "Content-Type: application/json", "-d", body] }
        let result = try await RunningProgram.run("/usr/bin/curl", arguments)
        #expect(result.status == 0, "\(path): \(result.output)")
    }
}
