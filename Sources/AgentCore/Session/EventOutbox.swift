package import AgentProtocol
package import BerthModel

/// The history on its way to the control plane: at least once, in order, bounded. What had no room is counted.
package struct EventOutbox: Sendable {
    package static let limit = 1000

    private var records: [ActionRecord] = []
    private var sent = 0
    private var dropped = 0

    package init() {}

    package mutating func add(_ record: ActionRecord) {
        if records.count >= Self.limit {
            records.removeFirst()
            sent = max(0, sent - 1)
            dropped += 1
        }
        records.append(record)
    }

    package mutating func sessionStarted() { sent = 0 }

    /// Nil where all was sent.
    package mutating func nextToSend() -> AgentMessage.Events? {
        guard sent < records.count else { return nil }
        let items = records[sent..<min(sent + ProtocolLimits.eventBatch, records.count)]
        sent += items.count
        return .init(items: Array(items), dropped: dropped)
    }

    /// Everything up to this number is kept by the control plane now.
    package mutating func acknowledged(upTo number: Int) {
        let known = records.prefix { $0.number <= number }.count
        records.removeFirst(known)
        sent = max(0, sent - known)
    }
}
