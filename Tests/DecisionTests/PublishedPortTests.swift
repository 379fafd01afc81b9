import AgentCore
import BerthModel
import Foundation
import Testing

/// Ports of the host that lead to a container: what can be asked for, what it changes, and that a port has one holder.
@Suite struct PublishedPortRules {
    private func spec(_ ports: [PublishedPort]?, version: Int = 1, volumes: [VolumeMount] = []) -> WorkloadSpec {
        var spec = Sample.spec(version: version, volumes: volumes)
        spec.ports = ports
        return spec
    }

    private let web = PublishedPort(container: 80, host: 8080)

    @Test(arguments: [0, -1, 65_536, Int.max, Int.min])
    func `what is no port is a problem that names its place and the range`(number: Int) {
        #expect(PublishedPort(container: number, host: 1).problem?.hasPrefix("container: expected 1 to 65535") == true)
        #expect(PublishedPort(container: 1, host: number).problem?.hasPrefix("host: expected 1 to 65535") == true)
        let both = spec([web, PublishedPort(container: 1, host: number)])
        #expect(both.problem == "ports[1].host: expected 1 to 65535, found \(number)")
    }

    @Test func `a port of the host is published once for each transport, a container's as often as is liked`() {
        #expect(
            spec([PublishedPort(container: 1, host: 1), PublishedPort(container: 65_535, host: 65_535)]).problem == nil)
        let several = [
            web, PublishedPort(container: 80, host: 8081), PublishedPort(container: 53, host: 8080, transport: .udp),
        ]
        #expect(spec(several).problem == nil)
        let twice = spec(several + [PublishedPort(container: 81, host: 8080)])
        #expect(twice.problem == "ports[3].host: 8080/tcp is published twice")
        #expect(PublishedPort.repeated(in: twice.publishedPorts) == 3)
        let many = (1...33).map { PublishedPort(container: 80, host: $0) }
        #expect(spec(Array(many.dropLast())).problem == nil)
        #expect(spec(many).problem == "ports: expected at most 32, found 33")
    }

    @Test func `without ports a spec is what it was before there were any`() throws {
        // As earlier versions computed it: another one would replace every container that there is.
        #expect(Sample.spec().fingerprint.text == "42a14cf11b6439cf")
        let volumes = Sample.spec().volumes
        #expect(spec([], volumes: volumes).fingerprint == Sample.spec().fingerprint)
        let text = String(decoding: try JSONEncoder().encode(Sample.spec()), as: UTF8.self)
        #expect(!text.contains("ports"))
        #expect(try JSONDecoder().decode(WorkloadSpec.self, from: Data(text.utf8)) == Sample.spec())
    }

    @Test func `other ports are another container, and another desired state`() {
        let all = [
            spec(nil), spec([web]), spec([PublishedPort(container: 80, host: 8081)]),
            spec([PublishedPort(container: 81, host: 8080)]),
            spec([PublishedPort(container: 80, host: 8080, transport: .udp)]),
            spec([web, PublishedPort(container: 80, host: 8081)]),
        ]
        #expect(Set(all.map(\.fingerprint)).count == all.count)
        let digests = all.map { DesiredState(revision: Revision(1), workloads: [Sample.desired(spec: $0)]).digest }
        #expect(Set(digests).count == all.count)
    }

    @Test func `on the wire a port is container, host and protocol, and nothing else is taken for one`() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        #expect(
            String(decoding: try encoder.encode(web), as: UTF8.self)
                == #"{"container":80,"host":8080,"protocol":"tcp"}"#)
        for text in [
            "8080", #"{"container":80}"#, #"{"container":80,"host":"8080","protocol":"tcp"}"#,
            #"{"container":80,"host":8080,"protocol":"sctp"}"#,
        ] {
            #expect(throws: (any Error).self) {
                try JSONDecoder().decode(PublishedPort.self, from: Data(text.utf8))
            }
        }
    }

    // MARK: one holder

    private var publishing: HostPolicy {
        var policy = HostPolicy()
        policy.ports = [8080...8080]
        return policy
    }

    private func steps(_ old: WorkloadSpec, _ oldState: ContainerState, _ new: WorkloadSpec) -> [Step.Action] {
        let before = Sample.container("old", oldState, spec: old)
        let candidate = Sample.container("new", .created, generation: 2, spec: new)
        return Sample.plan(
            [Sample.desired(generation: 2, spec: new)], Sample.host([before, candidate]), policy: publishing
        )
        .steps.map(\.action)
    }

    @Test func `who holds the port stops before its replacement starts, also where they share no volume`() {
        let new = spec([web], version: 2)
        #expect(
            steps(spec([web]), Sample.up(), new) == [.stop(EngineContainerID(validated: "old"), graceSeconds: 10)])
        #expect(steps(spec([web]), Sample.exited(0), new) == [.start(EngineContainerID(validated: "new"))])
    }

    @Test func `who holds another port serves on until its replacement has proved itself`() {
        let start = [Step.Action.start(EngineContainerID(validated: "new"))]
        let other = PublishedPort(container: 80, host: 8080, transport: .udp)
        #expect(steps(spec([other]), Sample.up(), spec([web], version: 2)) == start)
        #expect(steps(spec(nil), Sample.up(), spec([web], version: 2)) == start)
    }

    @Test func `a port that its owner does not allow any more is not held by what is to be replaced either`() {
        let before = Sample.container("old", Sample.up(), spec: spec([web]))
        let desired = [Sample.desired(generation: 2, spec: spec([web], version: 2))]
        let serving = Sample.plan(desired, Sample.host([before]), policy: publishing)
        #expect(!serving.steps.map(\.action).contains(.stop(before.id, graceSeconds: 10)))
        let refused = Sample.plan(desired, Sample.host([before]))
        #expect(refused.steps.map(\.action) == [.stop(before.id, graceSeconds: 10)], "\(refused.steps)")
    }

    @Test func `a start that finds the port taken is said, and tried again when its time has come`() {
        let desired = Sample.desired(spec: spec([web]))
        let start = Step(
            workload: Sample.id, generation: 1, action: .start(EngineContainerID(validated: "c")), reason: "")
        let failure = StepFailure(
            reason: "port_taken", message: "port 8080 of this host is taken", isPermanent: false, mayHaveHappened: true)
        let memory = ReconcileMemory().recording(
            .init(step: start, result: .failed(failure)), now: Sample.now, random: 0)
        let host = Sample.host([Sample.container("c", .created, spec: desired.spec)])
        let waiting = Sample.plan([desired], host, memory: memory, policy: publishing)
        #expect(waiting.steps.isEmpty && waiting.nextLook == Sample.now + Milliseconds(500))
        #expect(waiting.statuses.first?.phase == .failed && waiting.statuses.first?.reason == "port_taken")
        #expect(waiting.statuses.first?.message?.contains("8080") == true)
        let later = Sample.plan(
            [desired], host, memory: memory, now: Sample.now + Milliseconds(500), policy: publishing)
        #expect(later.steps.map(\.action) == [start.action])
    }
}
