package import NIOCore
package import NIOHTTP1
import NIOWebSocket

/// Opens WebSockets.
package enum WebSocketClient {
    private enum Outcome: Sendable {
        case open(WebSocketConnection)
        case refused(EventLoopFuture<ConnectError>)
    }

    /// - Parameters:
    ///   - headers: sent with the handshake, for example `Authorization`.
    ///   - subprotocol: offered to the server; a server that agrees on none is refused as malformed.
    /// - Throws: `ConnectError` or `CancellationError`.
    package static func connect(
        to url: RemoteURL, headers: HTTPHeaders = [:], subprotocol: String? = nil, limits: WebSocketLimits = .init(),
        options: ConnectOptions = .init(), group: any EventLoopGroup
    ) async throws -> WebSocketConnection {
        let channel = try await StreamConnector(group: group, options: options).connect(to: url)
        do {
            return try await withTimeout(options.timeout, closing: channel) {
                try await handshake(channel, url: url, headers: headers, subprotocol: subprotocol, limits: limits)
            }
        } catch {
            channel.close(promise: nil)
            if let error = error as? ConnectError { throw error }
            try Task.checkCancellation()
            throw ConnectError.unreachable(String(describing: error))
        }
    }

    private static func handshake(
        _ channel: any Channel, url: RemoteURL, headers: HTTPHeaders, subprotocol: String?, limits: WebSocketLimits
    ) async throws -> WebSocketConnection {
        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: url.target, headers: headers)
        head.headers.add(name: "Host", value: url.hostHeader)
        if let subprotocol { head.headers.add(name: "Sec-WebSocket-Protocol", value: subprotocol) }
        let request = head
        let outcome = try await channel.eventLoop.flatSubmit { () -> EventLoopFuture<Outcome> in
            channel.eventLoop.makeCompletedFuture {
                let upgrader = NIOTypedWebSocketClientUpgrader<Outcome>(
                    maxFrameSize: limits.frameBytes,
                    upgradePipelineHandler: { channel, response in
                        channel.eventLoop.makeCompletedFuture {
                            let agreed = response.headers.first(name: "Sec-WebSocket-Protocol")
                            guard agreed == subprotocol else {
                                throw ConnectError.malformed(
                                    "the server does not speak \(subprotocol ?? "no subprotocol")")
                            }
                            return .open(
                                try WebSocketConnection(
                                    upgrading: channel, role: .client, limits: limits, subprotocol: agreed))
                        }
                    })
                let configuration = NIOTypedHTTPClientUpgradeConfiguration<Outcome>(
                    upgradeRequestHead: request, upgraders: [upgrader],
                    notUpgradingCompletionHandler: { channel in
                        channel.eventLoop.makeCompletedFuture {
                            // The answer is read by a handler of its own: waiting for it here would wait for ourselves.
                            let answer = channel.eventLoop.makePromise(of: HTTPAnswer.self)
                            try channel.pipeline.syncOperations.addHandler(HTTPAnswerHandler(answer, limit: 16 * 1024))
                            return .refused(answer.futureResult.map(\.asRefusal))
                        }
                    })
                var pipeline = NIOUpgradableHTTPClientPipelineConfiguration(upgradeConfiguration: configuration)
                pipeline.leftOverBytesStrategy = .forwardBytes
                let future = try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(
                    configuration: pipeline)
                channel.setOption(.autoRead, value: true).whenComplete { _ in channel.read() }
                return future
            }
            .flatMap { (future: EventLoopFuture<Outcome>) in future }
        }.get()
        switch outcome {
        case .open(let connection): return connection
        case .refused(let answer): throw try await answer.get()
        }
    }

    /// A future of NIO does not notice cancellation; closing its channel ends it.
    static func withTimeout<Result: Sendable>(
        _ timeout: Duration, closing channel: any Channel, _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await withThrowingTaskGroup(of: Result?.self) { group in
            group.addTask {
                try await withTaskCancellationHandler {
                    try await body()
                } onCancel: {
                    channel.close(promise: nil)
                }
            }
            group.addTask {
                try await Task.sleep(for: timeout)
                return nil
            }
            let first = try await group.next()
            guard let result = first ?? nil else {
                group.cancelAll()
                throw ConnectError.unreachable("no answer within \(timeout)")
            }
            // The body has ended well: its channel must live, so only the clock is stopped.
            group.cancelAll()
            return result
        }
    }
}
