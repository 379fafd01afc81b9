import Dispatch

/// One connection to the server, with a queue of its own on which it waits for answers.
final class PostgresConnection: Sendable {
    private let queue: DispatchQueue
    /// Used on the queue alone.
    private nonisolated(unsafe) let session: PostgresSession

    private init(_ session: PostgresSession, _ queue: DispatchQueue) {
        self.session = session
        self.queue = queue
    }

    /// - Throws: `StoreFailure.unavailable`
    static func open(_ library: PostgresLibrary, _ address: String) async throws -> PostgresConnection {
        let queue = DispatchQueue(label: "berth.postgres")
        return try await withCheckedThrowingContinuation { continuation in
            queue.async {
                continuation.resume(
                    with: Result {
                        PostgresConnection(try PostgresSession(library, address: address), queue)
                    })
            }
        }
    }

    /// Runs `body` on the connection's queue. A caller that leaves does not stop it.
    func perform<Value: Sendable>(
        _ body: @escaping @Sendable (PostgresSession) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try body(self.session) }) }
        }
    }

    /// Calls `readable` on the queue whenever the server has said something, until the source is cancelled.
    func watch(_ readable: @escaping @Sendable (PostgresSession) -> Void) async -> any DispatchSourceRead {
        await withCheckedContinuation { continuation in
            queue.async { [self] in
                let source = DispatchSource.makeReadSource(
                    fileDescriptor: session.library.socket(session.handle), queue: queue)
                // The source keeps the connection until it is cancelled.
                source.setEventHandler { readable(self.session) }
                source.setCancelHandler {}
                source.activate()
                continuation.resume(returning: source)
            }
        }
    }
}
