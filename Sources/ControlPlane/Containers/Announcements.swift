import NIOCore
import NIOPosix
import Synchronization

/// What follows from changes that are durable, in the order in which it was added. Whoever asked for one does not wait for it:
/// on an event loop it is done once the loop has nothing more at hand, which is when the answer to a creation is written.
final class Announcements: Sendable {
    private struct State {
        var isAtWork = false
        var waiting: [@Sendable () async -> Void] = []
        var whoWaits: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    /// - Parameter announce: waits for nothing but other parts of this program.
    func add(_ announce: @escaping @Sendable () async -> Void) {
        let mustBegin = state.withLock { state in
            state.waiting.append(announce)
            defer { state.isAtWork = true }
            return !state.isAtWork
        }
        guard mustBegin else { return }
        guard let loop = MultiThreadedEventLoopGroup.currentEventLoop else {
            return begin(on: globalConcurrentExecutor)
        }
        loop.execute { self.begin(on: EventLoopExecutor(loop)) }
    }

    private func begin(on executor: any TaskExecutor) {
        // Detached: what belongs to the request that was first is not that of the others.
        Task.detached(executorPreference: executor) {
            while let next = self.next() {
                for announce in next { await announce() }
            }
        }
    }

    /// All that wait; nil, and no longer at work, where none does.
    private func next() -> [@Sendable () async -> Void]? {
        var whoWaits: [CheckedContinuation<Void, Never>] = []
        let next = state.withLock { state in
            let next = state.waiting
            state.waiting = []
            if next.isEmpty {
                state.isAtWork = false
                swap(&state.whoWaits, &whoWaits)
            }
            return next
        }
        for continuation in whoWaits { continuation.resume() }
        return next.isEmpty ? nil : next
    }

    /// Waits until nothing is left to be announced.
    func flush() async {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if state.isAtWork { state.whoWaits.append(continuation) }
                return !state.isAtWork
            }
            if isDone { continuation.resume() }
        }
    }
}
