import NIOCore
import NIOEmbedded
import NIOWebSocket
import Testing

@testable import WebSocketTransport

/// The server's end of a connection, whose time passes when a test says so.
private struct ServerEnd {
    private let channel = EmbeddedChannel()
    private let closure: EventLoopPromise<WebSocketClosure>

    init() throws {
        closure = channel.eventLoop.makePromise(of: WebSocketClosure.self)
        try channel.pipeline.syncOperations.addHandler(
            WebSocketMessageHandler(role: .server, limits: WebSocketLimits(), closure: closure))
        try channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
    }

    var isOpen: Bool { channel.isActive }

    func pass(_ seconds: Int) { channel.embeddedEventLoop.advanceTime(by: .seconds(Int64(seconds))) }

    /// A whole message for a text or binary opcode.
    func hear(_ opcode: WebSocketOpcode) throws {
        try channel.writeInbound(
            WebSocketFrame(fin: true, opcode: opcode, maskKey: WebSocketMaskingKey.random(), data: ByteBuffer()))
    }

    func say(_ command: WebSocketCommand) throws { try channel.writeOutbound(command) }

    /// What has been sent since the last look.
    func sent() throws -> [WebSocketOpcode] {
        var opcodes: [WebSocketOpcode] = []
        while let frame = try channel.readOutbound(as: WebSocketFrame.self) { opcodes.append(frame.opcode) }
        return opcodes
    }

    /// Ends it where it has not ended.
    func end() throws -> WebSocketClosure {
        _ = try channel.finish(acceptAlreadyClosed: true)
        return try closure.futureResult.wait()
    }
}

/// When a connection is pinged and when its peer is given up, by a clock of their own.
@Suite struct Keepalives {
    @Test(arguments: [WebSocketOpcode.pong, .text, .binary])
    func `unless told otherwise a server pings every 30 s, and keeps who says anything`(_ opcode: WebSocketOpcode)
        throws
    {
        let server = try ServerEnd()
        for round in 0..<20 {
            server.pass(29)
            let early = try server.sent()
            #expect(early.isEmpty, "round \(round)")
            server.pass(1)
            let due = try server.sent()
            #expect(due == [.ping], "round \(round)")
            // Every other ping goes unanswered.
            if round % 2 == 0 { try server.hear(opcode) }
        }
        #expect(server.isOpen)
        let closure = try server.end()
        #expect(closure.origin == .cutOff)
    }

    /// When the peer was heard last, and when it is given up, in seconds from the beginning.
    @Test(arguments: [(0, 90), (14, 90), (15, 90), (16, 120), (59, 150)])
    func `unless told otherwise a peer that has said nothing for 75 s is given up when the next ping is due`(
        heard: Int, givenUp: Int
    ) throws {
        let server = try ServerEnd()
        server.pass(heard)
        try server.hear(.pong)
        server.pass(givenUp - 1 - heard)
        #expect(server.isOpen)
        let pings = try server.sent()
        #expect(pings == [WebSocketOpcode](repeating: .ping, count: givenUp / 30 - 1))
        server.pass(1)
        #expect(!server.isOpen)
        // It hears no more: nothing is sent to it, not even the end.
        let last = try server.sent()
        #expect(last.isEmpty)
        let closure = try server.end()
        #expect(closure.origin == .silence && closure.code == 1006, "\(closure)")
    }

    @Test func `another keepalive counts from when it is set`() throws {
        let server = try ServerEnd()
        server.pass(20)
        try server.say(.keepalive(Keepalive(pingEvery: .seconds(15), giveUpAfter: .seconds(45))))
        server.pass(14)
        let early = try server.sent()
        #expect(early.isEmpty)
        server.pass(1)
        let due = try server.sent()
        #expect(due == [.ping])
        server.pass(15)
        // At 50 s, and nothing was ever heard.
        #expect(!server.isOpen)
        let closure = try server.end()
        #expect(closure.origin == .silence, "\(closure)")
    }
}
