import Synchronization

/// Wakes one listener; any number of rings while it works make one more round. A ring without a listener is kept.
///
/// Each listener gets a stream of its own: an `AsyncStream` whose task was cancelled is finished for ever, and listeners
/// come and go with their sessions.
package final class Doorbell: Sendable {
    private struct State {
        var listener: AsyncStream<Void>.Continuation?
        var listenerNumber = 0
        var isRinging = false
        var count = 0
    }

    private let state = Mutex(State())

    package init() {}

    package func ring() {
        state.withLock { state in
            state.count += 1
            if let listener = state.listener { listener.yield() } else { state.isRinging = true }
        }
    }

    /// How often it was rung.
    package var count: Int { state.withLock { $0.count } }

    /// For one listener at a time: the newest one is rung.
    package var rings: AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let (number, before) = state.withLock { state in
            let before = state.listener
            state.listener = continuation
            state.listenerNumber += 1
            if state.isRinging { continuation.yield() }
            state.isRinging = false
            return (state.listenerNumber, before)
        }
        // Outside the lock: its end is heard by `left`, which takes it.
        before?.finish()
        continuation.onTermination = { [weak self] _ in self?.left(number) }
        return stream
    }

    /// Whether the last ring was heard is not known: the next listener makes one round more than needed, never one less.
    private func left(_ number: Int) {
        state.withLock { state in
            guard state.listenerNumber == number else { return }
            state.listener = nil
            state.isRinging = true
        }
    }
}
