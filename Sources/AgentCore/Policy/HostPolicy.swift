package import BerthModel

/// What the owner of a host lets run on it, whatever a control plane asks for. Read from the agent's own configuration; no
/// message can change it. What this system never does (privileged containers, host paths, host namespaces, devices) is not
/// in it, because there is no way to ask for it. `docs/sandbox.md` lists the rules.
package struct HostPolicy: Hashable, Sendable {
    /// Patterns of images in their full form, `docker.io/library/*`; empty: any.
    package var images: [String] = []
    /// Hosts of registries, `docker.io`; empty: any.
    package var registries: [String] = []
    /// Names of a spec's `runtime`; empty: all that the host offers.
    package var runtimes: [String] = []
    /// Nothing runs without gVisor, not as a fallback either.
    package var requiresSandbox = false
    package var mostMemoryMB: Int?
    package var mostCPUMillicores: Int?
    package var mostDiskMB: Int?
    package var mostPIDs: Int?
    /// Workloads that are wanted running at once.
    package var mostContainers: Int?
    /// A workload whose volumes hold more than its `volume_mb` is stopped; else only told.
    package var stopsOverfull = false
    /// Patterns of names of environment variables.
    package var forbiddenEnvironment: [String] = []
    /// Ports of the host that may be published, within 1 to 65535; empty, other than in the rules above: none.
    package var ports: [ClosedRange<Int>] = []

    package init() {}

    /// Why something must not run here.
    package struct Refusal: Hashable, Sendable {
        /// The key in the configuration, for example `images`.
        package var rule: String
        package var explanation: String

        package var message: String { "policy.\(rule) of this host: \(explanation)" }
    }

    /// The first rule that `spec` breaks; nil where it may run.
    package func refusal(of spec: WorkloadSpec) -> Refusal? {
        if let refusal = refusal(ofImage: spec.image) { return refusal }
        if let refusal = refusal(ofRuntime: spec.runtime.name) { return refusal }
        let ceilings = [
            ("most_memory_mb", spec.resources.memoryMB, mostMemoryMB),
            ("most_cpu_millicores", spec.resources.cpuMillicores, mostCPUMillicores),
            ("most_disk_mb", spec.resources.diskMB, mostDiskMB), ("most_pids", spec.resources.pids, mostPIDs),
        ]
        for (rule, wanted, most) in ceilings {
            if let most, wanted > most { return Refusal(rule: rule, explanation: "\(wanted) is above \(most)") }
        }
        for name in spec.environment.keys.sorted() {
            if forbiddenEnvironment.contains(where: { Self.matches(name, $0) }) {
                return Refusal(rule: "forbidden_environment", explanation: "\(name.prefix(100)) must not be set")
            }
        }
        return refusal(ofPorts: spec.publishedPorts)
    }

    private func refusal(ofPorts published: [PublishedPort]) -> Refusal? {
        guard let port = published.first(where: { !allows(port: $0.host) }) else {
            return nil
        }
        let allowed = ports.isEmpty ? "none" : ports.map(Self.text).joined(separator: ", ")
        return Refusal(rule: "ports", explanation: "port \(port.host) may not be published; allowed: \(allowed)")
    }

    /// - Parameter text: a port, `8080`, or the first and the last of several, `20000-20999`.
    /// - Returns: nil for any other text, and for numbers that are no ports.
    package static func portRange(_ text: String) -> ClosedRange<Int>? {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { digits -> Int? in
            digits.utf8.count <= 5 && digits.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(digits) : nil
        }
        guard ends.count <= 2, let first = ends[0], let last = ends[ends.count - 1], first <= last,
            PublishedPort.range.contains(first), PublishedPort.range.contains(last)
        else { return nil }
        return first...last
    }

    func allows(port: Int) -> Bool { ports.contains { $0.contains(port) } }

    private static func text(_ ports: ClosedRange<Int>) -> String {
        ports.count == 1 ? "\(ports.lowerBound)" : "\(ports.lowerBound)-\(ports.upperBound)"
    }

    private func refusal(ofImage text: String) -> Refusal? {
        if registries.isEmpty, images.isEmpty { return nil }
        if ImageReference.mayBeID(text) {
            return Refusal(
                rule: "images", explanation: "\"\(text.prefix(100))\" may be the id of an image; give its name")
        }
        guard let image = ImageReference(text) else {
            return Refusal(rule: "images", explanation: "\"\(text.prefix(100))\" is no image reference")
        }
        if !registries.isEmpty, !registries.contains(image.registry) {
            return Refusal(rule: "registries", explanation: "nothing is pulled from \(image.registry)")
        }
        if !images.isEmpty, !images.contains(where: { Self.matches(image.description, $0) }) {
            return Refusal(rule: "images", explanation: "\(image) is not allowed")
        }
        return nil
    }

    /// - Parameter name: what a spec's `runtime` says, or what it would fall back to.
    package func refusal(ofRuntime name: String) -> Refusal? {
        if !runtimes.isEmpty, !runtimes.contains(name) {
            return Refusal(rule: "runtimes", explanation: "\(name.prefix(100)) is not allowed")
        }
        if requiresSandbox, name != RuntimeChoice.gvisor {
            return Refusal(rule: "require_sandbox", explanation: "\(name.prefix(100)) is no sandbox")
        }
        return nil
    }

    /// Of the workloads that are wanted running, those beyond `mostContainers`: first come those that have a container
    /// already, then in the order of their ids, so that no newcomer displaces anybody.
    package func surplus(of desired: DesiredState, observed: ObservedHost) -> Set<WorkloadID> {
        guard let mostContainers else { return [] }
        // Down for a moment is not gone.
        let present = Set(observed.managed.map(\.workload))
        // What breaks another rule takes nobody's place.
        let wanted = desired.workloads.values.filter { $0.wish == .running && refusal(of: $0.spec) == nil }
        let inOrder = wanted.map(\.id).sorted {
            (present.contains($0) ? 0 : 1, $0) < (present.contains($1) ? 0 : 1, $1)
        }
        return Set(inOrder.dropFirst(mostContainers))
    }

    /// `*` stands for any text, also none.
    package static func matches(_ text: String, _ pattern: String) -> Bool {
        let pieces = pattern.split(separator: "*", omittingEmptySubsequences: false).map(Array.init)
        var rest = Array(text)[...]
        guard let first = pieces.first, let last = pieces.last, rest.starts(with: first) else { return false }
        if pieces.count == 1 { return rest.count == first.count }
        rest = rest.dropFirst(first.count)
        guard rest.count >= last.count, rest.suffix(last.count).elementsEqual(last) else { return false }
        rest = rest.dropLast(last.count)
        for piece in pieces.dropFirst().dropLast() where !piece.isEmpty {
            guard
                let start = rest.indices.first(where: { rest[$0...].starts(with: piece) })
            else { return false }
            rest = rest[(start + piece.count)...]
        }
        return true
    }
}
