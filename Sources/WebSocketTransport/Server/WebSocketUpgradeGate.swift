package import NIOCore
package import NIOHTTP1
import NIOWebSocket

/// What becomes of a request that wants to be a WebSocket.
package enum UpgradeDecision<Accepted: Sendable>: Sendable {
    case accept(subprotocol: String?, WebSocketLimits, Accepted)
    /// Answered as it stands, and the connection closed.
    case refuse(status: HTTPResponseStatus, headers: HTTPHeaders, body: String)
    /// Not a WebSocket path: goes to the router like any request, without its `Upgrade`.
    case plainHTTP
}

/// What a server connection turned out to be.
package enum NegotiatedConnection<Accepted: Sendable, HTTPSide: Sendable>: Sendable {
    case webSocket(WebSocketConnection, Accepted)
    case http(HTTPSide)
}

/// Stands in front of a server's router, looks at the first request of a connection and decides what it is.
///
/// NIO's own upgrader drops the request when no upgrader accepts (apple/swift-nio#2632), which leaves clients hanging;
/// here a refusal is an HTTP answer, and what is no WebSocket reaches the router whole. While the decision is made
/// nothing more is read from the socket.
package final class WebSocketUpgradeGate<Accepted: Sendable, HTTPSide: Sendable>: ChannelDuplexHandler,
    RemovableChannelHandler
{
    package typealias InboundIn = HTTPServerRequestPart
    package typealias InboundOut = HTTPServerRequestPart
    package typealias OutboundIn = HTTPServerResponsePart
    package typealias OutboundOut = HTTPServerResponsePart
    package typealias Negotiated = NegotiatedConnection<Accepted, HTTPSide>

    private enum State {
        case waiting
        case deciding([HTTPServerRequestPart])
        case decided
    }

    private let headTimeout: TimeAmount
    private let authorize: @Sendable (HTTPRequestHead, SocketAddress?) async -> UpgradeDecision<Accepted>
    private let configureHTTP: @Sendable (any Channel) throws -> HTTPSide
    private let negotiated: EventLoopPromise<Negotiated>
    private var state = State.waiting
    private var holdsRead = false
    private var headTask: Scheduled<Void>?

    /// - Parameters:
    ///   - headTimeout: a connection that has not sent a whole head by then is closed.
    ///   - configureHTTP: adds the handlers of plain HTTP behind this one; called on the event loop.
    private init(
        headTimeout: TimeAmount, negotiated: EventLoopPromise<Negotiated>,
        authorize: @escaping @Sendable (HTTPRequestHead, SocketAddress?) async -> UpgradeDecision<Accepted>,
        configureHTTP: @escaping @Sendable (any Channel) throws -> HTTPSide
    ) {
        self.headTimeout = headTimeout
        self.negotiated = negotiated
        self.authorize = authorize
        self.configureHTTP = configureHTTP
    }

    /// Adds the HTTP handlers and the gate to a new server connection; call on its event loop.
    ///
    /// - Returns: what the connection is, once its first request has come. Fails where it ends before.
    package static func install(
        on channel: any Channel, headTimeout: TimeAmount = .seconds(15),
        authorize: @escaping @Sendable (HTTPRequestHead, SocketAddress?) async -> UpgradeDecision<Accepted>,
        configureHTTP: @escaping @Sendable (any Channel) throws -> HTTPSide
    ) throws -> EventLoopFuture<Negotiated> {
        let negotiated = channel.eventLoop.makePromise(of: Negotiated.self)
        var decoderLimits = NIOHTTPDecoderLimitConfiguration()
        decoderLimits.maxHeaderFieldSize = 16 * 1024
        decoderLimits.maxHeaderListSize = 64 * 1024
        decoderLimits.maxHeaderFieldCount = 200
        do {
            try channel.pipeline.syncOperations.addHandlers([
                HTTPResponseEncoder(),
                ByteToMessageHandler(
                    HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: decoderLimits)),
                WebSocketUpgradeGate(
                    headTimeout: headTimeout, negotiated: negotiated, authorize: authorize,
                    configureHTTP: configureHTTP),
            ])
        } catch {
            negotiated.fail(error)
            throw error
        }
        return negotiated.futureResult
    }

    package func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        headTask = context.eventLoop.scheduleTask(in: headTimeout) { channel.close(promise: nil) }
    }

    package func handlerRemoved(context: ChannelHandlerContext) { end() }

    package func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    private func end() {
        headTask?.cancel()
        if case .decided = state { return }
        state = .decided
        negotiated.fail(ChannelError.eof)
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard case .waiting = state, error is HTTPParserError else {
            context.fireErrorCaught(error)
            return
        }
        refuse(context, .badRequest, [:], #"{"error":"malformed request"}"#)
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .waiting = state, event is ChannelShouldQuiesceEvent { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    package func read(context: ChannelHandlerContext) {
        if case .deciding = state { holdsRead = true } else { context.read() }
    }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        switch state {
        case .decided: context.fireChannelRead(data)
        case .deciding(let parts): state = .deciding(parts + [part])
        case .waiting:
            headTask?.cancel()
            guard case .head(let head) = part else { return }
            guard head.headers.contains(name: "Upgrade") else {
                state = .deciding([part])
                passToHTTP(context)
                return
            }
            state = .deciding([part])
            let asksForWebSocket =
                head.method == .GET
                && head.headers[canonicalForm: "Upgrade"].contains { $0.lowercased() == "websocket" }
            guard asksForWebSocket else {
                passToHTTP(context)
                return
            }
            decide(context, head)
        }
    }

    private func decide(_ context: ChannelHandlerContext, _ head: HTTPRequestHead) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let (authorize, address, loop) = (self.authorize, context.remoteAddress, context.eventLoop)
        // Not a child of anybody: it ends with one answer, which nobody takes if the connection is gone by then.
        Task {
            let decision = await authorize(head, address)
            loop.execute {
                let (gate, context) = bound.value
                guard case .deciding = gate.state else { return }
                switch decision {
                case .plainHTTP: gate.passToHTTP(context)
                case .refuse(let status, let headers, let body): gate.refuse(context, status, headers, body)
                case .accept(let subprotocol, let limits, let accepted):
                    gate.upgrade(context, head, subprotocol, limits, accepted)
                }
            }
        }
    }

    private func upgrade(
        _ context: ChannelHandlerContext, _ head: HTTPRequestHead, _ subprotocol: String?, _ limits: WebSocketLimits,
        _ accepted: Accepted
    ) {
        let agreed: HTTPHeaders = subprotocol.map { ["Sec-WebSocket-Protocol": $0] } ?? [:]
        let upgrader = NIOWebSocketServerUpgrader(
            shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture(agreed) },
            upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() })
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        upgrader.buildUpgradeResponse(channel: context.channel, upgradeRequest: head, initialResponseHeaders: [:])
            .whenComplete { result in
                let (gate, context) = bound.value
                guard case .deciding = gate.state else { return }
                switch result {
                case .failure:
                    gate.refuse(
                        context, .upgradeRequired, ["Sec-WebSocket-Version": "13"],
                        #"{"error":"not a WebSocket handshake of version 13"}"#)
                case .success(var headers):
                    headers.replaceOrAdd(name: "Upgrade", value: "websocket")
                    headers.replaceOrAdd(name: "Connection", value: "Upgrade")
                    gate.switchProtocols(context, headers, subprotocol, limits, accepted)
                }
            }
    }

    private func switchProtocols(
        _ context: ChannelHandlerContext, _ headers: HTTPHeaders, _ subprotocol: String?, _ limits: WebSocketLimits,
        _ accepted: Accepted
    ) {
        state = .decided
        let channel = context.channel
        let pipeline = context.pipeline.syncOperations
        let head = HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        do {
            if let encoder = try? pipeline.context(handlerType: HTTPResponseEncoder.self) {
                pipeline.removeHandler(context: encoder, promise: nil)
            }
            try pipeline.addHandlers([
                WebSocketFrameEncoder(),
                ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: limits.frameBytes)),
            ])
            let connection = try WebSocketConnection(
                upgrading: channel, role: .server, limits: limits, subprotocol: subprotocol)
            pipeline.removeHandler(context: context, promise: nil)
            // Last: it hands on the frames that came with the handshake, and by now somebody reads them. The end of this
            // batch must be said too, for who reads waits for it.
            if let decoder = try? pipeline.context(handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self) {
                let handedOn = channel.eventLoop.makePromise(of: Void.self)
                pipeline.removeHandler(context: decoder, promise: handedOn)
                handedOn.futureResult.whenComplete { _ in channel.pipeline.fireChannelReadComplete() }
            }
            negotiated.succeed(.webSocket(connection, accepted))
            if holdsRead { channel.read() }
        } catch {
            negotiated.fail(error)
            context.close(promise: nil)
        }
    }

    private func passToHTTP(_ context: ChannelHandlerContext) {
        guard case .deciding(var parts) = state else { return }
        state = .decided
        do {
            let side = try configureHTTP(context.channel)
            // After an `Upgrade` the parser reads no further request, so this one is the connection's last.
            if case .head(var head)? = parts.first, head.headers.contains(name: "Upgrade") {
                head.headers.remove(name: "Upgrade")
                head.headers.replaceOrAdd(name: "Connection", value: "close")
                parts[0] = .head(head)
            }
            negotiated.succeed(.http(side))
            for part in parts { context.fireChannelRead(wrapInboundOut(part)) }
            context.fireChannelReadComplete()
            context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
            if holdsRead { context.channel.read() }
        } catch {
            negotiated.fail(error)
            context.close(promise: nil)
        }
    }

    private func refuse(
        _ context: ChannelHandlerContext, _ status: HTTPResponseStatus, _ headers: HTTPHeaders, _ body: String
    ) {
        if case .decided = state { return }
        state = .decided
        negotiated.fail(ChannelError.eof)
        var headers = headers
        headers.replaceOrAdd(name: "Content-Type", value: "application/json; charset=utf-8")
        headers.replaceOrAdd(name: "Content-Length", value: String(body.utf8.count))
        headers.replaceOrAdd(name: "Connection", value: "close")
        context.write(wrapOutboundOut(.head(.init(version: .http1_1, status: status, headers: headers))), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: body)))), promise: nil)
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in channel.close(promise: nil) }
    }
}
