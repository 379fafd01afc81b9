package import NIOCore

/// An open WebSocket. Both ends are the same once the handshake is done.
package struct WebSocketConnection: Sendable {
    private let channel: NIOAsyncChannel<WebSocketMessage, WebSocketCommand>
    private let closureFuture: EventLoopFuture<WebSocketClosure>
    /// The subprotocol that both ends agreed on.
    package let subprotocol: String?

    /// For tests and logs.
    package var remoteAddress: String { channel.channel.remoteAddress?.description ?? "" }
    package var underlying: any Channel { channel.channel }

    /// Adds messages to `channel`, whose handshake is done and whose last handlers translate frames. Call on its event
    /// loop.
    init(
        upgrading channel: any Channel, role: WebSocketRole, limits: WebSocketLimits, subprotocol: String?
    ) throws {
        let closure = channel.eventLoop.makePromise(of: WebSocketClosure.self)
        try channel.pipeline.syncOperations.addHandler(
            WebSocketMessageHandler(role: role, limits: limits, closure: closure))
        self.channel = try NIOAsyncChannel(
            wrappingChannelSynchronously: channel,
            configuration: .init(backPressureStrategy: .init(lowWatermark: 4, highWatermark: 32)))
        closureFuture = closure.futureResult
        self.subprotocol = subprotocol
    }

    /// Sends messages; may be shared by tasks, each message goes out whole.
    package struct Writer: Sendable {
        let outbound: NIOAsyncChannelOutboundWriter<WebSocketCommand>

        /// Returns when the socket has room again: a slow peer slows its sender.
        package func send(_ text: String) async throws { try await outbound.write(.send(.text(text))) }
        package func send(_ bytes: ByteBuffer) async throws { try await outbound.write(.send(.binary(bytes))) }
        package func setKeepalive(_ keepalive: Keepalive) async throws {
            try await outbound.write(.keepalive(keepalive))
        }

        /// Starts an orderly close: the messages of the peer end once it has answered, or after 5 s.
        package func close(code: UInt16 = 1000, reason: String = "") async {
            try? await outbound.write(.close(code: code, reason: reason))
        }
    }

    package typealias Messages = NIOAsyncChannelInboundStream<WebSocketMessage>

    /// Runs `body` with the messages of the peer and a writer, then closes. Ends the connection when the task is cancelled.
    ///
    /// - Returns: how the connection ended.
    package func run(_ body: @Sendable (Messages, Writer) async throws -> Void) async throws -> WebSocketClosure {
        do {
            try await channel.executeThenClose { inbound, outbound in
                let writer = Writer(outbound: outbound)
                try await body(inbound, writer)
                await writer.close()
            }
        } catch is ChannelError {
            // The peer went away while something was being sent: the closure tells how.
        }
        return try await closureFuture.get()
    }

    /// Closes without ceremony.
    package func abandon() { channel.channel.close(promise: nil) }
}
