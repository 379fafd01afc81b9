import AgentProtocol

/// What is to be sent to one agent: a bounded queue of small messages, and the mark that the store holds something new.
/// The desired state itself is read from the store when it is sent, so any number of changes cost one delta. There is a
/// task only while there is something to send: most agents are idle, and thousands are connected.
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
    private var send: (@Sendable (Item) async -> Bool)?
    private var isSending = false
    private var isDelayed = false

    /// - Parameter send: called for one item after the other; returns false where nothing may follow.
    func start(_ send: @escaping @Sendable (Item) async -> Bool) {
        self.send = send
        wake()
    }

    /// Nothing more is sent.
    func stop() { send = nil }

    func say(_ message: ControlPlaneMessage) {
        if messages.count < Self.limit { messages.append(message) }
        wake()
    }

    nonisolated func desiredStateChanged() { Task { await self.markDesired() } }

    func markDesired() {
        desiredIsDue = true
        wake()
    }

    /// However often it is called meanwhile, once.
    func markDesired(after delay: Duration) {
        guard delay > .zero else { return markDesired() }
        guard !isDelayed else { return }
        isDelayed = true
        Task {
            try? await Task.sleep(for: delay)
            isDelayed = false
            markDesired()
        }
    }

    func end(with goodbye: ControlPlaneMessage.Goodbye) {
        if self.goodbye == nil { self.goodbye = goodbye }
        wake()
    }

    private func wake() {
        guard !isSending, send != nil else { return }
        isSending = true
        Task { await sendAll() }
    }

    private func sendAll() async {
        defer { isSending = false }
        while let send {
            let items = drain()
            if items.isEmpty { return }
            for item in items {
                // Stopped while the one before was being sent, the rest is not sent either.
                guard self.send != nil, await send(item) else { return stop() }
            }
        }
    }

    private func drain() -> [Item] {
        var items = messages.map(Item.message)
        messages = []
        if desiredIsDue { items.append(.desiredState) }
        desiredIsDue = false
        if let goodbye { items.append(.end(goodbye)) }
        return items
    }
}
