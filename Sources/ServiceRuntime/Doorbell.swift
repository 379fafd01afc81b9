/// Wakes one listener; any number of rings while it works make one more round.
package struct Doorbell: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    package init() {
        (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    package func ring() { continuation.yield() }

    /// For one listener at a time.
    package var rings: AsyncStream<Void> { stream }
}
