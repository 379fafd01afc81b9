import ControlPlaneCore
import ControlPlaneStore
import Logging
import NIOCore
import NIOEmbedded
import NIOWebSocket
import ServiceRuntime
import Testing

@testable import ControlPlane
@testable import WebSocketTransport

/// A listener's connection to the control plane, whose time passes when a test says so.
@Suite struct EventStreams {
    private static let token = "berth_test"

    /// The stream of a user whose token is good.
    private func stream(_ store: Store) async throws -> EventStream {
        let user = UserRecord(id: "u1", name: "ann", tier: .pro, isAdmin: false)
        let token = TokenRecord(id: "t1", userID: user.id, name: "", prefix: "", scopes: [.read], createdAt: 1)
        _ = try await store.create(user, now: 1)
        try await store.create(token, hash: Secrets.hash(Self.token))
        return EventStream(
            caller: Caller(user: user, token: token), text: Self.token,
            authenticator: Authenticator(store: store, issuer: nil), revocations: Revocations(), after: nil,
            hub: EventHub(), listing: { .object(["count": .integer(0)]) },
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// What has been sent since the last look.
    private func sent(_ channel: NIOAsyncTestingChannel) async throws -> [WebSocketOpcode] {
        var opcodes: [WebSocketOpcode] = []
        while let frame = try await channel.readOutbound(as: WebSocketFrame.self) { opcodes.append(frame.opcode) }
        return opcodes
    }

    @Test(.timeLimit(.minutes(1)))
    func `a stream is pinged every 30 s, and ends when its listener has said nothing for 75 s`() async throws {
        let database = try await TestDatabase(.sqlite)
        let stream = try await stream(try await database.open())
        let channel = NIOAsyncTestingChannel()
        let loop = channel.testingEventLoop
        try await channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).get()
        // Without the handlers that make bytes of frames.
        let connection = try await loop.executeInContext {
            try WebSocketConnection(upgrading: channel, role: .server, limits: WebSocketLimits(), subprotocol: nil)
        }
        async let ended: Void = stream.run(connection)
        let list = try await channel.waitForOutboundWrite(as: WebSocketFrame.self)
        #expect(list.opcode == .text)

        for round in 1...5 {
            await loop.advanceTime(by: .seconds(29))
            let early = try await sent(channel)
            #expect(early.isEmpty, "round \(round)")
            await loop.advanceTime(by: .seconds(1))
            let due = try await sent(channel)
            #expect(due == [.ping], "round \(round)")
            _ = try await channel.writeInbound(
                WebSocketFrame(fin: true, opcode: .pong, maskKey: WebSocketMaskingKey.random(), data: ByteBuffer()))
        }
        // It falls silent.
        await loop.advanceTime(by: .seconds(89))
        #expect(channel.isActive)
        let unanswered = try await sent(channel)
        #expect(unanswered == [.ping, .ping])
        await loop.advanceTime(by: .seconds(1))
        #expect(!channel.isActive)
        await ended
    }
}
