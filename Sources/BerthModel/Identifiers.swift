/// The identity of one agent, and so of one host. Never reused, never changes when the agent is renamed.
///
/// Valid text: 1 to 64 of `a-z`, `0-9` and `-`, which makes it safe in labels, paths and URLs.
package struct AgentID: IdentifierText {
    package let text: String
    package init(validated text: String) { self.text = text }
}

/// The identity of one workload, the API's `db_id`. Never changes, whatever happens to the container that realises it.
///
/// Valid text: 1 to 64 of `a-z`, `0-9` and `-`. Volumes are named by it, so a rename can never lose one.
package struct WorkloadID: IdentifierText {
    package let text: String
    package init(validated text: String) { self.text = text }
}

/// The Docker id of an engine container: 64 hexadecimal digits from the Engine.
package struct EngineContainerID: IdentifierText {
    package let text: String
    package init(validated text: String) { self.text = text }
}

/// Text that was checked once, at the edge, and needs no checking inside.
package protocol IdentifierText: Hashable, Sendable, Codable, CustomStringConvertible, Comparable {
    var text: String { get }
    /// The caller has checked `text`.
    init(validated text: String)
}

extension IdentifierText {
    /// Nil where `text` is empty, longer than 64 bytes, or holds anything but `a-z`, `0-9` and `-`.
    package init?(_ text: String) {
        guard (1...64).contains(text.utf8.count), text.utf8.allSatisfy(Self.isAllowed) else { return nil }
        self.init(validated: text)
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): true
        default: false
        }
    }

    package var description: String { text }
    package static func < (left: Self, right: Self) -> Bool { left.text < right.text }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let value = Self(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected 1 to 64 of a-z, 0-9 and '-', found \"\(text.prefix(80))\"")
        }
        self = value
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }
}

/// Counter of one host's desired state. Contiguous per agent; only the control plane raises it.
package struct Revision: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// 0 means that no desired state was ever accepted. At most `largest`, so that there is always a next one and no
    /// store rounds it.
    package let number: Int
    package static let none = Revision(0)
    private static let largest = 1 << 53

    package init(_ number: Int) { self.number = max(0, number) }
    package var next: Revision { Revision(number + 1) }
    package var description: String { String(number) }
    package static func < (left: Self, right: Self) -> Bool { left.number < right.number }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let number = try container.decode(Int.self)
        guard (0...Self.largest).contains(number) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected a revision of 0 to \(Self.largest)")
        }
        self.number = number
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(number)
    }
}

/// Counter of one workload's wanted state: raised by every change of its spec, by start and by stop.
package typealias Generation = Int
