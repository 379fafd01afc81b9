package import BerthModel

/// What the owner of a container asks of its host, beside what every container needs.
package struct HostWish: Hashable, Sendable, Codable {
    /// Only this one.
    package var agent: AgentID?
    package var labels: LabelSelector?
    /// Of the image; empty: any. Normalised.
    package var architectures: Set<String>

    package init(agent: AgentID? = nil, labels: LabelSelector? = nil, architectures: Set<String> = []) {
        self.agent = agent
        self.labels = labels
        self.architectures = architectures
    }

    package static let any = HostWish()
}

/// Requirements on the labels of a host, all of which must hold, written as Kubernetes does: `gpu, region=eu, !spot,
/// disk!=hdd`. Each label is compared as a whole: `gpu` is not `gpu=a100`. The labels of a host are its tags, and `os=…`,
/// `arch=…`, `name=…` and `hostname=…`.
package struct LabelSelector: Hashable, Sendable, Codable, CustomStringConvertible {
    private struct Requirement: Hashable, Sendable {
        var label: String
        var isWanted: Bool
    }

    private let requirements: [Requirement]

    package static let expected =
        "an agent: id, or labels such as gpu, region=eu, !spot, disk!=hdd: 1 to 16, each of at most 64 bytes"

    /// Nil where it cannot be read.
    package init?(_ text: String) {
        let items = text.split(separator: ",", omittingEmptySubsequences: false).map { item in
            String(
                item.trimmingPrefix(while: \.isWhitespace).reversed().trimmingPrefix(while: \.isWhitespace).reversed())
        }
        guard (1...16).contains(items.count) else { return nil }
        var requirements: [Requirement] = []
        for item in items {
            var requirement = Requirement(label: item, isWanted: true)
            if item.hasPrefix("!") {
                requirement = Requirement(label: String(item.dropFirst()), isWanted: false)
            } else if let sign = item.firstRange(of: "!=") {
                requirement = Requirement(
                    label: "\(item[..<sign.lowerBound])=\(item[sign.upperBound...])", isWanted: false)
            }
            let label = requirement.label
            guard (1...64).contains(label.utf8.count), label.first != "=", label.first != "!",
                !label.unicodeScalars.contains(where: { $0.value < 0x20 })
            else { return nil }
            requirements.append(requirement)
        }
        self.requirements = requirements
    }

    package var description: String {
        requirements.map { $0.isWanted ? $0.label : "!" + $0.label }.joined(separator: ", ")
    }

    package func matches(_ labels: Set<String>) -> Bool {
        requirements.allSatisfy { requirement in
            var label = requirement.label
            if label.hasPrefix("arch=") { label = "arch=" + Architecture.normalised(String(label.dropFirst(5))) }
            return labels.contains(label) == requirement.isWanted
        }
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let selector = LabelSelector(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "expected \(Self.expected)")
        }
        self = selector
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
