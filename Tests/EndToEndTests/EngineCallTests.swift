import DockerEngine
import Foundation
import NIOCore
import Synchronization
import Testing

/// Every call of `DockerEngine` against the real Engine.
extension RealParts {
    @Suite(.serialized) struct EngineCalls {
        @Test func `version, ping, info`() async throws {
            let engine = try await TestEnvironment.engine()
            #expect(engine.version >= DockerEngine.oldestVersion)
            try await engine.ping()
            let info = try await engine.info()
            #expect(info.cpus > 0 && info.memTotal > 0 && info.runtimes?["runsc"] != nil)
        }

        @Test func `a container's life: create, start, exec, logs, stats, stop, wait, kill, remove`() async throws {
            let engine = try await TestEnvironment.engine()
            try await engine.pullQuietly("archlinux:latest")
            let name = "life-\(UUID().uuidString.prefix(8))"
            let script = "echo to-out; echo to-err >&2; trap 'exit 7' TERM; while :; do sleep 0.1; done"
            let created = try await engine.createContainer(
                name: name,
                ContainerSpecification(
                    image: "archlinux:latest", command: ["sh", "-c", script], environment: ["A=b c"],
                    labels: ["life": name]))
            #expect(try await engine.listContainers(filters: ["label": ["life=\(name)"]]).map(\.state) == ["created"])
            #expect(try await engine.startContainer(created.id) == .changed)
            #expect(try await engine.startContainer(created.id) == .alreadySo)
            #expect(try await engine.inspectContainer(name).state.pid > 0)
            #expect(try await engine.run("echo $A", in: created.id) == "b c\n")

            let chunks = Mutex<[OutputChunk.Stream: String]>([:])
            try await untilTrue("both streams are logged") {
                chunks.withLock { $0 = [:] }
                try await engine.logs(created.id) { chunk in
                    chunks.withLock { $0[chunk.stream, default: ""] += String(buffer: chunk.bytes) }
                }
                return chunks.withLock { $0 == [.standardOutput: "to-out\n", .standardError: "to-err\n"] }
            }
            let stats = try await engine.oneShotStats(created.id)
            #expect(stats.cpu_stats.cpu_usage.total_usage > 0)
            #expect(try await engine.stopContainer(created.id, graceSeconds: 10) == .changed)
            #expect(try await engine.stopContainer(created.id, graceSeconds: 10) == .alreadySo)
            #expect(try await engine.waitContainer(created.id, deadline: .seconds(10)) == 7)
            try await engine.startContainer(created.id)
            try await engine.killContainer(created.id)
            #expect(try await engine.waitContainer(created.id, deadline: .seconds(10)) == 137)
            try await engine.removeContainer(created.id)
            await #expect(throws: EngineError.self) { try await engine.inspectContainer(created.id) }
        }

        @Test func `an exec with a TTY is a terminal, and can be resized`() async throws {
            let engine = try await TestEnvironment.engine()
            try await engine.pullQuietly("archlinux:latest")
            let id = try await engine.createContainer(
                name: "tty-\(UUID().uuidString.prefix(8))",
                ContainerSpecification(image: "archlinux:latest", command: ["sleep", "600"])
            ).id
            try await engine.startContainer(id)
            let exec = try await engine.createExec(id, .init(command: ["sh"], allocatesTTY: true, attachesInput: true))
            let channel = try await engine.startExec(exec, allocatesTTY: true)
            try await engine.resizeExec(exec, columns: 123, rows: 45)
            let seen = try await channel.executeThenClose { inbound, outbound in
                try await outbound.write(ByteBuffer(string: "stty size; tty; exit 5\n"))
                var text = ""
                for try await bytes in inbound { text += String(buffer: bytes) }
                return text
            }
            #expect(seen.contains("45 123") && seen.contains("/dev/pts/"), "\(seen)")
            try await untilTrue("the exit code is known") { try await engine.inspectExec(exec).exitCode == 5 }
            await #expect(throws: EngineError.self) { try await engine.startExec("0000", allocatesTTY: true) }
            try await engine.removeContainer(id, force: .killFirst)
        }

        @Test func `a pull tells its progress, and a cancelled one ends at once`() async throws {
            let engine = try await TestEnvironment.engine()
            // The two share a layer: with either of them there is nothing to download.
            for image in ["ubuntu:24.04", "debian:bookworm"] { try await engine.removeImageIfThere(image) }
            let messages = Mutex<[PullMessage]>([])
            let pull = Task {
                try await engine.pullImage("debian:bookworm") { message in messages.withLock { $0.append(message) } }
            }
            try await untilTrue("it is downloading") {
                messages.withLock { $0.contains { $0.status == "Downloading" } }
            }
            let cancelled = ContinuousClock.now
            pull.cancel()
            await #expect(throws: CancellationError.self) { try await pull.value }
            #expect(cancelled.duration(to: .now) < .seconds(5))
            try await engine.pullImage("debian:bookworm") { message in messages.withLock { $0.append(message) } }
            #expect(messages.withLock { $0.contains { $0.status == "Pull complete" } })
            #expect(try await engine.inspectImage("debian:bookworm").size > 1_000_000)
            try await engine.removeImage("debian:bookworm")
        }

        @Test func `the four documented images can be pulled by their names and run`() async throws {
            let engine = try await TestEnvironment.engine()
            for (image, id) in [
                ("alpine:latest", "alpine"), ("ubuntu:24.04", "ubuntu"), ("debian:bookworm", "debian"),
                ("archlinux:latest", "arch"),
            ] {
                try await engine.pullQuietly(image)
                let container = try await engine.createContainer(
                    name: "image-\(id)-\(UUID().uuidString.prefix(8))",
                    ContainerSpecification(image: image, opensStandardInput: true)
                ).id
                try await engine.startContainer(container)
                #expect(try await engine.run("cat /etc/os-release", in: container).contains("ID=\(id)"))
                try await engine.removeContainer(container, force: .killFirst)
            }
        }

        @Test func `errors name call, object and the Engine's message`() async throws {
            let engine = try await TestEnvironment.engine()
            let missing = await #expect(throws: EngineError.self) { try await engine.inspectContainer("no-such") }
            #expect(
                missing?.status == 404
                    && missing?.description.hasPrefix("container inspect no-such: refused with 404: ") == true)
            let pull = await #expect(throws: EngineError.self) {
                try await engine.pullQuietly("127.0.0.1:1/no/such:image")
            }
            #expect(
                pull?.call == "image pull" && pull?.object == "127.0.0.1:1/no/such:image", "\(String(describing: pull))"
            )
            let malformed = await #expect(throws: EngineError.self) { try await engine.pullQuietly("UPPER//case") }
            #expect(malformed?.status == 400, "\(String(describing: malformed))")
            // Text from outside must stay inside its path segment.
            let tricky = await #expect(throws: EngineError.self) {
                try await engine.inspectContainer("../info?x=1#y\r\nA: b")
            }
            #expect([400, 404].contains(tricky?.status), "\(String(describing: tricky))")
            let nobody = try #require(EngineEndpoint("unix:///nobody/there.sock"))
            let unreachable = await #expect(throws: EngineError.self) {
                try await DockerEngine.negotiate(nobody, group: TestEnvironment.group)
            }
            #expect(unreachable?.kind == .unreachable)
        }

        @Test func `events since a moment are replayed, and filters hold`() async throws {
            let engine = try await TestEnvironment.engine()
            try await engine.pullQuietly("archlinux:latest")
            let since = Date().timeIntervalSince1970 - 1
            let label = UUID().uuidString
            let id = try await engine.createContainer(
                name: "event-\(label.prefix(8))",
                ContainerSpecification(image: "archlinux:latest", command: ["true"], labels: ["event": label])
            ).id
            try await engine.startContainer(id)
            _ = try await engine.waitContainer(id, deadline: .seconds(20))
            struct Enough: Error {}
            let actions = Mutex<[String]>([])
            await #expect(throws: Enough.self) {
                try await engine.events(since: since, filters: ["label": ["event=\(label)"]]) { event in
                    actions.withLock { $0.append(event.action) }
                    if event.action == "die" { throw Enough() }
                }
            }
            #expect(actions.withLock { $0.filter { $0 != "attach" } } == ["create", "start", "die"])
            try await engine.removeContainer(id)
        }

        @Test func `volumes and networks`() async throws {
            let engine = try await TestEnvironment.engine()
            let name = "berth-test-\(UUID().uuidString.prefix(8).lowercased())"
            #expect(try await engine.createVolume(name: name, labels: ["a": "b"]).name == name)
            #expect(try await engine.listVolumes(filters: ["name": [name]]).map(\.name) == [name])
            #expect(try await engine.inspectVolume(name).labels == ["a": "b"])
            try await engine.removeVolume(name)
            await #expect(throws: EngineError.self) { try await engine.inspectVolume(name) }
            let id = try await engine.createNetwork(
                name: name, options: ["com.docker.network.bridge.enable_icc": "false"], labels: ["a": "b"])
            #expect(try await engine.inspectNetwork(name).id == id)
            #expect(try await engine.listNetworks(filters: ["name": [name]]).first?.labels == ["a": "b"])
            let conflict = await #expect(throws: EngineError.self) { try await engine.createNetwork(name: name) }
            #expect(conflict?.status == 409)
            try await engine.removeNetwork(name)
        }
    }
}
