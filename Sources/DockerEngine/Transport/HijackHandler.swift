import NIOCore
import NIOHTTP1

/// Turns an HTTP connection into a plain byte stream once the Engine agrees, and an answer that is none into an error.
final class HijackHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart

    var result: EventLoopPromise<NIOAsyncChannel<ByteBuffer, ByteBuffer>>?
    private let call: String
    private let object: String
    private let encoder: HTTPRequestEncoder
    private let decoder: ByteToMessageHandler<HTTPResponseDecoder>
    private enum Answer {
        case none
        case agreed
        case refused(status: Int, body: ByteBuffer)
    }

    private var answer = Answer.none

    init(call: String, object: String, encoder: HTTPRequestEncoder, decoder: ByteToMessageHandler<HTTPResponseDecoder>)
    {
        self.call = call
        self.object = object
        self.encoder = encoder
        self.decoder = decoder
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch (unwrapInboundIn(data), answer) {
        case (.head(let head), _) where head.status == .switchingProtocols: answer = .agreed
        case (.head(let head), _): answer = .refused(status: Int(head.status.code), body: ByteBuffer())
        case (.body(var part), .refused(let status, var body)):
            guard body.readableBytes < 64 * 1024 else { return }
            body.writeBuffer(&part)
            answer = .refused(status: status, body: body)
        // Only now: the decoder hands the end of the answer to whoever stands behind it.
        case (.end, .agreed): upgrade(context: context)
        case (.end, .refused(let status, let body)):
            fail(.refused(status: status), EngineMessage.text(of: body))
            context.close(promise: nil)
        case (.body, _), (.end, .none): break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(.cutOff, "before the answer was complete")
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(.cutOff, String(describing: error))
        context.close(promise: nil)
    }

    private func upgrade(context: ChannelHandlerContext) {
        guard let result else { return }
        self.result = nil
        let pipeline = context.pipeline.syncOperations
        do {
            let channel = try NIOAsyncChannel<ByteBuffer, ByteBuffer>(
                wrappingChannelSynchronously: context.channel,
                configuration: .init(isOutboundHalfClosureEnabled: true))
            // The decoder goes last and hands over what it holds; by then the byte stream is listening.
            pipeline.removeHandler(context: context, promise: nil)
            pipeline.removeHandler(encoder, promise: nil)
            pipeline.removeHandler(decoder, promise: nil)
            result.succeed(channel)
        } catch {
            result.fail(error)
        }
    }

    private func fail(_ kind: EngineError.Kind, _ message: String) {
        result?.fail(EngineError(kind: kind, call: call, object: object, message: message))
        result = nil
    }
}
