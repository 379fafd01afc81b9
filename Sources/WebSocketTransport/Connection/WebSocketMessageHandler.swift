import NIOCore
import NIOWebSocket

/// What a connection is asked to do; travels the pipeline like data, so that order is kept.
enum WebSocketCommand: Sendable {
    case send(WebSocketMessage)
    case close(code: UInt16, reason: String)
    case keepalive(Keepalive)
}

/// Translates between frames and messages: masks, answers pings, keeps the connection alive, closes in order.
final class WebSocketMessageHandler: ChannelDuplexHandler {
    typealias InboundIn = WebSocketFrame
    typealias InboundOut = WebSocketMessage
    typealias OutboundIn = WebSocketCommand
    typealias OutboundOut = WebSocketFrame

    private enum State {
        case open
        /// We sent a close frame and wait for the peer's.
        case closing(WebSocketClosure)
        case closed
    }

    private let role: WebSocketRole
    private let limits: WebSocketLimits
    private let closure: EventLoopPromise<WebSocketClosure>
    private var assembler: FrameAssembler
    private var state = State.open
    private var keepalive = Keepalive(pingEvery: .seconds(30), giveUpAfter: .seconds(75))
    /// By the clock of the event loop, as its timers are.
    private var lastHeard = NIODeadline.distantPast
    private var pingTask: Scheduled<Void>?
    private var stuckTask: Scheduled<Void>?

    /// A peer that does not answer our close frame in this time is cut off.
    private static let closeTimeout = TimeAmount.seconds(5)
    /// A socket that takes nothing for this long is closed.
    private static let stuckTimeout = TimeAmount.seconds(30)

    init(role: WebSocketRole, limits: WebSocketLimits, closure: EventLoopPromise<WebSocketClosure>) {
        self.role = role
        self.limits = limits
        self.closure = closure
        assembler = FrameAssembler(role: role, messageBytes: limits.messageBytes)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        lastHeard = context.eventLoop.now
        schedulePing(context)
    }

    func handlerRemoved(context: ChannelHandlerContext) { ended() }

    func channelInactive(context: ChannelHandlerContext) {
        ended()
        context.fireChannelInactive()
    }

    // MARK: in

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        lastHeard = context.eventLoop.now
        switch assembler.received(unwrapInboundIn(data)) {
        case .message(let message):
            if case .open = state { context.fireChannelRead(wrapInboundOut(message)) }
        case .incomplete, .pong: break
        case .ping(let payload):
            // A peer that sends and does not read gets no more answers than its socket takes.
            if case .open = state, context.channel.isWritable { write(context, .pong, payload, promise: nil) }
        case .close(let code, let reason): closeReceived(context, code: code, reason: reason)
        case .violation(let code, let reason): fail(context, code: UInt16(webSocketErrorCode: code), reason: reason)
        }
    }

    /// The server stops. What is on its way to the peer, such as a goodbye, is given a moment.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent {
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.eventLoop.scheduleTask(in: .milliseconds(500)) {
                let (handler, context) = bound.value
                handler.startClosing(context, .init(origin: .ourselves, code: 1001, reason: "the server stops"))
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case NIOWebSocketError.invalidFrameLength:
            fail(context, code: 1009, reason: "frame larger than \(limits.frameBytes) bytes")
        case is NIOWebSocketError: fail(context, code: 1002, reason: "malformed frame")
        default: context.close(promise: nil)
        }
    }

    private func closeReceived(_ context: ChannelHandlerContext, code: UInt16, reason: String) {
        switch state {
        case .open:
            sendClose(context, code: code == 1005 ? 1000 : code, reason: "")
            finish(context, .init(origin: .peer, code: code, reason: reason))
        case .closing(let own): finish(context, own)
        case .closed: break
        }
    }

    // MARK: out

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .keepalive(let keepalive):
            self.keepalive = keepalive
            schedulePing(context)
            promise?.succeed()
        case .close(let code, let reason):
            startClosing(context, .init(origin: .ourselves, code: code, reason: reason))
            promise?.succeed()
        case .send(let message):
            guard case .open = state else {
                promise?.fail(ChannelError.ioOnClosedChannel)
                return
            }
            send(context, message, promise)
        }
    }

    /// A message larger than a frame goes out in pieces: the peer refuses larger frames.
    private func send(_ context: ChannelHandlerContext, _ message: WebSocketMessage, _ promise: EventLoopPromise<Void>?)
    {
        var rest: ByteBuffer
        var opcode: WebSocketOpcode
        switch message {
        case .text(let text): (rest, opcode) = (context.channel.allocator.buffer(string: text), .text)
        case .binary(let bytes): (rest, opcode) = (bytes, .binary)
        }
        while rest.readableBytes > limits.frameBytes, let piece = rest.readSlice(length: limits.frameBytes) {
            write(context, opcode, piece, isLast: false, promise: nil)
            opcode = .continuation
        }
        write(context, opcode, rest, promise: promise)
    }

    private func write(
        _ context: ChannelHandlerContext, _ opcode: WebSocketOpcode, _ payload: ByteBuffer, isLast: Bool = true,
        promise: EventLoopPromise<Void>?
    ) {
        let frame = WebSocketFrame(
            fin: isLast, opcode: opcode, maskKey: role == .client ? .random() : nil, data: payload)
        context.writeAndFlush(wrapOutboundOut(frame), promise: promise)
    }

    private func sendClose(_ context: ChannelHandlerContext, code: UInt16, reason: String) {
        var payload = context.channel.allocator.buffer(capacity: 2 + reason.utf8.count)
        payload.writeInteger(code)
        payload.writeString(String(decoding: reason.utf8.prefix(120), as: UTF8.self))
        // Repairing a cut character may lengthen the text past what a control frame holds.
        if payload.readableBytes > 125 { payload.moveWriterIndex(to: 2) }
        write(context, .connectionClose, payload, promise: nil)
    }

    // MARK: ending

    private func fail(_ context: ChannelHandlerContext, code: UInt16, reason: String) {
        startClosing(context, .init(origin: .ourselves, code: code, reason: reason))
    }

    private func startClosing(_ context: ChannelHandlerContext, _ closure: WebSocketClosure) {
        guard case .open = state else { return }
        state = .closing(closure)
        sendClose(context, code: closure.code, reason: closure.reason)
        let channel = context.channel
        context.eventLoop.scheduleTask(in: Self.closeTimeout) { channel.close(promise: nil) }
    }

    private func finish(_ context: ChannelHandlerContext, _ closure: WebSocketClosure) {
        state = .closed
        self.closure.succeed(closure)
        context.close(promise: nil)
    }

    private func ended() {
        pingTask?.cancel()
        stuckTask?.cancel()
        pingTask = nil
        stuckTask = nil
        switch state {
        case .open: closure.succeed(.init(origin: .cutOff, code: 1006))
        case .closing(let own): closure.succeed(own)
        case .closed: break
        }
        state = .closed
    }

    // MARK: time

    private func schedulePing(_ context: ChannelHandlerContext) {
        pingTask?.cancel()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        pingTask = context.eventLoop.scheduleTask(in: TimeAmount(keepalive.pingEvery)) {
            let (handler, context) = bound.value
            handler.pingIsDue(context)
        }
    }

    private func pingIsDue(_ context: ChannelHandlerContext) {
        guard case .open = state else { return }
        if context.eventLoop.now - lastHeard >= TimeAmount(keepalive.giveUpAfter) {
            finish(context, .init(origin: .silence, code: 1006, reason: "nothing heard for \(keepalive.giveUpAfter)"))
            return
        }
        write(context, .ping, ByteBuffer(), promise: nil)
        schedulePing(context)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        stuckTask?.cancel()
        stuckTask = nil
        if !context.channel.isWritable {
            let channel = context.channel
            stuckTask = context.eventLoop.scheduleTask(in: Self.stuckTimeout) { channel.close(promise: nil) }
        }
        context.fireChannelWritabilityChanged()
    }
}
