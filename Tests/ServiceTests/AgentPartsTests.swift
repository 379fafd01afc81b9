import AgentCore
import BerthModel
import DockerEngine
import Foundation
import ServiceRuntime
import Testing

@testable import HostAgent

@Suite struct AgentParts {
    private func message(_ status: String, _ id: String, _ current: Int? = nil, _ total: Int? = nil) -> PullMessage {
        PullMessage(status: status, id: id, progressDetail: .init(current: current, total: total))
    }

    @Test func `layers of a pull add up and never go back`() {
        var progress = PullProgress()
        var shares: [Double] = []
        func heard(_ message: PullMessage) {
            if let amount = progress.heard(message) { shares.append(Double(amount.done) / Double(amount.total)) }
        }
        heard(message("Pulling fs layer", "a"))
        heard(message("Downloading", "a", 50, 100))
        heard(message("Downloading", "b", 0, 300))
        heard(message("Download complete", "a"))
        heard(message("Extracting", "a", 100, 100))
        heard(message("Downloading", "b", 999, 300))
        heard(message("Pull complete", "a"))
        heard(message("Pull complete", "b"))
        heard(message("Already exists", "c"))
        heard(PullMessage(status: "Digest: sha256:…", id: nil, progressDetail: nil))
        #expect(shares == shares.sorted() && shares.last == 1 && shares.first == 0.25, "\(shares)")
    }

    @Test func `sizes that a registry makes up stop nobody`() {
        var progress = PullProgress()
        for (index, total) in [Int.max, Int.max, Int.min, -1, 0, 5_000_000_000_000_000_000].enumerated() {
            for status in ["Downloading", "Extracting", "Pull complete"] {
                if let amount = progress.heard(message(status, "l\(index)", total, total)) {
                    #expect(amount.done >= 0 && amount.done <= amount.total)
                }
            }
        }
        for index in 0..<5000 { _ = progress.heard(message("Downloading", "m\(index)", .max, .max)) }
    }

    @Test func `cgroup paths of both versions and drivers`() {
        let v1 = "5:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/\n"
        #expect(
            CgroupCounters.paths(v1)["cpuacct"] == "/docker/abc" && CgroupCounters.paths(v1)["memory"] == "/docker/abc")
        #expect(CgroupCounters.paths("0::/system.slice/docker-abc.scope\n")[""] == "/system.slice/docker-abc.scope")
        #expect(CgroupCounters(pid: 1, cgroupText: "") == nil)
        #expect(CgroupCounters(pid: 1, cgroupText: "0::/\n") == nil)
    }

    @Test func `counters are read from files as the kernel writes them`() throws {
        let root = try Folder()
        let files = FileManager.default
        try files.createDirectory(atPath: root.path + "/c", withIntermediateDirectories: true)
        try root.write("c/cpu.stat", "usage_usec 1234567\nuser_usec 1\n")
        try root.write("c/memory.current", "1000000\n")
        try root.write("c/memory.stat", "anon 5\ninactive_file 400000\n")
        let counters = try #require(CgroupCounters(pid: 1, cgroupText: "0::/c\n", root: root.path))
        let reading = try #require(counters.read())
        #expect(reading.cpuMicroseconds == 1_234_567 && reading.memoryBytes == 600_000)
        try root.write("c/cpu.stat", "garbage")
        #expect(counters.read() == nil)
        let dev =
            "Inter-|\n face |\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n"
        #expect(CgroupCounters.network(dev) == (100, 200))
        #expect(CgroupCounters.network("x") == (0, 0))
    }

    @Test func `whatever moment an agent names, its text is one that can be written`() {
        var record = ActionRecord(
            number: 1, at: 1e300, workload: WorkloadID(validated: "w"), generation: .max, action: "", reason: "",
            result: .failed, milliseconds: .max)
        for moment in [1e300, -1e300, .nan, .infinity, 0, 1_700_000_000] {
            record.at = moment
            #expect(Timestamp.text(seconds: record.bounded().at).count > 10)
            #expect(Timestamp.text(seconds: moment).count > 10)
        }
        #expect(record.bounded().generation <= 1 << 40)
    }

    @Test func `labels of somebody else are nobody of ours`() {
        let agent = AgentID(validated: "a1")
        let good = [
            "berth.agent": "a1", "berth.workload": "w1", "berth.generation": "2", "berth.spec": "00",
            "berth.attempt": "1",
        ]
        #expect(ContainerLabels.identity(good, names: ["/x"], agent: agent)?.workload.text == "w1")
        // Made from an image that was committed from one of ours: its labels, another name.
        let named = good.merging(["berth.name": "berth-w-g1"]) { $1 }
        #expect(ContainerLabels.identity(named, names: ["/berth-w-g1"], agent: agent) != nil)
        #expect(ContainerLabels.identity(named, names: ["/rescued"], agent: agent) == nil)
        #expect(ContainerLabels.identity(named, names: [], agent: agent) != nil)
        #expect(ContainerLabels.identity(good, names: ["/x"], agent: AgentID(validated: "a2")) == nil)
        for key in good.keys {
            var broken = good
            broken[key] = nil
            #expect(ContainerLabels.identity(broken, names: ["/x"], agent: agent) == nil, "without \(key)")
        }
        #expect(
            ContainerLabels.identity(good.merging(["berth.workload": "../x"]) { $1 }, names: ["/x"], agent: agent)
                == nil)
        let huge = good.merging(["berth.attempt": "9223372036854775807"]) { $1 }
        #expect(ContainerLabels.identity(huge, names: ["/x"], agent: agent) == nil)
        #expect(
            ContainerLabels.identity(good.merging(["berth.generation": "many"]) { $1 }, names: ["/x"], agent: agent)
                == nil)
    }

    @Test func `what the Engine's errors mean for a step`() {
        let id = EngineContainerID(validated: "c")
        func result(_ action: Step.Action, _ kind: EngineError.Kind, _ message: String = "") -> StepOutcome.Result {
            StepResults.result(of: action, EngineError(kind: kind, call: "x", object: "y", message: message))
        }
        #expect(result(.stop(id, graceSeconds: 1), .refused(status: 404)) == .succeeded)
        #expect(result(.remove(id), .refused(status: 404)) == .succeeded)
        #expect(result(.start(id), .refused(status: 404)) == .superseded)
        #expect(result(.start(id), .unreachable) == .superseded)
        func failure(_ action: Step.Action, _ kind: EngineError.Kind, _ message: String = "") -> StepFailure? {
            if case .failed(let failure) = result(action, kind, message) { return failure }
            return nil
        }
        #expect(failure(.start(id), .timedOut)?.reason == "start_failed_timeout")
        #expect(failure(.pull(image: "x"), .pullFailed, "manifest unknown")?.reason == "image_not_found")
        #expect(failure(.pull(image: "x"), .refused(status: 400))?.isPermanent == true)
        #expect(failure(.pull(image: "x"), .cutOff)?.isPermanent == false)
    }

    @Test(arguments: [
        (
            "driver failed programming external connectivity on endpoint x (90e36): Bind for 0.0.0.0:8080 failed: port is"
                + " already allocated", 8080
        ),
        (
            "driver failed programming external connectivity on endpoint x (90e36): Error starting userland proxy: listen"
                + " tcp4 0.0.0.0:20099: bind: address already in use", 20_099
        ),
        (
            "failed to set up container networking: driver failed programming external connectivity on endpoint x (90e36):"
                + " failed to bind host port for 0.0.0.0:53:172.17.0.2:5353/udp: address already in use", 53
        ),
    ])
    func `a start that finds a port of the host taken says which, in the words of every Engine`(
        words: String, port: Int
    ) {
        let id = EngineContainerID(validated: "c")
        func failure(_ action: Step.Action, _ message: String) -> StepFailure? {
            let error = EngineError(
                kind: .refused(status: 500), call: "container start", object: "c", message: message)
            guard case .failed(let failure) = StepResults.result(of: action, error) else { return nil }
            return failure
        }
        let taken = failure(.start(id), words)
        #expect(taken?.reason == "port_taken" && taken?.isPermanent == false)
        #expect(taken?.message.hasPrefix("port \(port) of this host is taken; container start c: ") == true)
        #expect(taken?.message.hasSuffix(words) == true)
        // Of no port, and of no start.
        #expect(failure(.start(id), "listen unix /run/x.sock: bind: address already in use")?.reason == "start_failed")
        #expect(failure(.start(id), "Bind for 0.0.0.0:8080 failed")?.reason == "start_failed")
        #expect(failure(.stop(id, graceSeconds: 1), words)?.reason == "stop_failed")
    }

    private func order(_ ports: [PublishedPort]?) -> ContainerOrder {
        ContainerOrder(
            name: "berth-one", workload: WorkloadID(validated: "w1"), generation: 1, attempt: 1,
            spec: WorkloadSpec(name: "one", image: "alpine", ports: ports), imageID: "sha256:1", engineRuntime: "runc",
            fellBackTo: nil, volumes: [], existingVolumes: [], limits: EngineLimits(memory: 1, nanoCPUs: 1, pids: 1))
    }

    @Test func `ports are published on all addresses of the host, and none that was not asked for`() throws {
        func json(_ ports: [PublishedPort]?) throws -> JSONValue {
            let specification = ContainerTemplate.specification(order(ports), agent: AgentID(validated: "a1"))
            return try JSONCoding.decode(JSONValue.self, from: try JSONCoding.encodeText(specification))
        }
        let made = try json([
            PublishedPort(container: 80, host: 8080), PublishedPort(container: 80, host: 8081),
            PublishedPort(container: 53, host: 53, transport: .udp),
        ])
        func place(_ port: String) -> JSONValue { .object(["HostIp": .string(""), "HostPort": .string(port)]) }
        #expect(
            made["HostConfig"]?["PortBindings"]
                == .object(["80/tcp": .array([place("8080"), place("8081")]), "53/udp": .array([place("53")])]))
        #expect(made["ExposedPorts"] == .object(["80/tcp": .object([:]), "53/udp": .object([:])]))
        for none in [nil, []] as [[PublishedPort]?] {
            let plain = try json(none)
            #expect(plain["ExposedPorts"] == nil && plain["HostConfig"]?["PortBindings"] == nil, "\(plain)")
        }
    }
}
