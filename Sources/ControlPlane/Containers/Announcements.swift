import NIOCore
import NIOPosix
import Synchronization

/// What follows from changes that are durable, in the order of the changes. Whoever asked for one does not wait for it: on an
/// event loop it is done once the loop has nothing more at hand, which is when the answer is written.
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
        Task(executorPreference: executor) {
            while let announce = self.next() { await announce() }
        }
    }

    private func next() -> (@Sendable () async -> Void)? {
        var whoWaits: [CheckedContinuation<Void, Never>] = []
        let next: (@Sendable () async -> Void)? = state.withLock { state in
            if !state.waiting.isEmpty { return state.waiting.removeFirst() }
            state.isAtWork = false
            swap(&state.whoWaits, &whoWaits)
            return nil
        }
        for continuation in whoWaits { continuation.resume() }
        return next
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
