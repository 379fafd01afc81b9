import AgentCore
import BerthModel
import Testing

/// What the owner of a host allows, and what becomes of what they do not.
@Suite struct HostPolicyRules {
    private func policy(_ change: (inout HostPolicy) -> Void) -> HostPolicy {
        var policy = HostPolicy()
        change(&policy)
        return policy
    }

    @Test(arguments: [
        ("alpine", "docker.io/library/alpine:latest"), ("team/app:1", "docker.io/team/app:1"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine:latest"),
        ("localhost/app", "localhost/app:latest"), ("EVIL/app", "EVIL/app:latest"),
        ("host:5000/a/b:2", "host:5000/a/b:2"),
        ("alpine@sha256:ab", "docker.io/library/alpine@sha256:ab"),
        ("ghcr.io/a/b:1@sha256:ab", "ghcr.io/a/b:1@sha256:ab"),
    ])
    func `every way to write an image is one image`(text: String, full: String) {
        #expect(ImageReference(text)?.description == full)
    }

    @Test(arguments: ["", " ", "a b", "a//b", "/a", "a/", "a:", "a@", "a@b@c", "x.io/"])
    func `what is no reference is none`(text: String) { #expect(ImageReference(text) == nil) }

    @Test(arguments: ["sha256:0d494d1ed0aa", "3f57d9401f8d", "ABCDEF"])
    func `an id of an image is no name of it`(text: String) {
        let strict = policy { $0.registries = ["docker.io"] }
        #expect(strict.refusal(of: Sample.spec(image: text))?.rule == "images")
        #expect(HostPolicy().refusal(of: Sample.spec(image: text)) == nil)
    }

    @Test func `a pattern is the whole text, with any text for a star`() {
        let holds = [
            ("docker.io/library/alpine:latest", "docker.io/library/*"), ("abc", "*"), ("", "*"), ("abc", "a*c"),
            ("ac", "a*c"), ("LD_PRELOAD", "LD_*"), ("abcbc", "a*bc"), ("axbyc", "a*b*c"), ("x", "x"),
        ]
        for (text, pattern) in holds { #expect(HostPolicy.matches(text, pattern), "\(text) \(pattern)") }
        let fails = [
            ("docker.io.evil.com/library/x", "docker.io/*"), ("abc", "ab"), ("ab", "abc"), ("a", "a*a"), ("", "x"),
            ("xabc", "a*"), ("abcx", "*c"), ("acb", "a*b*c"),
        ]
        for (text, pattern) in fails { #expect(!HostPolicy.matches(text, pattern), "\(text) \(pattern)") }
    }

    @Test func `no port is published but those that are allowed, and who asks for another is told which are`() {
        func refusal(_ allowed: [ClosedRange<Int>], _ hosts: Int...) -> HostPolicy.Refusal? {
            var spec = Sample.spec()
            spec.ports = hosts.map { PublishedPort(container: 80, host: $0) }
            return policy { $0.ports = allowed }.refusal(of: spec)
        }
        #expect(refusal([]) == nil)
        #expect(
            refusal([], 8080)?.message
                == "policy.ports of this host: port 8080 may not be published; allowed: none")
        let some = [8080...8080, 20_000...20_999]
        for port in [8080, 20_000, 20_500, 20_999] { #expect(refusal(some, port) == nil, "\(port)") }
        for port in [1, 80, 8079, 8081, 19_999, 21_000, 65_535] {
            #expect(refusal(some, port)?.rule == "ports", "\(port)")
        }
        // The one that is not allowed is named, wherever it stands. What a port leads to inside is nobody's business.
        #expect(
            refusal(some, 8080, 22, 20_000)?.explanation
                == "port 22 may not be published; allowed: 8080, 20000-20999")
    }

    @Test(arguments: [
        ("8080", 8080...8080), ("20000-20999", 20_000...20_999), ("1-65535", 1...65_535), ("08080", 8080...8080),
        ("7-7", 7...7),
    ])
    func `ports are allowed one by one or from a first to a last`(text: String, range: ClosedRange<Int>) {
        #expect(HostPolicy.portRange(text) == range)
    }

    @Test(arguments: [
        "", "-", "0", "65536", "8080-", "-8080", "2-1", "1-2-3", "0-80", "80-65536", "+80", " 80", "80 - 90", "1e3",
        "http", "*", "٨٠", "999999", "18446744073709551617",
    ])
    func `what is no port and no range of ports allows nothing`(text: String) {
        #expect(HostPolicy.portRange(text) == nil)
    }

    @Test func `what publishes a port that is allowed no more is stopped`() {
        var spec = Sample.spec()
        spec.ports = [PublishedPort(container: 80, host: 8080)]
        let desired = DesiredState(revision: Revision(1), workloads: [Sample.desired(spec: spec)])
        let plan = Planner.plan(
            desired: desired, observed: Sample.host([Sample.container("c", Sample.up(), spec: spec)]), memory: .init(),
            now: Sample.now, policy: policy { $0.ports = [8081...8081] })
        #expect(plan.steps.map(\.action.summary) == ["stop c grace 10 s"])
    }

    @Test func `nothing is made or started against a rule, and the status names it`() {
        let strict = policy { $0.registries = ["registry.example.com"] }
        let desired = DesiredState(revision: Revision(1), workloads: [Sample.desired()])
        let plan = Planner.plan(
            desired: desired, observed: Sample.host([]), memory: .init(), now: Sample.now, policy: strict)
        #expect(plan.steps.isEmpty)
        #expect(plan.statuses.first?.reason == "refused_by_host")
        #expect(plan.statuses.first?.message?.contains("policy.registries") == true)
    }

    @Test func `what runs of a refused spec is stopped, what runs of the one before serves on`() {
        let strict = policy { $0.mostMemoryMB = 300 }
        let big = Sample.spec(memory: 512, version: 2)
        let desired = DesiredState(revision: Revision(1), workloads: [Sample.desired(generation: 2, spec: big)])
        func plan(_ running: WorkloadSpec) -> Plan {
            let container = Sample.container(
                "c", .running(startedAt: 0, upFor: .seconds(60)), spec: running)
            return Planner.plan(
                desired: desired, observed: Sample.host([container]), memory: .init(), now: Sample.now, policy: strict)
        }
        #expect(plan(big).steps.map(\.action.summary) == ["stop c grace 10 s"])
        let kept = plan(Sample.spec(memory: 256, version: 1))
        #expect(kept.steps.isEmpty && kept.statuses.first?.startedAt != nil)
    }

    @Test func `a change of limits above a ceiling leaves what runs within it alone`() {
        let strict = policy { $0.mostMemoryMB = 300 }
        let desired = DesiredState(
            revision: Revision(1), workloads: [Sample.desired(generation: 2, spec: Sample.spec(memory: 512))])
        let running = Sample.container("c", Sample.up(), spec: Sample.spec(memory: 256))
        let plan = Planner.plan(
            desired: desired, observed: Sample.host([running]), memory: .init(), now: Sample.now, policy: strict)
        #expect(plan.steps.isEmpty && plan.statuses.first?.reason == "refused_by_host")
        #expect(plan.statuses.first?.startedAt != nil)
    }

    @Test func `what fell back out of a sandbox before the rule was set is stopped`() {
        let strict = policy { $0.requiresSandbox = true }
        var spec = Sample.spec()
        spec.runtime = RuntimeChoice(name: RuntimeChoice.gvisor, necessity: .prefer)
        let desired = DesiredState(revision: Revision(1), workloads: [Sample.desired(spec: spec)])
        var loose = Sample.container("c", Sample.up(), spec: spec)
        loose.fellBackTo = RuntimeChoice.runc
        let plan = Planner.plan(
            desired: desired, observed: Sample.host([loose]), memory: .init(), now: Sample.now, policy: strict)
        #expect(plan.steps.map(\.action.summary) == ["stop c grace 10 s"])
    }

    @Test func `no newcomer displaces what runs where the number is limited`() {
        let strict = policy { $0.mostContainers = 1 }
        let (first, second) = (WorkloadID(validated: "a-new"), WorkloadID(validated: "b-old"))
        let desired = DesiredState(
            revision: Revision(1), workloads: [Sample.desired(id: first), Sample.desired(id: second)])
        let running = Sample.container("c", Sample.exited(), id: second)
        let observed = Sample.host([running])
        #expect(strict.surplus(of: desired, observed: observed) == [first])
        let plan = Planner.plan(desired: desired, observed: observed, memory: .init(), now: Sample.now, policy: strict)
        #expect(plan.steps.map(\.workload) == [second])
        #expect(plan.statuses.first { $0.workload == first }?.message?.contains("policy.most_containers") == true)
    }

    @Test func `where only a sandbox is allowed nothing falls back out of it`() {
        let strict = policy { $0.requiresSandbox = true }
        #expect(strict.refusal(ofRuntime: "runc")?.rule == "require_sandbox")
        #expect(strict.refusal(ofRuntime: RuntimeChoice.gvisor) == nil)
        var spec = Sample.spec()
        spec.runtime = RuntimeChoice(name: RuntimeChoice.gvisor, necessity: .prefer)
        let desired = DesiredState(revision: Revision(1), workloads: [Sample.desired(spec: spec)])
        var observed = Sample.host([])
        observed.runtimes = [RuntimeChoice.runc: "runc"]
        observed.images = ["alpine:latest": .present(imageID: "sha256:1")]
        let plan = Planner.plan(desired: desired, observed: observed, memory: .init(), now: Sample.now, policy: strict)
        #expect(plan.steps.isEmpty && plan.statuses.first?.reason == "runtime_missing")
    }
}
