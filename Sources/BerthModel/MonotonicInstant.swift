/// A moment on a clock that never goes back and that nobody can set. Decides; wall time is for people.
package struct MonotonicInstant: Hashable, Comparable, Sendable {
    /// Milliseconds since an arbitrary start, the same one for all instants of a process.
    package let milliseconds: Int

    package init(milliseconds: Int) { self.milliseconds = milliseconds }

    package static func < (left: Self, right: Self) -> Bool { left.milliseconds < right.milliseconds }
    package static func + (left: Self, right: Milliseconds) -> Self {
        Self(milliseconds: left.milliseconds + right.count)
    }
    package static func - (left: Self, right: Self) -> Milliseconds {
        Milliseconds(left.milliseconds - right.milliseconds)
    }
}

/// A span of time. May be negative.
package struct Milliseconds: Hashable, Comparable, Sendable, Codable {
    package let count: Int
    package init(_ count: Int) { self.count = count }
    package static func seconds(_ count: Int) -> Milliseconds { Milliseconds(count * 1000) }
    package static let zero = Milliseconds(0)
    package static func < (left: Self, right: Self) -> Bool { left.count < right.count }

    package init(from decoder: any Decoder) throws { count = try decoder.singleValueContainer().decode(Int.self) }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(count)
    }
}
