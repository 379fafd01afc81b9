/// Tells open sockets that their token is void.
actor Revocations {
    private var listeners: [String: [Int: AsyncStream<Void>.Continuation]] = [:]
    private var next = 0

    /// Yields once when the token with this id is revoked.
    func ofToken(_ token: String) -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        next += 1
        let number = next
        listeners[token, default: [:]][number] = continuation
        continuation.onTermination = { [weak self] _ in Task { await self?.left(token, number) } }
        return stream
    }

    func revoked(_ token: String) {
        for listener in listeners.removeValue(forKey: token)?.values ?? [:].values {
            listener.yield()
            listener.finish()
        }
    }

    private func left(_ token: String, _ number: Int) {
        listeners[token]?[number] = nil
        if listeners[token]?.isEmpty == true { listeners[token] = nil }
    }
}
