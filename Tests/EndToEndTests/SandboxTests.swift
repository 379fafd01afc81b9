import DockerEngine
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Testing

/// What a container must not be able to do, tried from inside one: `docs/sandbox.md` has the table.
extension RealParts {
    @Suite(.serialized) struct Sandbox {
        @Test(.timeLimit(.minutes(4)), arguments: ["runc", "gvisor"])
        func `nobody gets out of a container by what its defaults leave`(runtime: String) async throws {
            let house = try await House("sandbox-\(runtime)")
            let inside = try await house.container("inside", runtime: runtime, image: "debian")
            let neighbour = try await house.container("neighbour", runtime: runtime)
            let details = try await house.engine.inspectContainer(inside)
            func output(_ command: String) async throws -> String {
                try await house.engine.run("(\(command)) 2>&1; true", in: inside)
            }
            func refused(_ command: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
                let said = try await output("\(command) && echo WENT-THROUGH")
                #expect(!said.contains("WENT-THROUGH"), "\(command): \(said)", sourceLocation: sourceLocation)
            }

            // Rights: these and no others, for root too; and a set-user-id program gives none.
            let status = try await output("cat /proc/self/status")
            let mask = try #require(
                status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }?.split(whereSeparator: \.isWhitespace)
                    .last.flatMap { UInt64($0, radix: 16) })
            let allowed: [UInt64] = [0, 1, 3, 4, 5, 6, 7, 10]
            #expect(mask == allowed.reduce(0) { $0 | 1 << $1 }, "\(String(mask, radix: 2))")
            try await refused("mount -t tmpfs none /mnt")
            try await refused("mknod /root/disk b 8 0")
            try await refused("chroot / true")
            try await refused("hostname other")
            try await refused("ip link add name dummy7 type dummy")
            #expect(
                try await output(
                    "cp /usr/bin/id /var/tmp/id && chmod 4755 /var/tmp/id && setpriv --reuid 1000 /var/tmp/id -u")
                    == "1000\n")

            // The host: none of its files but the three of the network, no socket of the Engine, no devices of its disks.
            let mounts = try await output("cat /proc/mounts")
            #expect(!mounts.contains("docker.sock") && !mounts.contains("/var/lib/berth/"), "\(mounts)")
            #expect(!FileManager.default.fileExists(atPath: "/berth-was-here"))
            try await refused("test -e /var/run/docker.sock")
            try await refused("ls /dev | grep -E '^(sd|vd|nvme|loop|mem|kmsg|kvm)'")
            try await refused("echo 1 > /proc/sys/kernel/panic")
            try await refused("echo b > /proc/sysrq-trigger")
            try await refused(
                "f=$(find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max | head -n 1); test -n \"$f\" && echo -1 > $f"
            )

            // The network: outwards, and to no other container; nothing is published.
            let address = try #require(try await house.engine.inspectContainer(neighbour).address)
            let listening = Task { [engine = house.engine] in
                try await engine.run("echo reached | timeout 20 nc -l -p 7777; true", in: neighbour)
            }
            _ = try await eventually("the neighbour listens", within: 10) {
                let open = try await house.engine.run(
                    "netstat -ltn 2>/dev/null; cat /proc/net/tcp; true", in: neighbour)
                return open.contains("7777") || open.contains("1E61") ? true : nil
            }
            let reach = "timeout 3 bash -c 'exec 3<>/dev/tcp/\(address)/7777; cat <&3'"
            #expect(!(try await output(reach)).contains("reached"))
            // The check can fail: it is there for itself.
            #expect(try await house.engine.run("echo | timeout 3 nc 127.0.0.1 7777", in: neighbour).contains("reached"))
            _ = try await listening.value
            #expect(details.hostConfiguration.networkMode == "berth")

            // Room in /tmp is memory of its own, and bounded.
            #expect(try await output("stat -f -c %T /tmp").contains("tmpfs"))
            try await refused("head -c 200000000 /dev/zero > /tmp/much")
            try await house.end()
        }

        @Test(.timeLimit(.minutes(4)), arguments: ["runc", "gvisor"])
        func `a fork bomb stays in its container`(runtime: String) async throws {
            let house = try await House("bomb-\(runtime)")
            let inside = try await house.container("bomb", runtime: runtime, image: "debian")
            let neighbour = try await house.container("neighbour", runtime: runtime)
            // However it ends: a sandbox may go down with it, and that is contained too.
            let bomb = Task { [engine = house.engine] in
                let exec = try await engine.createExec(
                    inside, .init(command: ["timeout", "10", "bash", "-c", "f() { f | f & }; f; sleep 8"]))
                try await engine.startExec(exec, allocatesTTY: false).executeThenClose { output, _ in
                    for try await _ in output {}
                }
            }
            var most = 0
            for _ in 0..<20 {
                let pid = (try? await house.engine.inspectContainer(inside).state.pid) ?? 0
                if pid > 0, let count = House.processes(of: pid) { most = max(most, count) }
                // Beside it life goes on.
                #expect(try await house.engine.run("echo alive", in: neighbour) == "alive\n")
                try await Task.sleep(for: .milliseconds(200))
            }
            #expect(most > 10 && most <= 512, "\(most) processes of the host at once")
            // Its container may be too busy with itself to end it.
            bomb.cancel()
            try await house.end()
        }

        @Test(.timeLimit(.minutes(4)), arguments: ["runc", "gvisor"])
        func `a busy loop gets its share of the processor and no more, and memory over the limit ends it`(
            runtime: String
        ) async throws {
            let house = try await House("limits-\(runtime)")
            let inside = try await house.container("limits", runtime: runtime, image: "debian")
            let pid = try await house.engine.inspectContainer(inside).state.pid
            let loop = Task { [engine = house.engine] in
                try? await engine.run("timeout 9 sh -c 'while :; do :; done'; true", in: inside)
            }
            try await Task.sleep(for: .seconds(1))
            let before = try #require(House.cpuSeconds(of: pid))
            let start = ContinuousClock.now
            try await Task.sleep(for: .seconds(6))
            let share = (try #require(House.cpuSeconds(of: pid)) - before) / (start.duration(to: .now) / .seconds(1))
            #expect(share > 0.3 && share < 0.6, "0.5 of a core was allowed, \(share) used")
            _ = await loop.value

            // The main process itself goes over its memory.
            let eater = try await house.client.create(
                "eater", runtime: runtime, image: "debian",
                more: #","command":["perl","-e","sleep 2; my @a; push @a, 'x' x 10000000 for 1..200; sleep 60"]"#)
            let ended = try await eventually("it is killed and said to be", within: 60) { () -> JSONValue? in
                let answer = try await house.client.container(eater)
                return answer.body["oom_killed"] == .bool(true) || answer.text("message")?.contains("memory") == true
                    ? answer.body : nil
            }
            #expect(ended["id"] != nil)
            try await house.end()
        }

        @Test(.timeLimit(.minutes(4)))
        func `a disk limit is kept where the host can, under both runtimes, and gone with the container`() async throws
        {
            let host = try await PrivateEngine(["--quota", "3000"])
            let house = try await House("quota", engine: try await host.engine(), endpoint: host.endpoint)
            for runtime in ["runc", "gvisor"] {
                let id = try await house.client.create(runtime, runtime: runtime, cpu: 2000, more: #","disk_mb":1024"#)
                let entry = try await house.client.untilStatus("running", id)
                let container = try #require(entry["id"]?.text)
                #expect(entry["resources"]?["unenforced"]?["disk_mb"] == nil, "\(entry)")
                func write() async throws -> String {
                    let running = try #require(try await house.client.container(id).text("id"))
                    return try await house.engine.run(
                        "dd if=/dev/zero of=/full bs=1M count=1100 2>&1; rm -f /full; true", in: running)
                }
                let said = try await write()
                #expect(said.contains("quota"), "\(runtime): \(said)")
                // After a restart it still is.
                let stopped = try await house.client.call(.POST, "/api/containers/\(id)/stop")
                #expect(stopped.status == 200, "\(stopped)")
                #expect(try await house.client.call(.POST, "/api/containers/\(id)/start").status == 200)
                try await house.client.untilStatus("running", id)
                #expect(try await write().contains("quota"), "\(runtime), after a restart")
                // Another limit is another container; the volume's data comes along.
                _ = try await house.engine.run("echo kept > /root/kept && sync", in: container)
                let patched = try await house.client.call(.PATCH, "/api/containers/\(id)", #"{"disk_mb":2048}"#)
                #expect(patched.status == 200, "\(patched)")
                let next = try #require(try await house.client.untilStatus("running", id)["id"]?.text)
                #expect(next != container)
                #expect(try await house.engine.run("cat /root/kept", in: next) == "kept\n")
                #expect(
                    try await house.engine.run(
                        "dd if=/dev/zero of=/more bs=1M count=1100 2>/dev/null && rm /more && echo fits", in: next)
                        == "fits\n")
            }
            try await house.end()
            try await host.down()
        }

        @Test(.timeLimit(.minutes(3)))
        func `a limit that the host cannot keep is said to be unenforced, with the reason`() async throws {
            let house = try await House("unenforced")
            let id = try await house.client.create("plain", more: #","disk_mb":1024"#)
            let entry = try await house.client.untilStatus("running", id)
            let reason = try #require(entry["resources"]?["unenforced"]?["disk_mb"]?.text, "\(entry)")
            #expect(reason.contains("storage-opt"), "\(reason)")
            try await house.end()
        }

        @Test(.timeLimit(.minutes(4)))
        func `a runtime that does not work is found by a start, and what needs it waits with the reason`() async throws
        {
            let host = try await PrivateEngine()
            try host.letStartsHang(true)
            let house = try await House(
                "probe", engine: try await host.engine(), endpoint: host.endpoint,
                settings: ["BERTH_RUNTIMES": "runc=runc,gvisor=hang"])
            func finding() async throws -> JSONValue? {
                let entry = try await house.client.call(.GET, "/api/containers/agent:\(house.agent.id)")
                guard case .array(let findings)? = entry.body["engine"]?["findings"] else { return nil }
                return findings.first { $0["runtime"]?.text == "gvisor" }
            }
            let id = try await house.client.create("needs-gvisor", runtime: "gvisor")
            try await untilTrue("the probe has found it", within: 40) { try await finding()?["works"] == .bool(false) }
            #expect(try await finding()?["problem"]?.text?.contains("no answer") == true)
            let waiting = try await house.client.container(id)
            #expect(waiting.text("status") == "creating", "\(waiting)")
            #expect(waiting.text("message")?.contains("gvisor") == true, "\(waiting)")
            try await house.client.untilStatus("running", try await house.client.create("plain"))

            // As soon as it works, it is used; nothing is left of the probes.
            try host.letStartsHang(false)
            try await house.client.untilStatus("running", id, within: 100)
            #expect(try await house.engine.listContainers(filters: ["label": ["berth.probe"]]).isEmpty)
            try await house.end()
            try await host.down()
        }

        @Test(.timeLimit(.minutes(3)))
        func `names are answered in a sandbox by servers that it can reach`() async throws {
            let house = try await House("names", settings: ["BERTH_NAME_SERVERS": "192.0.2.53,192.0.2.54"])
            let sandboxed = try await house.container("sandboxed", runtime: "gvisor")
            let text = try await house.engine.run("cat /etc/resolv.conf", in: sandboxed)
            #expect(text.contains("nameserver 192.0.2.53\nnameserver 192.0.2.54"), "\(text)")
            _ = try await house.engine.run("! (echo nameserver 1.2.3.4 > /etc/resolv.conf) 2>/dev/null", in: sandboxed)
            let plain = try await house.container("plain", runtime: "runc")
            #expect(try await house.engine.run("cat /etc/resolv.conf", in: plain).contains("127.0.0.11"))
            try await house.end()
        }
    }
}
