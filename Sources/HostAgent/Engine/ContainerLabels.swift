import AgentCore
import BerthModel

/// The labels that make an engine container ours. They are written atomically with it, so they outlive any crash.
enum ContainerLabels {
    static let agent = "berth.agent"
    static let workload = "berth.workload"
    static let generation = "berth.generation"
    static let fingerprint = "berth.spec"
    static let attempt = "berth.attempt"
    /// The name that the container was created with.
    static let name = "berth.name"
    static let volumeKept = "berth.volume-kept"
    static let fellBackTo = "berth.runtime-fallback"

    static func labels(for order: ContainerOrder, agent: AgentID) -> [String: String] {
        var labels = order.spec.labels
        labels[self.agent] = agent.text
        labels[workload] = order.workload.text
        labels[generation] = String(order.generation)
        labels[fingerprint] = order.spec.fingerprint.text
        labels[attempt] = String(order.attempt)
        labels[name] = order.name
        labels[volumeKept] = String(!order.existingVolumes.isEmpty)
        if let fellBackTo = order.fellBackTo { labels[self.fellBackTo] = fellBackTo }
        return labels
    }

    struct Identity: Hashable {
        var workload: WorkloadID
        var generation: Generation
        var fingerprint: Fingerprint
        var attempt: Int
        var volumeKept: Bool
        var fellBackTo: String?
    }

    /// Nil where the container is not this agent's, or its labels are not what we write: then it is nobody of ours.
    ///
    /// - Parameter names: as the Engine gives them. A container made from an image that was committed from one of ours
    ///   inherits its labels, but not its name.
    static func identity(_ labels: [String: String], names: [String], agent: AgentID) -> Identity? {
        guard labels[self.agent] == agent.text, let workload = labels[workload].flatMap({ WorkloadID($0) }),
            let generation = number(labels[generation]), let fingerprint = labels[fingerprint],
            let attempt = number(labels[attempt])
        else { return nil }
        if let name = labels[name], !names.isEmpty, !names.contains("/" + name) { return nil }
        return Identity(
            workload: workload, generation: generation, fingerprint: Fingerprint(text: fingerprint), attempt: attempt,
            volumeKept: labels[volumeKept] == "true", fellBackTo: labels[fellBackTo])
    }

    private static func number(_ text: String?) -> Int? {
        text.flatMap { Int($0) }.flatMap { (0...1_000_000_000).contains($0) ? $0 : nil }
    }
}
