import BerthModel
import ControlPlaneCore
import Foundation
import Simulation
import Testing

@Suite struct ControlPlaneDecisions {
    @Test func `omitted means the tier's limit, above is clamped, below the minimum is refused`() throws {
        let free = TierLimits.default[.free]
        #expect(
            try ResourceRequest().resolved(for: free) == Resources(memoryMB: 2048, cpuMillicores: 2000, diskMB: 10240))
        #expect(
            try ResourceRequest(memoryMB: 9999, cpuMillicores: 9999, diskMB: .max).resolved(for: free).memoryMB == 2048)
        for request in [
            ResourceRequest(memoryMB: 255), ResourceRequest(memoryMB: -1), ResourceRequest(cpuMillicores: 249),
            ResourceRequest(diskMB: 1023), ResourceRequest(memoryMB: .min), ResourceRequest(egressKbps: 63),
            ResourceRequest(ingressKbps: 10_000_001), ResourceRequest(egressKbps: -1), ResourceRequest(volumeMB: 63),
        ] {
            #expect(throws: FieldProblem.self) { try request.resolved(for: free) }
        }
        let current = Resources(memoryMB: 300, cpuMillicores: 400, diskMB: 2000)
        #expect(
            try ResourceRequest(memoryMB: 512).resolved(for: free, current: current)
                == Resources(memoryMB: 512, cpuMillicores: 400, diskMB: 2000))
        let limited = try ResourceRequest(egressKbps: 64, volumeMB: 64).resolved(for: free, current: current)
        #expect(limited.bandwidth == Bandwidth(egressKbps: 64) && limited.volumeMB == 64)
        // Left out is kept, 0 is taken away.
        #expect(try ResourceRequest(memoryMB: 512).resolved(for: free, current: limited).bandwidth?.egressKbps == 64)
        let lifted = try ResourceRequest(egressKbps: 0, volumeMB: 0).resolved(for: free, current: limited)
        #expect(lifted.bandwidth == nil && lifted.volumeMB == nil)
    }

    @Test func `names`() {
        for name in ["a", "A-1", "-", String(repeating: "x", count: 64)] { #expect(ContainerName.isValid(name)) }
        for name in ["", "a_b", "a b", "ä", "a/b", String(repeating: "x", count: 65), "a\n"] {
            #expect(!ContainerName.isValid(name))
        }
        var random = SplitMix(seed: 1)
        for _ in 0..<200 { #expect(ContainerName.isValid(ContainerName.generated(using: &random))) }
    }

    @Test func `images: documented names, aliases, any reference as custom`() {
        let catalogue = ImageCatalogue.default
        #expect(
            catalogue.supported == ["ubuntu:24.04", "debian:bookworm", "alpine:latest", "archlinux:latest", "custom"])
        #expect(catalogue.entries.map(\.aliases) == [["ubuntu"], ["debian"], ["alpine"], ["archlinux"]])
        #expect(
            catalogue.entries.map(\.description) == ["Ubuntu 24.04 LTS", "Debian 12", "Alpine Linux", "Arch Linux"])
        #expect(ImageCatalogue.problems(in: catalogue.entries).isEmpty)
        #expect(
            catalogue.resolve("ubuntu", customImage: nil)
                == .image(name: "ubuntu:24.04", reference: "ubuntu:24.04", architectures: []))
        #expect(
            catalogue.resolve("alpine:latest", customImage: nil)
                == .image(name: "alpine:latest", reference: "alpine:latest", architectures: []))
        #expect(catalogue.resolve("windows", customImage: nil) == .unsupported)
        for reference in [
            "node:20-alpine", "registry:5000/team/app", "localhost/a/b__c:1.0",
            "a/b@sha256:" + String(repeating: "0a", count: 32),
            "127.0.0.1:5000/library/x:y",
        ] {
            #expect(
                catalogue.resolve("custom", customImage: reference)
                    == .image(name: reference, reference: reference, architectures: []), "\(reference)")
        }
        for reference in [
            "", "UPPER", "a b", "a:", ":tag", "a//b", "../etc", "a@sha256:xyz", "-a", "a;rm",
            String(repeating: "a", count: 600),
        ] {
            guard case .badReference = catalogue.resolve("custom", customImage: reference) else {
                Issue.record("\(reference) must be refused")
                continue
            }
        }
    }

    @Test func `a catalogue of one's own: names, aliases, references, processors in either spelling`() {
        let catalogue = ImageCatalogue([
            .init(
                name: "Base", aliases: ["base", "b"], reference: "registry.example.com/base:1",
                architectures: ["amd64", "x86_64", "ARM64", "riscv64"]),
            .init(name: "alpine:3", aliases: ["alpine"]),
        ])
        #expect(ImageCatalogue.problems(in: catalogue.entries).isEmpty)
        #expect(catalogue.supported == ["Base", "alpine:3", "custom"])
        let base = ImageCatalogue.Verdict.image(
            name: "Base", reference: "registry.example.com/base:1", architectures: ["x86_64", "aarch64", "riscv64"])
        for asked in ["Base", "base", "b"] { #expect(catalogue.resolve(asked, customImage: nil) == base, "\(asked)") }
        #expect(
            catalogue.resolve("alpine", customImage: nil)
                == .image(name: "alpine:3", reference: "alpine:3", architectures: []))
        #expect(
            catalogue.resolve("custom", customImage: "node:20")
                == .image(name: "node:20", reference: "node:20", architectures: []))
        // Neither the documented ones nor a reference by itself.
        for asked in ["ubuntu", "alpine:latest", "registry.example.com/base:1", "BASE", ""] {
            #expect(catalogue.resolve(asked, customImage: nil) == .unsupported, "\(asked)")
        }
        #expect(ImageCatalogue([]).supported == ["custom"])
        #expect(Architecture.normalised("aarch64") == "aarch64" && Architecture.normalised("") == "")
    }

    @Test func `a catalogue in which a name means two things, or nothing, has problems`() {
        func keys(_ entries: ImageCatalogue.Entry...) -> [String] {
            ImageCatalogue.problems(in: entries).map(\.field)
        }
        #expect(keys(.init(name: "a", aliases: ["x"]), .init(name: "b", aliases: ["x"])) == ["images.b.aliases"])
        #expect(keys(.init(name: "a", aliases: ["x", "x"])) == ["images.a.aliases"])
        #expect(
            keys(.init(name: "a", aliases: ["b", "a"]), .init(name: "b")) == ["images.a.aliases", "images.a.aliases"])
        #expect(keys(.init(name: "a", reference: "A B")) == ["images.a.reference"])
        #expect(keys(.init(name: "UPPER")) == ["images.UPPER.reference"])
        for reserved in ["custom", "macos", "macos-legacy"] {
            #expect(keys(.init(name: reserved)) == ["images"])
            #expect(keys(.init(name: "a", aliases: [reserved])) == ["images.a.aliases"])
        }
        for name in ["", "a b", "-a", "ä", "a\n", String(repeating: "a", count: 129)] {
            #expect(keys(.init(name: name, reference: "a")) == ["images"], "\(name)")
            #expect(keys(.init(name: "a", aliases: [name])) == ["images.a.aliases"], "\(name)")
        }
        let many = (0...ImageCatalogue.mostEntries).map { ImageCatalogue.Entry(name: "image\($0)") }
        #expect(ImageCatalogue.problems(in: many).map(\.value) == ["201 images"])
        #expect(ImageCatalogue.problems(in: Array(many.dropLast())).isEmpty)
    }

    @Test func `the documented limits of tiers`() {
        let table = Tier.allCases.map { tier in
            let limits = TierLimits.default[tier]
            return [limits.cpuMillicores, limits.memoryMB, limits.diskMB, limits.containers]
        }
        #expect(
            table == [
                [500, 512, 2048, 1], [2000, 2048, 10240, 5], [4000, 4096, 20480, 10], [8000, 8192, 51200, 25],
            ])
        var limits = TierLimits.default
        for tier in Tier.allCases { limits[tier].containers = 0 }
        #expect(Tier.allCases.allSatisfy { limits[$0].containers == 0 && limits[$0].memoryMB >= 512 })
    }

    @Test func `progress never goes back and says ready once`() {
        var scale = ProgressScale()
        func heard(_ stage: WorkloadProgress.Stage, _ done: Int = 0, _ total: Int = 0, generation: Int = 1) -> Int? {
            scale.heard(
                .init(workload: Sample.id, generation: generation, stage: stage, doneBytes: done, totalBytes: total))?
                .percent
        }
        let first = scale.validating(1)?.percent
        #expect(first == 5)
        #expect(heard(.pulling) == 10 && heard(.pulling, 50, 100) == 35 && heard(.pulling, 40, 100) == nil)
        #expect(heard(.pulling, 500, 100) == 60 && heard(.creating) == 60 && heard(.pulling, 100, 100) == nil)
        #expect(heard(.creating) == nil && heard(.starting) == 75)
        #expect(heard(.pulling, 1, 100) == nil)
        let ready = (scale.ready(1)?.percent, scale.ready(1)?.percent)
        #expect(ready == (100, nil) && heard(.starting) == nil)
        #expect(heard(.pulling, 0, 100, generation: 2) == 10)
        let late = scale.ready(1)
        #expect(late == nil)
    }

    private func host(
        _ id: String, online: Bool = true, tags: [String] = [], arch: String = "x86_64",
        runtimes: [String] = ["runc", "gvisor"], reserved: Int = 0
    ) -> Placement.Candidate {
        .init(
            agent: AgentID(validated: id), name: id, isOnline: online, tags: tags,
            host: HostDescription(
                hostname: "h", arch: arch, capacity: HostCapacity(memoryMB: 1000, cpuMillicores: 2000),
                engine: EngineDescription(runtimes: runtimes)), reservedMemoryMB: reserved, containers: 0)
    }

    @Test func `placement: online, able, roomy, least loaded`() {
        let spec = WorkloadSpec(name: "x", image: "alpine", resources: Resources(memoryMB: 500))
        #expect(
            Placement.choose(among: [host("a", reserved: 900), host("b")], for: spec) == .agent(AgentID(validated: "b"))
        )
        #expect(
            Placement.choose(
                among: [host("a"), host("b", reserved: 10)], for: spec, wish: HostWish(agent: AgentID(validated: "b")))
                == .agent(AgentID(validated: "b")))
        for none in [[], [host("a", online: false)], [host("a", runtimes: ["runc"])], [host("a", reserved: 4000)]] {
            guard case .none(let reason) = Placement.choose(among: none, for: spec) else {
                Issue.record("nothing fits")
                continue
            }
            #expect(!reason.isEmpty)
        }
        var huge = spec
        huge.resources.memoryMB = 8000
        #expect(Placement.choose(among: [host("a")], for: huge) == .agent(AgentID(validated: "a")))
    }

    @Test func `placement: only hosts with the labels and the processor that are asked for, and what is missing first`()
    {
        let spec = WorkloadSpec(name: "x", image: "alpine", resources: Resources(memoryMB: 500))
        let hosts = [
            host("a", tags: ["gpu", "region=eu"], reserved: 900), host("b", tags: ["gpu"], arch: "arm64"),
            host("c", online: false, tags: ["lab"]),
        ]
        func chosen(_ labels: String?, _ architectures: Set<String> = []) -> String {
            let wish = HostWish(labels: labels.flatMap { LabelSelector($0) }, architectures: architectures)
            switch Placement.choose(among: hosts, for: spec, wish: wish) {
            case .agent(let agent): return agent.text
            case .none(let reason): return reason
            }
        }
        #expect(chosen(nil) == "b")
        #expect(chosen("gpu") == "b" && chosen("gpu,region=eu") == "a" && chosen("gpu, !region=eu") == "b")
        #expect(chosen("region!=eu, name!=c") == "b" && chosen("arch=amd64") == "a" && chosen("arch=aarch64") == "b")
        #expect(
            chosen("name=a") == "a" && chosen("os=linux") == "b"
                && chosen("hostname=h,!gpu") == "none of 1 hosts is online")
        #expect(chosen(nil, ["x86_64"]) == "a" && chosen(nil, ["x86_64", "aarch64"]) == "b")
        #expect(chosen("tpu, !gpu") == #"none of 3 hosts has the labels "tpu, !gpu""#)
        #expect(chosen(nil, ["riscv64", "s390x"]).hasSuffix("a processor for this image: riscv64 or s390x"))
        #expect(chosen("gpu", ["riscv64"]).hasPrefix("none of 2 hosts has a processor"))
        let unknown = Placement.choose(
            among: [host("d", arch: "")], for: spec, wish: HostWish(architectures: ["x86_64"]))
        #expect(unknown != .agent(AgentID(validated: "d")), "what is not known is not taken for granted")
    }

    @Test func `labels are read as Kubernetes writes them, and nothing else is`() throws {
        for text in ["gpu", " gpu ", "a=b", "a!=b", "!a", "a=b=c", "größe=xl", "a b"] {
            let selector = try #require(LabelSelector(text), "\(text)")
            #expect(LabelSelector(selector.description) == selector)
            let encoded = try JSONEncoder().encode(HostWish(labels: selector, architectures: ["x86_64"]))
            #expect(try JSONDecoder().decode(HostWish.self, from: encoded).labels == selector)
        }
        #expect(LabelSelector("a!=b")?.description == "!a=b")
        for text in [
            "", " ", ",", "a,", ",a", "a,,b", "!", "!=b", "=b", "!!a", "a\u{0}b", "a\nb",
            String(repeating: "a", count: 65),
            (0..<17).map { "a\($0)" }.joined(separator: ","),
        ] {
            #expect(LabelSelector(text) == nil, "\(text)")
        }
    }

    @Test func `the documented status, from what is wanted and what was seen`() {
        func status(_ phase: WorkloadPhase, reason: String? = nil, startedAt: Double? = nil) -> WorkloadStatus {
            WorkloadStatus(workload: Sample.id, generation: 1, phase: phase, reason: reason, startedAt: startedAt)
        }
        #expect(PresentedStatus.of(wish: .running, observed: nil, everRan: false) == .creating)
        #expect(PresentedStatus.of(wish: .running, observed: status(.pulling), everRan: false) == .creating)
        #expect(PresentedStatus.of(wish: .running, observed: status(.pulling, startedAt: 5), everRan: true) == .running)
        #expect(PresentedStatus.of(wish: .running, observed: status(.running, startedAt: 5), everRan: true) == .running)
        #expect(PresentedStatus.of(wish: .stopped, observed: status(.stopped), everRan: true) == .stopped)
        #expect(PresentedStatus.of(wish: .stopped, observed: status(.stopping), everRan: true) == .running, "not yet")
        #expect(PresentedStatus.of(wish: .running, observed: status(.failed, reason: "x"), everRan: false) == .error)
        #expect(
            PresentedStatus.isSettled(status(.failed), at: 1) && !PresentedStatus.isSettled(status(.running), at: 2))
    }
}

/// One identity in two programs.
@Suite struct IdentityRules {
    private func frozen(_ sessions: [(process: String, second: Int, live: Bool)]) -> [Bool] {
        var watch = IdentityWatch()
        return sessions.map { session in
            watch.opened(
                process: session.process, replacesLiveSession: session.live,
                at: MonotonicInstant(milliseconds: session.second * 1000))
        }
    }

    @Test func `two processes that take the session from each other are one identity too many`() {
        #expect(
            frozen([("a", 0, false), ("b", 5, true), ("a", 9, true), ("b", 20, true)]) == [false, false, false, true])
    }

    @Test func `an agent that is restarted often is no twin: no process comes back`() {
        let restarts = (0..<30).map { (process: "p\($0)", second: $0, live: $0 % 2 == 0) }
        #expect(!frozen(restarts).contains(true))
    }

    @Test func `a process that reconnects, and takeovers that are a minute apart, are no twins`() {
        #expect(!frozen((0..<20).map { ("a", $0, true) }).contains(true))
        #expect(!frozen([("a", 0, false), ("b", 61, true), ("a", 122, true), ("b", 183, true)]).contains(true))
    }
}
