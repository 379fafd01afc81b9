import AgentProtocol
import Testing

@testable import ControlPlane

/// Who is sent something, item by item; each is taken at once, or when a test lets go of it.
private actor Listener {
    private(set) var heard: [String] = []
    private var isHolding: Bool
    private let failsAt: String?
    private var held: CheckedContinuation<Void, Never>?
    private var waiting: (count: Int, continuation: CheckedContinuation<Void, Never>)?

    /// - Parameters:
    ///   - isHolding: the first item is taken when it is let go.
    ///   - failsAt: this one cannot be sent.
    init(isHolding: Bool = false, failsAt: String? = nil) {
        self.isHolding = isHolding
        self.failsAt = failsAt
    }

    /// As the conversations do: nothing follows an end, or what could not be sent.
    func take(_ item: AgentOutgoing.Item) async -> Bool {
        let word = Self.word(item)
        heard.append(word)
        if let waiting, heard.count >= waiting.count {
            self.waiting = nil
            waiting.continuation.resume()
        }
        if isHolding { await withCheckedContinuation { held = $0 } }
        if case .end = item { return false }
        return word != failsAt
    }

    func letGo() {
        isHolding = false
        held?.resume()
        held = nil
    }

    /// Waits for so many items, from the first on.
    func untilHeard(_ count: Int) async {
        guard heard.count < count else { return }
        await withCheckedContinuation { waiting = (count, $0) }
    }

    private static func word(_ item: AgentOutgoing.Item) -> String {
        switch item {
        case .message(.eventAck(let number)): "message \(number)"
        case .message: "another message"
        case .desiredState: "desired state"
        case .end(let goodbye): "end: \(goodbye.code.word)"
        }
    }
}

/// What is to be sent to an agent goes out in order, one after the other, and ends when it must.
@Suite struct OutgoingToAgents {
    private func say(_ numbers: ClosedRange<Int>, _ outgoing: AgentOutgoing) async {
        for number in numbers { await outgoing.say(.eventAck(upTo: number)) }
    }

    /// Whatever could still be sent would have been by now.
    private func settle() async { for _ in 0..<1000 { await Task.yield() } }

    @Test(.timeLimit(.minutes(1)))
    func `what was said before the start is sent at the start, in its order, and the desired state behind it`()
        async throws
    {
        let (outgoing, listener) = (AgentOutgoing(), Listener())
        await say(1...2, outgoing)
        await outgoing.markDesired()
        await say(3...3, outgoing)
        await settle()
        #expect(await listener.heard.isEmpty)
        await outgoing.start { await listener.take($0) }
        await listener.untilHeard(4)
        #expect(await listener.heard == ["message 1", "message 2", "message 3", "desired state"])
        // And what comes later as it comes.
        await say(4...50, outgoing)
        await listener.untilHeard(51)
        outgoing.desiredStateChanged()
        await listener.untilHeard(52)
        let heard = await listener.heard
        #expect(Array(heard.dropFirst(4)) == (4...50).map { "message \($0)" } + ["desired state"])
    }

    @Test(.timeLimit(.minutes(1)))
    func `any number of changes while the desired state is sent make it be sent once more`() async throws {
        let (outgoing, listener) = (AgentOutgoing(), Listener(isHolding: true))
        await outgoing.start { await listener.take($0) }
        await outgoing.markDesired()
        await listener.untilHeard(1)
        for _ in 0..<5 { await outgoing.markDesired() }
        await listener.letGo()
        await listener.untilHeard(2)
        await settle()
        #expect(await listener.heard == ["desired state", "desired state"])
        // The next change is another one.
        await outgoing.markDesired()
        await listener.untilHeard(3)
        #expect(await listener.heard.count == 3)
    }

    @Test(.timeLimit(.minutes(1))) func `messages beyond a thousand that nobody takes are dropped`() async throws {
        let (outgoing, listener) = (AgentOutgoing(), Listener())
        await say(1...1200, outgoing)
        await outgoing.start { await listener.take($0) }
        await listener.untilHeard(1000)
        await settle()
        #expect(await listener.heard == (1...1000).map { "message \($0)" })
    }

    @Test(.timeLimit(.minutes(1))) func `nothing follows the end, and of two the first is told`() async throws {
        let (outgoing, listener) = (AgentOutgoing(), Listener(isHolding: true))
        await say(1...1, outgoing)
        await outgoing.start { await listener.take($0) }
        await listener.untilHeard(1)
        await outgoing.end(with: .init(code: .replaced, reason: ""))
        await outgoing.end(with: .init(code: .deleted, reason: ""))
        await listener.letGo()
        await listener.untilHeard(2)
        await say(2...3, outgoing)
        await outgoing.markDesired()
        await outgoing.end(with: .init(code: .stopped, reason: ""))
        await settle()
        #expect(await listener.heard == ["message 1", "end: replaced"])
    }

    @Test(.timeLimit(.minutes(1))) func `nothing is sent after a stop, not even what was on its way`() async throws {
        let (outgoing, listener) = (AgentOutgoing(), Listener(isHolding: true))
        await say(1...3, outgoing)
        await outgoing.start { await listener.take($0) }
        await listener.untilHeard(1)
        await outgoing.stop()
        await listener.letGo()
        await say(4...4, outgoing)
        await outgoing.markDesired()
        await outgoing.end(with: .init(code: .draining, reason: ""))
        await settle()
        #expect(await listener.heard == ["message 1"])
    }

    @Test(.timeLimit(.minutes(1))) func `a send that fails is the last one`() async throws {
        let (outgoing, listener) = (AgentOutgoing(), Listener(failsAt: "message 2"))
        await say(1...3, outgoing)
        await outgoing.markDesired()
        await outgoing.start { await listener.take($0) }
        await listener.untilHeard(2)
        await say(4...4, outgoing)
        await outgoing.end(with: .init(code: .draining, reason: ""))
        await settle()
        #expect(await listener.heard == ["message 1", "message 2"])
    }
}
