/// Carries short texts between the control planes on one database, to every one of them in the same order.
package protocol NoticeChannel: Sendable {
    /// Sends `texts` in their order, to this control plane too. They may be of any length.
    func send(_ texts: [String]) async throws

    /// What is heard from now on; for one reader. Ends when its task is cancelled.
    func signals() -> AsyncStream<NoticeSignal>
}

package enum NoticeSignal: Hashable, Sendable {
    /// From here on everything is heard; what was said before may have been missed.
    ///
    /// - Parameter number: of the last notice before.
    case opened(number: Int)
    /// - Parameter number: grows from notice to notice, and is the same for every control plane.
    case notice(number: Int, text: String)
    /// Nothing is heard until it is `opened` again.
    case lost(reason: String)
    /// A change may or may not be in the store: whoever would have told of it does not know.
    case uncertain
}

/// How a notice goes through a channel whose messages are short.
enum NoticeParts {
    /// PostgreSQL takes less than 8,000 bytes, our head of a part included.
    static let mostBytes = 7_900

    /// Splits at characters. Each part says how many follow it.
    static func split(_ text: String, mostBytes: Int = mostBytes) -> [String] {
        var parts: [String] = []
        var rest = Array(text.utf8)[...]
        while rest.count > mostBytes {
            var end = rest.startIndex + mostBytes
            while rest[end] & 0b1100_0000 == 0b1000_0000 { end -= 1 }
            parts.append(String(decoding: rest[..<end], as: UTF8.self))
            rest = rest[end...]
        }
        parts.append(String(decoding: rest, as: UTF8.self))
        return parts.enumerated().map { "\(parts.count - 1 - $0.offset) \($0.element)" }
    }

    /// Puts parts together again that come in their order.
    struct Joining {
        private var begun = ""

        /// - Returns: the whole text with its last part.
        mutating func take(_ part: Substring) -> String? {
            guard let space = part.firstIndex(of: " "), let following = Int(part[..<space]) else { return nil }
            begun += part[part.index(after: space)...]
            guard following == 0 else { return nil }
            defer { begun = "" }
            return begun
        }
    }
}
