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
}
