import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOPosix
import NIOSSL
import WebSocketTransport

/// The server's connections: a WebSocket where the gate accepts one, the router's HTTP otherwise.
struct ServerChannel: HTTPChannelHandler {
    typealias HTTPSide = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

    struct Value: ServerChildChannelValue {
        let channel: any Channel
        let negotiated: EventLoopFuture<NegotiatedConnection<SocketGate.Purpose, HTTPSide>>
    }

    let responder: HTTPChannelHandler.Responder
    let gate: SocketGate
    let limits: WebSocketLimits
    /// Nil where it speaks HTTP in the clear.
    let certificate: ServerCertificate?
    let converse: @Sendable (WebSocketConnection, SocketGate.Purpose) async -> Void

    /// A connection on which nothing has happened for this long is closed.
    private static let idleTimeout = TimeAmount.seconds(120)

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            if let certificate {
                try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: certificate.current))
            }
            let negotiated = try WebSocketUpgradeGate<SocketGate.Purpose, HTTPSide>.install(
                on: channel, limits: limits,
                authorize: { head, address in await gate.decide(head, from: address?.ipAddress ?? "") },
                configureHTTP: { channel in
                    try channel.pipeline.syncOperations.addHandlers([
                        HTTP1ToHTTPServerCodec(secure: false), IdleStateHandler(allTimeout: Self.idleTimeout),
                        CloseWhenIdle(),
                    ])
                    return try HTTPSide(
                        wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
                })
            return Value(channel: channel, negotiated: negotiated)
        }
    }

    func handle(value: Value, logger: Logger) async {
        guard let connection = try? await value.negotiated.get() else { return }
        switch connection {
        case .http(let channel): await handleHTTP(asyncChannel: channel, logger: logger)
        case .webSocket(let socket, let purpose): await converse(socket, purpose)
        }
    }
}

/// Ends a connection on which nothing happens: after the idle time, and at once when the server stops; a request that is
/// under way is answered first.
private final class CloseWhenIdle: ChannelDuplexHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private var requestsUnderWay = 0
    private var isStopping = false
    /// The body of the last request is still coming.
    private var isReceiving = false
    private var lastCall: Scheduled<Void>?
    /// How long the rest of a body may take that nobody waits for any more.
    private static let restTimeout = TimeAmount.seconds(20)

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head:
            requestsUnderWay += 1
            isReceiving = true
        case .body: break
        case .end:
            isReceiving = false
            lastCall?.cancel()
            lastCall = nil
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data) else { return context.write(data, promise: promise) }
        requestsUnderWay -= 1
        let channel = context.channel
        let written = promise ?? context.eventLoop.makePromise()
        if isReceiving, lastCall == nil {
            // Answered without it, as a refusal is: what drips on must not hold the connection.
            lastCall = context.eventLoop.scheduleTask(in: Self.restTimeout) { channel.close(promise: nil) }
        }
        if isStopping, requestsUnderWay <= 0 { written.futureResult.whenComplete { _ in channel.close(promise: nil) } }
        context.write(data, promise: written)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case is IdleStateHandler.IdleStateEvent: context.close(promise: nil)
        case is ChannelShouldQuiesceEvent:
            isStopping = true
            if requestsUnderWay <= 0 { context.close(promise: nil) }
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }
}
