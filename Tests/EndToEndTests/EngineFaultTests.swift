import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// What the Engine itself can do to us: each of these has an Engine of its own to do it with.
extension RealParts {
    @Suite(.serialized) struct EngineFaults {
        @Test(.timeLimit(.minutes(4)), arguments: [true, false])
        func `an Engine that is killed and started again costs no data`(liveRestore: Bool) async throws {
            let host = try await PrivateEngine(liveRestore ? ["--live-restore"] : [])
            let cradle = try await Cradle("crashed", engine: try await host.engine(), endpoint: host.endpoint)
            let container = try await cradle.settled()
            let startedAt = try await cradle.engine.inspectContainer(container).state.startedAt
            try await host.engine("kill")
            try await untilTrue("the agent says that the Engine is away") {
                try await cradle.agent.status()["engine"]?["reachable"] == .bool(false)
            }
            try await host.engine("start")
            try await cradle.writers.begin()
            #expect(try await cradle.isWell("SIGKILL of dockerd", within: 90) == container)
            let now = try await cradle.engine.inspectContainer(container).state.startedAt
            #expect((now == startedAt) == liveRestore, "with live-restore the container goes on, else it starts again")

            // Killed in the middle of a replacement.
            let patch = Task { [cradle] in
                try await cradle.client.call(.PATCH, "/api/containers/\(cradle.id)", #"{"disk_mb":5000}"#)
            }
            try await untilTrue("the candidate is there") {
                try await cradle.agent.containers(cradle.engine).count == 2
            }
            try await host.engine("kill")
            try await host.engine("start")
            try await cradle.writers.begin()
            _ = try await patch.value
            #expect(try await cradle.isWell("SIGKILL of dockerd in a replacement", within: 90) != container)
            try await cradle.isSilent()
            try await cradle.end()
            try await host.down()
        }

        @Test(.timeLimit(.minutes(4)), arguments: ["agent first", "Engine first", "power cut"])
        func `after a reboot everything runs again, whoever is up first`(order: String) async throws {
            let host = try await PrivateEngine()
            let cradle = try await Cradle("rebooted", engine: try await host.engine(), endpoint: host.endpoint)
            let container = try await cradle.settled()
            // A replaced container, kept for an hour: an Engine must not revive it.
            #expect(
                try await cradle.client.call(.PATCH, "/api/containers/\(cradle.id)", #"{"disk_mb":5000}"#).status == 200
            )
            let current = try await cradle.isWell("a replacement")
            if order == "power cut" {
                // No word to anybody: dockerd, containerd, shims and containers end as they are.
                try await cradle.agent.killHard()
                try await host.engine("kill")
            } else {
                try await host.engine("stop")
                try await cradle.agent.killHard()
            }
            try await host.engine("reboot")
            if order == "agent first" {
                try await cradle.agent.start()
                try await agentIsOnline(cradle.client, cradle.agent)
                try await host.engine("start")
            } else {
                try await host.engine("start")
                try await cradle.writers.begin()
                try await cradle.agent.start()
            }
            try await cradle.writers.begin()
            #expect(try await cradle.isWell("a reboot, \(order)", within: 90) == current)
            #expect(try await cradle.engine.inspectContainer(container).state.status == "exited")
            try await cradle.isSilent()
            try await cradle.end()
            try await host.down()
        }

        @Test(.timeLimit(.minutes(4)))
        func `a full disk stops what needs room, says so, and costs no data`() async throws {
            let host = try await PrivateEngine(["--disk", "600"])
            let cradle = try await Cradle("full", engine: try await host.engine(), endpoint: host.endpoint)
            let container = try await cradle.settled()
            let fill = host.folder + "/data/fill"
            let filled = try await RunningProgram.run("/bin/dd", ["if=/dev/zero", "of=\(fill)", "bs=64k"], within: 60)
            #expect(filled.output.contains("No space left"), "\(filled.output)")
            _ = try await RunningProgram.run("/bin/dd", ["if=/dev/zero", "of=\(fill)2", "bs=512"], within: 60)

            // A replacement has no room: the old one serves on, and the reason is said.
            let patched = try await cradle.client.call(.PATCH, "/api/containers/\(cradle.id)", #"{"disk_mb":5000}"#)
            #expect(patched.status != 200, "\(patched)")
            try await untilTrue("the reason is said", within: 30) {
                try await cradle.client.container(cradle.id).text("message")?.contains("disk_full") == true
            }
            #expect(try await cradle.engine.inspectContainer(container).state.status == "running")
            try FileManager.default.removeItem(atPath: fill)
            try? FileManager.default.removeItem(atPath: fill + "2")
            #expect(try await cradle.isWell("a full disk", within: 90) != container)
            try await cradle.isSilent()
            try await cradle.end()
            try await host.down()
        }

        @Test(.timeLimit(.minutes(4)), arguments: [false, true])
        func `a start that hangs is found, reported, ended by its own processes, and slows nobody`(
            evenKilled: Bool
        ) async throws {
            let host = try await PrivateEngine()
            let engine = try await host.engine()
            let cradle = try await Cradle(
                "hung", engine: engine, endpoint: host.endpoint,
                settings: ["BERTH_START_TIMEOUT_SECONDS": "5", "BERTH_RUNTIMES": "runc=runc,gvisor=hang"])
            try host.letStartsHang(true, evenKilled: evenKilled)
            let hung = try await cradle.client.create("hanging", runtime: "gvisor")
            try await untilTrue("the start hangs") {
                try await cradle.agent.containers(engine).contains {
                    $0.labels["berth.workload"] == hung && $0.state == "created"
                }
            }
            // Meanwhile others are made and started.
            for number in 1...2 {
                try await cradle.client.untilStatus(
                    "running", try await cradle.client.create("free-\(number)"), within: 15)
            }
            let failed = try await cradle.client.untilStatus("error", hung, within: 40)
            #expect(failed["message"]?.text?.contains("start_failed_timeout") == true, "\(failed)")
            try await untilTrue("its processes were ended", within: 60) {
                "\(String(describing: try await cradle.client.call(.GET, "/api/containers/\(hung)/history").body))"
                    .contains("kill what is left in the cgroup")
            }
            // As soon as a start can come back, it does.
            try host.letStartsHang(false)
            try await cradle.client.untilStatus("running", hung, within: 60)
            try await cradle.isWell("a hung start")
            let own = try await cradle.agent.containers(engine).map(\.id)
            let left = "\(String(describing: try await cradle.agent.status()["orphan_sandboxes"]))"
            for container in own { #expect(!left.contains(container), "\(left)") }
            try await cradle.end()
            try await host.down()
        }

        @Test(.timeLimit(.minutes(3)))
        func `a container that only the Engine believes in is started again`() async throws {
            let host = try await PrivateEngine()
            let engine = try await host.engine()
            let cradle = try await Cradle("phantom", engine: engine, endpoint: host.endpoint)
            let container = try await cradle.settled()
            try await untilTrue("its process was seen", within: 20) {
                try await cradle.agent.status()["passes"]?.number ?? 0 > 2
            }
            let pid = try await engine.inspectContainer(container).state.pid
            let containerd = try #require(
                Int32(try String(contentsOfFile: host.folder + "/exec/containerd/containerd.pid", encoding: .utf8)))
            let shim = try #require(try parent(of: pid))
            kill(containerd, SIGKILL)
            kill(Int32(shim), SIGKILL)
            kill(Int32(pid), SIGKILL)
            try await untilTrue("it runs in a new process", within: 120) {
                let state = try await engine.inspectContainer(container).state
                return state.status == "running" && state.pid != pid && state.pid > 0
            }
            try await cradle.isWell("the death of a container with its shim and containerd")
            try await cradle.end()
            try await host.down()
        }

        private func parent(of pid: Int) throws -> Int? {
            let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
            let fields = text[text.index(after: text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
            return fields.count > 1 ? Int(fields[1]) : nil
        }

        @Test(.timeLimit(.minutes(2)))
        func `a sandbox whose container the Engine has forgotten is found and reported, and ended by nobody`()
            async throws
        {
            let cradle = try await Cradle("orphan")
            let container = try await cradle.settled()
            let pid = try await cradle.engine.inspectContainer(container).state.pid
            let cgroups = try String(contentsOfFile: "/proc/\(pid)/cgroup", encoding: .utf8)
            let line = try #require(
                cgroups.split(separator: "\n").first { $0.contains(":pids:") || $0.hasPrefix("0::") })
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            let stranger = String(repeating: "ab", count: 32)
            let folder = "/sys/fs/cgroup/\(fields[1])\(fields[2])".replacingOccurrences(of: container, with: stranger)
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let sandbox = Process()
            sandbox.executableURL = URL(fileURLWithPath: "/bin/sleep")
            sandbox.arguments = ["600"]
            try sandbox.run()
            try "\(sandbox.processIdentifier)"
                .write(toFile: folder + "/cgroup.procs", atomically: false, encoding: .utf8)
            try await untilTrue("it is reported", within: 20) {
                guard case .array(let found)? = try await cradle.agent.status()["orphan_sandboxes"] else {
                    return false
                }
                return found.contains { $0["container"]?.text == stranger }
            }
            #expect(sandbox.isRunning)
            kill(sandbox.processIdentifier, SIGKILL)
            try await untilTrue("it ends") { !sandbox.isRunning }
            rmdir(folder)
            try await cradle.isWell("an orphan sandbox")
            try await cradle.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `two agents with one identity are frozen until a person has looked, and the data has one writer`()
            async throws
        {
            let cradle = try await Cradle("doubled")
            let container = try await cradle.settled()
            let twin = try TestAgent(copyOf: cradle.agent)
            try await twin.start()
            try await untilTrue("the identity is frozen", within: 90) {
                try await cradle.client.container("agent:\(cradle.agent.id)").text("status") == "duplicate"
            }
            // Both go on converging one Engine: dead, gone, restarted, and yet never two.
            try await cradle.engine.killContainer(container)
            try await untilTrue("it runs again", within: 30) { try await cradle.running() == [container] }
            try await cradle.engine.removeContainer(container, force: .killFirst)
            let next = try await eventually("another one runs", within: 60) { try await cradle.running().first }
            #expect(cradle.writers.most <= 1)
            let sum = try await cradle.engine.run("sha256sum \(cradle.volumePath)/precious", in: next)
            #expect(sum == cradle.checksum)

            // One of them is ended, a person says so, and the other is taken back.
            try await twin.stop()
            try await cradle.agent.stop()
            let freed = try await cradle.client.call(.POST, "/api/containers/agent:\(cradle.agent.id)/start")
            #expect(freed.status == 200, "\(freed)")
            try await cradle.agent.start()
            try await agentIsOnline(cradle.client, cradle.agent)
            try await cradle.isWell("two agents with one identity")
            try await cradle.isSilent()
            try await cradle.end()
        }

        @Test(.timeLimit(.minutes(3)))
        func `a clock that is stepped by an hour, forward and back, touches nothing`() async throws {
            let folder = try TemporaryFolder()
            let shim = try await steppedClock(in: folder)
            let cradle = try await Cradle(
                "stepped", settings: ["LD_PRELOAD": shim, "BERTH_TEST_CLOCK": folder.file("offset")])
            let container = try await cradle.settled()
            let startedAt = try await cradle.engine.inspectContainer(container).state.startedAt
            for offset in ["3600", "-3600"] {
                try offset.write(toFile: folder.file("offset"), atomically: true, encoding: .utf8)
                try await cradle.isSilent()
                #expect(try await cradle.isWell("a step of \(offset) s") == container)
                #expect(try await cradle.engine.inspectContainer(container).state.startedAt == startedAt)
            }
            // And it still works: a death is answered, a replacement finished.
            try await cradle.engine.killContainer(container)
            #expect(try await cradle.isWell("a death an hour ago") == container)
            let patched = try await cradle.client.call(.PATCH, "/api/containers/\(cradle.id)", #"{"disk_mb":5000}"#)
            #expect(patched.status == 200, "\(patched)")
            try await cradle.isWell("a replacement by a wrong clock")
            try await cradle.end()
        }

        /// A library that adds what is in a file to the wall clock of one process: the machine's own clock is everybody's.
        private func steppedClock(in folder: TemporaryFolder) async throws -> String {
            try "0".write(toFile: folder.file("offset"), atomically: true, encoding: .utf8)
            let source = """
                #define _GNU_SOURCE
                #include <dlfcn.h>
                #include <stdio.h>
                #include <stdlib.h>
                #include <sys/time.h>
                #include <time.h>
                static long offset(void) {
                    long seconds = 0;
                    const char *path = getenv("BERTH_TEST_CLOCK");
                    FILE *file = path ? fopen(path, "r") : NULL;
                    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
                    return seconds;
                }
                int clock_gettime(clockid_t clock, struct timespec *now) {
                    static int (*real)(clockid_t, struct timespec *);
                    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
                    int result = real(clock, now);
                    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += offset();
                    return result;
                }
                int gettimeofday(struct timeval *restrict now, void *restrict zone) {
                    struct timespec exact;
                    (void)zone;
                    clock_gettime(CLOCK_REALTIME, &exact);
                    now->tv_sec = exact.tv_sec;
                    now->tv_usec = exact.tv_nsec / 1000;
                    return 0;
                }
                """
            try source.write(toFile: folder.file("clock.c"), atomically: true, encoding: .utf8)
            let built = try await RunningProgram.run(
                "/usr/bin/env", ["clang", "-shared", "-fPIC", "-o", folder.file("clock.so"), folder.file("clock.c")])
            try #require(built.status == 0, "\(built.output)")
            return folder.file("clock.so")
        }
    }
}
