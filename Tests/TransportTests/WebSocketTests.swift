import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import Synchronization
import Testing
import WebSocketTransport

/// A server with the gate in front and an echo behind it; plain HTTP is answered with 204 by a handler of its own.
final class EchoServer: Sendable {
    let port: Int
    private let channel: any Channel
    let closures = Mutex<[WebSocketClosure]>([])

    static let group = MultiThreadedEventLoopGroup.singleton

    init(
        limits: WebSocketLimits = .init(frameBytes: 1000, messageBytes: 5000), keepalive: Keepalive? = nil,
        headTimeout: TimeAmount = .seconds(15)
    ) async throws {
        let accepted = AsyncStream<WebSocketConnection>.makeStream()
        channel = try await ServerBootstrap(group: Self.group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let negotiated = try WebSocketUpgradeGate<Void, Void>.install(
                        on: channel, headTimeout: headTimeout,
                        authorize: { head, _ in
                            // The decision takes a while, as a look into a store does.
                            try? await Task.sleep(for: .milliseconds(30))
                            switch head.uri {
                            case "/echo":
                                return .accept(
                                    subprotocol: head.headers.first(name: "Sec-WebSocket-Protocol"), limits, ())
                            case "/no":
                                return .refuse(status: .unauthorized, headers: [:], body: #"{"error":"unauthorized"}"#)
                            default: return .plainHTTP
                            }
                        },
                        configureHTTP: { channel in try channel.pipeline.syncOperations.addHandler(NoContent()) })
                    negotiated.whenSuccess { result in
                        if case .webSocket(let connection, _) = result { accepted.continuation.yield(connection) }
                    }
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
        Task { [self] in
            await withDiscardingTaskGroup { group in
                for await connection in accepted.stream {
                    group.addTask {
                        let closure = try? await connection.run { messages, writer in
                            if let keepalive { try await writer.setKeepalive(keepalive) }
                            for try await message in messages {
                                switch message {
                                case .text(let text): try await writer.send(text)
                                case .binary(let bytes): try await writer.send(bytes)
                                }
                            }
                        }
                        if let closure { self.closures.withLock { $0.append(closure) } }
                    }
                }
            }
        }
    }

    func stop() { channel.close(promise: nil) }

    private final class NoContent: ChannelInboundHandler, Sendable {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard case .head(let head) = unwrapInboundIn(data) else { return }
            let headers: HTTPHeaders = ["Saw-Upgrade": String(head.headers.contains(name: "Upgrade"))]
            context.write(
                wrapOutboundOut(.head(.init(version: .http1_1, status: .noContent, headers: headers))), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
    }

    func connect(_ path: String = "/echo", subprotocol: String? = nil) async throws -> WebSocketConnection {
        try await WebSocketClient.connect(
            to: try #require(RemoteURL("ws://127.0.0.1:\(port)\(path)")), subprotocol: subprotocol,
            limits: .init(frameBytes: 1000, messageBytes: 5000), group: Self.group)
    }

    /// Sends raw bytes and gives what comes back until the server closes, or `isEnough` says so.
    func raw(
        _ text: String, _ more: [UInt8] = [], until isEnough: @Sendable ([UInt8]) -> Bool = { _ in false }
    ) async throws -> [UInt8] {
        let channel = try await ClientBootstrap(group: Self.group).connect(host: "127.0.0.1", port: port) { channel in
            channel.eventLoop.makeCompletedFuture {
                try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
            }
        }
        return try await channel.executeThenClose { inbound, outbound in
            var answer: [UInt8] = []
            do {
                try await outbound.write(ByteBuffer(bytes: Array(text.utf8) + more))
                for try await part in inbound {
                    answer += part.readableBytesView
                    if isEnough(answer) { break }
                }
            } catch is IOError {
                // A server that closes with bytes unread resets the connection: an end like any other.
            } catch ChannelError.ioOnClosedChannel {
                // It closed before anything was sent: so quick is a short deadline on a busy machine.
            }
            return answer
        }
    }
}

private let handshake =
    "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/// A masked client frame.
private func frame(_ first: UInt8, _ payload: [UInt8], masked: Bool = true) -> [UInt8] {
    let length: [UInt8] =
        payload.count < 126 ? [UInt8(payload.count)] : [126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
    guard masked else { return [first] + length + payload }
    return [first, length[0] | 0x80] + length.dropFirst() + [0, 0, 0, 0] + payload
}

@Suite struct WebSockets {
    @Test func `messages of every size come back whole`() async throws {
        let server = try await EchoServer()
        let connection = try await server.connect(subprotocol: "a.b")
        #expect(connection.subprotocol == "a.b")
        let closure = try await connection.run { messages, writer in
            var iterator = messages.makeAsyncIterator()
            for size in [0, 1, 125, 126, 999, 1000, 1001, 4999, 5000] {
                let text = String(repeating: "x", count: size)
                try await writer.send(text)
                #expect(try await iterator.next() == .text(text))
            }
            try await writer.send(ByteBuffer(bytes: [0, 255, 1]))
            #expect(try await iterator.next() == .binary(ByteBuffer(bytes: [0, 255, 1])))
        }
        #expect(closure == .init(origin: .ourselves, code: 1000))
        server.stop()
    }

    @Test func `a message over the limit closes with 1009`() async throws {
        let server = try await EchoServer()
        let closure = try await server.connect().run { messages, writer in
            try await writer.send(String(repeating: "x", count: 5001))
            for try await _ in messages {}
        }
        #expect(closure.code == 1009 && closure.origin == .peer)
        server.stop()
    }

    @Test func `a refused handshake is an HTTP answer that the client can read`() async throws {
        let server = try await EchoServer()
        await #expect(
            throws: ConnectError.refused(status: 401, retryAfterSeconds: nil, body: #"{"error":"unauthorized"}"#)
        ) {
            try await server.connect("/no")
        }
        await #expect(throws: ConnectError.refused(status: 204, retryAfterSeconds: nil, body: "")) {
            try await server.connect("/elsewhere")
        }
        let nobody = try #require(RemoteURL("ws://127.0.0.1:1/"))
        await #expect(throws: ConnectError.self) {
            try await WebSocketClient.connect(to: nobody, group: EchoServer.group)
        }
        server.stop()
    }

    @Test func `a foreign upgrade reaches the router without it, and the connection ends after the answer`()
        async throws
    {
        let server = try await EchoServer()
        for upgrade in ["h2c", "websocket"] {
            let answer = try await withTimeout {
                try await server.raw(
                    "GET /other HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: \(upgrade)\r\n\r\n"
                ) {
                    String(decoding: $0, as: UTF8.self).contains("\r\n\r\n")
                }
            }
            let text = String(decoding: answer, as: UTF8.self)
            #expect(text.contains("204 No Content") && text.contains("Saw-Upgrade: false"), "\(text)")
        }
        server.stop()
    }

    @Test func `a wrong version and a missing key are told so`() async throws {
        let server = try await EchoServer()
        for bad in [
            handshake.replacingOccurrences(of: "Version: 13", with: "Version: 8"),
            handshake.replacingOccurrences(of: "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", with: ""),
        ] {
            let answer = String(decoding: try await server.raw(bad), as: UTF8.self)
            #expect(answer.hasPrefix("HTTP/1.1 426") && answer.contains("Sec-WebSocket-Version: 13"), "\(answer)")
        }
        server.stop()
    }

    @Test func `frames that come with the handshake are not lost`() async throws {
        let server = try await EchoServer()
        let echo = [0x81, 5] + Array("early".utf8)
        let answer = try await withTimeout {
            try await server.raw(handshake, frame(0x81, Array("early".utf8))) { $0.suffix(7) == echo }
        }
        #expect(String(decoding: answer, as: UTF8.self).hasPrefix("HTTP/1.1 101"))
        #expect(answer.suffix(7) == echo)
        server.stop()
    }

    /// Frames, and the close code that they must be answered with.
    static let violations: [(bytes: [UInt8], code: UInt16)] = [
        (frame(0x81, [120], masked: false), 1002), (frame(0x80, [1]), 1002),
        (frame(0x01, [65]) + frame(0x81, [65]), 1002), (frame(0xC1, [65]), 1002), (frame(0x09, [1]), 1002),
        (frame(0x89, [UInt8](repeating: 1, count: 126)), 1002), (frame(0x81, [0xFF, 0xFE]), 1007),
        (frame(0x88, [0]), 1002), (frame(0x88, [3, 237]), 1002), (frame(0x83, [1]), 1002),
        (frame(0x82, [UInt8](repeating: 1, count: 1001)), 1009),
        ([0x82, 0xFF, 127, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0], 1009),
    ]

    @Test(arguments: 0..<violations.count)
    func `what breaks RFC 6455 is closed with the code for it`(index: Int) async throws {
        let (bytes, code) = Self.violations[index]
        let server = try await EchoServer()
        let answer = try await withTimeout { try await server.raw(handshake, bytes) }
        let close = [UInt8(code >> 8), UInt8(code & 255)]
        let body = Array(answer.drop { $0 != 0x88 }.dropFirst(2))
        #expect(Array(body.prefix(2)) == close, "\(answer.suffix(60))")
        server.stop()
    }

    @Test func `half a head is cut off`() async throws {
        let server = try await EchoServer(headTimeout: .milliseconds(200))
        #expect(try await withTimeout { try await server.raw("GET /echo HTTP/1.1\r\nHost: ") } == [])
        server.stop()
    }

    @Test func `garbage is a 400`() async throws {
        let server = try await EchoServer()
        let answer = String(
            decoding: try await withTimeout { try await server.raw("\0\u{1}garbage\r\n\r\n") }, as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 400"), "\(answer)")
        server.stop()
    }

    @Test func `a peer that has fallen silent is given up on`() async throws {
        let server = try await EchoServer(
            keepalive: .init(pingEvery: .milliseconds(50), giveUpAfter: .milliseconds(1000)))
        // Raw: answers no ping.
        let answer = try await withTimeout { try await server.raw(handshake) }
        #expect(answer.contains(0x89), "it was pinged first")
        try await waitUntil { server.closures.withLock { $0.first?.origin == .silence } }
        server.stop()
    }

    @Test func `a client that is cancelled leaves at once`() async throws {
        let server = try await EchoServer()
        let connection = try await server.connect()
        let task = Task { try await connection.run { messages, _ in for try await _ in messages {} } }
        task.cancel()
        _ = await task.result
        try await waitUntil { server.closures.withLock { $0.count == 1 } }
        server.stop()
    }

    @Test(arguments: [
        ("https://a.example", true, "a.example", 443, "/"), ("ws://h:8080/p?q=1", false, "h", 8080, "/p?q=1"),
        ("wss://[::1]:9/", true, "::1", 9, "/"), ("http://127.0.0.1", false, "127.0.0.1", 80, "/"),
    ])
    func `URLs`(text: String, secure: Bool, host: String, port: Int, target: String) {
        #expect(RemoteURL(text) == RemoteURL(isSecure: secure, host: host, port: port, target: target))
    }

    @Test(arguments: [
        "", "h", "ftp://h", "http://", "http://u:p@h", "http://h:0", "http://h:99999", "http://h/#x", "http://h /",
        "https://:443",
    ])
    func `URLs that are none`(text: String) { #expect(RemoteURL(text) == nil) }
}

private struct TookTooLong: Error {}

private func withTimeout<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws -> Result
{
    try await withThrowingTaskGroup(of: Result.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: .seconds(20))
            throw TookTooLong()
        }
        defer { group.cancelAll() }
        guard let result = try await group.next() else { throw TookTooLong() }
        return result
    }
}

private func waitUntil(_ holds: () -> Bool) async throws {
    for _ in 0..<400 {
        if holds() { return }
        try await Task.sleep(for: .milliseconds(25))
    }
    Issue.record("not within 10 s")
}
