/// Tells open sockets that their token is void.
actor Revocations {
    private var listeners: [String: [Int: AsyncStream<Void>.Continuation]] = [:]
    private var next = 0

    /// Yields when the token with this id is revoked, or may have been.
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

    /// Some may have been missed: all streams look whether their token is still good.
    func checkAll() { for listener in listeners.values.flatMap(\.values) { listener.yield() } }

    private func left(_ token: String, _ number: Int) {
        listeners[token]?[number] = nil
        if listeners[token]?.isEmpty == true { listeners[token] = nil }
    }
}
