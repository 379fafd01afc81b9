import HTTPTypes
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
                on: channel,
                authorize: { head, address in await gate.decide(head, from: address?.ipAddress ?? "") },
                configureHTTP: { channel in
                    try channel.pipeline.syncOperations.addHandlers([
                        HTTP1ToHTTPServerCodec(secure: false), IdleStateHandler(allTimeout: Self.idleTimeout),
                        ConnectionTimes(),
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
        case .http(let channel):
            await withTaskExecutorPreference(EventLoopExecutor(channel.channel.eventLoop)) {
                await handleHTTP(asyncChannel: channel, logger: logger)
            }
        case .webSocket(let socket, let purpose): await converse(socket, purpose)
        }
    }
}

/// What a reader of a body gets where it does not come: one that drips would hold its connection for years.
struct LateBody: Error {
    /// For the whole body, from its head on.
    static let timeout = TimeAmount.seconds(20)
}

/// Ends a connection that has had its time: on which nothing happens, whose body does not come, at once when the server
/// stops, and with a request that is its last. A request that is under way is answered first, and its body taken.
private final class ConnectionTimes: ChannelDuplexHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private var requestsUnderWay = 0
    /// Of the newest request, until its end.
    private var isBodyComing = false
    /// After the answers to them, and the body that is coming, no more requests are read.
    private var isEnding = false
    /// While a body is coming.
    private var deadline: Scheduled<Void>?
    /// For the answer to a request whose body did not come.
    private static let answerTimeout = TimeAmount.seconds(5)

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // Whoever sends more than the last request sends it again, on another connection.
        if isEnding, !isBodyComing { return }
        switch unwrapInboundIn(data) {
        case .head(let head):
            requestsUnderWay += 1
            isBodyComing = true
            if Self.isLast(head) { isEnding = true }
            if head.headerFields[.contentLength] ?? "0" != "0" || head.headerFields[.transferEncoding] != nil {
                let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
                deadline = context.eventLoop.scheduleTask(in: LateBody.timeout) {
                    let (handler, context) = bound.value
                    handler.bodyIsLate(context)
                }
            }
        case .body: break
        case .end:
            isBodyComing = false
            deadline?.cancel()
            deadline = nil
        }
        context.fireChannelRead(data)
        if isEnding, !isBodyComing, requestsUnderWay <= 0 { context.close(promise: nil) }
    }

    /// A connection becomes a WebSocket with its first request or never. Behind an `Upgrade` the parser reads nothing; and a
    /// proxy sends an upgrade over any connection that it has kept, so it is let keep none.
    private static func isLast(_ head: HTTPRequest) -> Bool {
        head.headerFields[.upgrade] != nil || proxyMarks.contains { head.headerFields[$0] != nil }
    }

    private static let proxyMarks: [HTTPField.Name] = [.via, .init("Forwarded")!, .init("X-Forwarded-For")!]

    private func bodyIsLate(_ context: ChannelHandlerContext) {
        guard requestsUnderWay > 0 else { return context.close(promise: nil) }
        isEnding = true
        isBodyComing = false
        context.fireErrorCaught(LateBody())
        let channel = context.channel
        deadline = context.eventLoop.scheduleTask(in: Self.answerTimeout) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) { deadline?.cancel() }

    /// To a request that is none the framework answers by itself, with nothing in it.
    private static let malformed = ByteBuffer(string: #"{"error":"malformed request"}"#)

    private func answerMalformed(_ context: ChannelHandlerContext, _ head: HTTPResponse) {
        var head = head
        head.headerFields[.contentType] = "application/json; charset=utf-8"
        head.headerFields[.contentLength] = String(Self.malformed.readableBytes)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(Self.malformed)), promise: nil)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(let head) where head.status == .badRequest && head.headerFields[.contentLength] == "0":
            answerMalformed(context, head)
            promise?.succeed()
            return
        case .head(var head) where isEnding && requestsUnderWay == 1:
            head.headerFields[.connection] = "close"
            return context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .head, .body: return context.write(data, promise: promise)
        case .end: requestsUnderWay -= 1
        }
        // Closed with a body unread, the answer would be lost on its way.
        guard isEnding, !isBodyComing, requestsUnderWay <= 0 else { return context.write(data, promise: promise) }
        let channel = context.channel
        let written = promise ?? context.eventLoop.makePromise()
        written.futureResult.whenComplete { _ in channel.close(promise: nil) }
        context.write(data, promise: written)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case is IdleStateHandler.IdleStateEvent: context.close(promise: nil)
        case is ChannelShouldQuiesceEvent:
            isEnding = true
            if requestsUnderWay <= 0, !isBodyComing { context.close(promise: nil) }
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }
}
