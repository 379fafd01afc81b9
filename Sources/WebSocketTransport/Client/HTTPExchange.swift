package import NIOCore
package import NIOHTTP1

/// An answer to a plain HTTP request.
package struct HTTPAnswer: Hashable, Sendable {
    package var status: Int
    package var headers: HTTPHeaders
    package var body: ByteBuffer

    var asRefusal: ConnectError {
        let text = String(decoding: body.readableBytesView.prefix(500), as: UTF8.self)
        return .refused(
            status: status, retryAfterSeconds: headers.first(name: "Retry-After").flatMap { Int($0) }, body: text)
    }

    package static func == (left: Self, right: Self) -> Bool {
        left.status == right.status && left.body == right.body
            && left.headers.map { "\($0): \($1)" } == right.headers.map { "\($0): \($1)" }
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(status)
        hasher.combine(body)
    }
}

/// One request, one answer, one connection: for the few plain calls that a WebSocket client needs beside its socket.
package enum HTTPExchange {
    /// - Parameter answerLimit: bytes of the largest body that is taken.
    /// - Throws: `ConnectError` or `CancellationError`. Any status is an answer.
    package static func send(
        _ method: HTTPMethod, _ url: RemoteURL, headers: HTTPHeaders = [:], body: ByteBuffer? = nil,
        answerLimit: Int = 1024 * 1024, options: ConnectOptions = .init(), group: any EventLoopGroup
    ) async throws -> HTTPAnswer {
        let channel = try await StreamConnector(group: group, options: options).connect(to: url)
        defer { channel.close(promise: nil) }
        var head = HTTPRequestHead(version: .http1_1, method: method, uri: url.target, headers: headers)
        head.headers.add(name: "Host", value: url.hostHeader)
        head.headers.add(name: "Connection", value: "close")
        if let body {
            head.headers.add(name: "Content-Length", value: String(body.readableBytes))
        } else if method != .GET, method != .HEAD {
            head.headers.add(name: "Content-Length", value: "0")
        }
        let request = head
        do {
            return try await WebSocketClient.withTimeout(options.timeout, closing: channel) {
                try await channel.eventLoop.flatSubmit { () -> EventLoopFuture<HTTPAnswer> in
                    let answer = channel.eventLoop.makePromise(of: HTTPAnswer.self)
                    do {
                        let pipeline = channel.pipeline.syncOperations
                        try pipeline.addHTTPClientHandlers()
                        try pipeline.addHandler(HTTPAnswerHandler(answer, limit: answerLimit))
                        channel.write(HTTPClientRequestPart.head(request), promise: nil)
                        if let body { channel.write(HTTPClientRequestPart.body(.byteBuffer(body)), promise: nil) }
                        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
                        channel.setOption(.autoRead, value: true).whenComplete { _ in channel.read() }
                    } catch {
                        answer.fail(error)
                    }
                    return answer.futureResult
                }.get()
            }
        } catch let error as ConnectError {
            throw error
        } catch {
            try Task.checkCancellation()
            throw ConnectError.unreachable(String(describing: error))
        }
    }
}

/// Collects one answer.
final class HTTPAnswerHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart

    private var promise: EventLoopPromise<HTTPAnswer>?
    private let limit: Int
    private var answer = HTTPAnswer(status: 0, headers: [:], body: ByteBuffer())

    init(_ promise: EventLoopPromise<HTTPAnswer>, limit: Int) {
        self.promise = promise
        self.limit = limit
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            answer.status = Int(head.status.code)
            answer.headers = head.headers
        case .body(var part):
            guard answer.body.readableBytes + part.readableBytes <= limit else {
                fail(.malformed("more than \(limit) bytes"))
                context.close(promise: nil)
                return
            }
            answer.body.writeBuffer(&part)
        case .end:
            promise?.succeed(answer)
            promise = nil
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(.unreachable("the connection ended before the answer was complete"))
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { fail(.unreachable("the connection was closed")) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(error is HTTPParserError ? .malformed(String(describing: error)) : .unreachable(String(describing: error)))
        context.close(promise: nil)
    }

    private func fail(_ error: ConnectError) {
        promise?.fail(error)
        promise = nil
    }
}
