import NIOCore
import NIOHTTP1
import NIOPosix

/// One HTTP exchange over the Engine's Unix socket. Every call has a connection of its own: connecting costs less than a
/// tenth of a millisecond, and ending a call is then simply closing its connection.
struct EngineConnection: Sendable {
    struct Request: Sendable {
        var method: HTTPMethod
        /// Path and query, already percent-encoded.
        var target: String
        var body: ByteBuffer?
        /// Beside those that every call has; a `Content-Type` instead of JSON's.
        var headers: [String: String] = [:]
        /// For the error text.
        var call: String
        var object: String
    }

    typealias Inbound = NIOAsyncChannelInboundStream<HTTPClientResponsePart>

    let endpoint: EngineEndpoint
    let group: any EventLoopGroup

    /// Sends `request` and hands the answer's head and the stream of its parts to `receive`.
    ///
    /// Cancelling the task closes the connection. Errors are `EngineError` or `CancellationError`.
    func exchange<Result: Sendable>(
        _ request: Request,
        receive: @Sendable (HTTPResponseHead, inout Inbound.AsyncIterator) async throws -> Result
    ) async throws -> Result {
        let channel = try await connect(request)
        do {
            return try await channel.executeThenClose { inbound, outbound in
                try await outbound.write(contentsOf: Self.parts(of: request))
                var parts = inbound.makeAsyncIterator()
                while let part = try await parts.next() {
                    guard case .head(let head) = part else { continue }
                    if (100..<200).contains(head.status.code) { continue }
                    return try await receive(head, &parts)
                }
                try Task.checkCancellation()
                throw EngineError(
                    kind: .cutOff, call: request.call, object: request.object, message: "before the answer began")
            }
        } catch let error as EngineError {
            throw error
        } catch let error as TakerFailure {
            throw error.cause
        } catch {
            try Task.checkCancellation()
            let isMalformed = error is HTTPParserError && error as? HTTPParserError != .invalidEOFState
            throw EngineError(
                kind: isMalformed ? .malformed : .cutOff, call: request.call, object: request.object,
                message: String(describing: error))
        }
    }

    /// Connects, sends `request`, and on `101` gives the raw byte channel.
    func hijack(_ request: Request) async throws -> NIOAsyncChannel<ByteBuffer, ByteBuffer> {
        let (channel, upgraded): (any Channel, EventLoopFuture<NIOAsyncChannel<ByteBuffer, ByteBuffer>>)
        do {
            (channel, upgraded) = try await ClientBootstrap(group: group)
                .channelOption(.allowRemoteHalfClosure, value: true)
                .connectTimeout(.seconds(5))
                .connect(unixDomainSocketPath: endpoint.socketPath) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let encoder = HTTPRequestEncoder()
                        let decoder = ByteToMessageHandler(HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes))
                        let handler = HijackHandler(
                            call: request.call, object: request.object, encoder: encoder, decoder: decoder)
                        let result = channel.eventLoop.makePromise(of: NIOAsyncChannel<ByteBuffer, ByteBuffer>.self)
                        handler.result = result
                        try channel.pipeline.syncOperations.addHandlers([encoder, decoder, handler])
                        return result.futureResult
                    }
                    .map { (future: EventLoopFuture<NIOAsyncChannel<ByteBuffer, ByteBuffer>>) in
                        for part in Self.parts(of: request, upgrade: true) { channel.write(part, promise: nil) }
                        channel.flush()
                        return (channel, future)
                    }
                }
        } catch {
            throw unreachable(request, error)
        }
        return try await withTaskCancellationHandler {
            try await upgraded.get()
        } onCancel: {
            // A future does not notice cancellation; the end of its channel does.
            channel.close(promise: nil)
        }
    }

    private func connect(
        _ request: Request
    ) async throws -> NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart> {
        do {
            return try await ClientBootstrap(group: group)
                .connectTimeout(.seconds(5))
                .connect(unixDomainSocketPath: endpoint.socketPath) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        return try NIOAsyncChannel(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            try Task.checkCancellation()
            throw unreachable(request, error)
        }
    }

    private func unreachable(_ request: Request, _ cause: any Error) -> EngineError {
        EngineError(
            kind: .unreachable, call: request.call, object: request.object,
            message: "\(endpoint): \(String(describing: cause))")
    }

    private static func parts(of request: Request, upgrade: Bool = false) -> [HTTPClientRequestPart] {
        var head = HTTPRequestHead(version: .http1_1, method: request.method, uri: request.target)
        head.headers.add(name: "Host", value: "docker")
        if upgrade {
            head.headers.add(name: "Connection", value: "Upgrade")
            head.headers.add(name: "Upgrade", value: "tcp")
        }
        for (name, value) in request.headers { head.headers.add(name: name, value: value) }
        // Without a length the encoder would send a POST chunked, which the Engine refuses with 400.
        if let body = request.body {
            if !head.headers.contains(name: "Content-Type") {
                head.headers.add(name: "Content-Type", value: "application/json")
            }
            head.headers.add(name: "Content-Length", value: String(body.readableBytes))
            return [.head(head), .body(.byteBuffer(body)), .end(nil)]
        }
        if request.method != .GET && request.method != .HEAD { head.headers.add(name: "Content-Length", value: "0") }
        return [.head(head), .end(nil)]
    }
}

/// An error of whoever takes the elements of a stream: theirs, not the Engine's.
struct TakerFailure: Error {
    var cause: any Error
}
