import AgentProtocol
import ServiceRuntime

/// What is to be sent to one agent: a bounded queue of small messages, and the mark that the store holds something new.
/// The desired state itself is read from the store when it is sent, so any number of changes cost one delta.
actor AgentOutgoing {
    enum Item: Sendable {
        case message(ControlPlaneMessage)
        case desiredState
        case end(ControlPlaneMessage.Goodbye)
    }

    private static let limit = 1000
    private var messages: [ControlPlaneMessage] = []
    private var desiredIsDue = false
    private var goodbye: ControlPlaneMessage.Goodbye?
    nonisolated let doorbell = Doorbell()

    func say(_ message: ControlPlaneMessage) {
        if messages.count < Self.limit { messages.append(message) }
        doorbell.ring()
    }

    nonisolated func desiredStateChanged() { Task { await self.markDesired() } }

    func markDesired() {
        desiredIsDue = true
        doorbell.ring()
    }

    func markDesired(after delay: Duration) {
        guard delay > .zero else { return markDesired() }
        Task {
            try await Task.sleep(for: delay)
            self.markDesired()
        }
    }

    func end(with goodbye: ControlPlaneMessage.Goodbye) {
        if self.goodbye == nil { self.goodbye = goodbye }
        doorbell.ring()
    }

    func drain() -> [Item] {
        var items = messages.map(Item.message)
        messages = []
        if desiredIsDue { items.append(.desiredState) }
        desiredIsDue = false
        if let goodbye { items.append(.end(goodbye)) }
        return items
    }
}
