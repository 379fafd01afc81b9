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

    /// Its handlers know it when this returns.
    private func setWritable(_ isWritable: Bool, _ channel: NIOAsyncTestingChannel) async throws {
        try await channel.testingEventLoop.executeInContext {
            channel.isWritable = isWritable
            channel.pipeline.fireChannelWritabilityChanged()
        }
    }

    private func drained(_ hub: EventHub, _ id: Int) async -> (events: Int, missed: Int?) {
        let deliveries = await hub.drain(id)
        let missed = deliveries.compactMap { if case .lagged(let missed) = $0 { missed } else { nil as Int? } }
        return (deliveries.count - missed.count, missed.first)
    }

    @Test func `who does not read is told how many events they missed, and nobody else misses any`() async throws {
        let hub = EventHub()
        let (deaf, _, _) = await hub.subscribe(user: "u1", after: nil)
        let (quick, _, _) = await hub.subscribe(user: "u1", after: nil)
        for number in 0..<300 {
            await hub.publish("container_updated", to: "u1", .integer(number))
            let got = await drained(hub, quick)
            #expect(got.events == 1 && got.missed == nil)
        }
        let late = await drained(hub, deaf)
        #expect(late.events == 256 && late.missed == 44)
        // From then on it is as good as any.
        await hub.publish("container_updated", to: "u1", .integer(300))
        let next = await drained(hub, deaf)
        #expect(next.events == 1 && next.missed == nil)
    }

    @Test(.timeLimit(.minutes(1)))
    func `after what it missed a stream goes on with a new list`() async throws {
        let database = try await TestDatabase(.sqlite)
        let stream = try await stream(try await database.open())
        let channel = NIOAsyncTestingChannel()
        try await channel.connect(to: try SocketAddress(ipAddress: "127.0.0.1", port: 1)).get()
        let connection = try await channel.testingEventLoop.executeInContext {
            try WebSocketConnection(upgrading: channel, role: .server, limits: EventStream.limits, subprotocol: nil)
        }
        async let ended: Void = stream.run(connection)
        func next() async throws -> JSONValue {
            let frame = try await channel.waitForOutboundWrite(as: WebSocketFrame.self)
            return try JSONCoding.decode(JSONValue.self, from: String(buffer: frame.unmaskedData))
        }
        #expect(try await next()["type"]?.text == "list")
        // Its writer waits for a channel that takes nothing, as that of a client which does not read.
        try await setWritable(false, channel)
        // So many that there are too many however far it had come when its channel took no more.
        let all = 600
        for number in 0..<all { await stream.hub.publish("container_updated", to: "u1", .integer(number)) }
        try await setWritable(true, channel)
        var seen: [String] = []
        var (heard, missed) = (0, 0)
        while heard + missed < all {
            let event = try await next()
            seen.append(try #require(event["type"]?.text))
            if seen.last == "container_updated" { heard += 1 }
            guard case .integer(let count)? = event["data"]?["missed"] else { continue }
            missed += count
            seen.append(try #require(try await next()["type"]?.text))
        }
        #expect(missed > 0 && heard + missed == all)
        let lagged = seen.indices.filter { seen[$0] == "lagged" }
        #expect(!lagged.isEmpty && lagged.allSatisfy { seen[$0 + 1] == "list" })
        _ = try? await channel.finish()
        await ended
    }

    @Test func `what a host says of its load does not push out what can be replayed`() async throws {
        let hub = EventHub()
        await hub.publish("container_updated", to: "u1", .integer(0))
        let start = await hub.lastSequence
        await hub.publish("container_updated", to: "u1", .integer(1))
        for number in 0..<10_000 { await hub.publish("agent_stats", to: "u2", .integer(number)) }
        let (id, _, isReplayed) = await hub.subscribe(user: "u1", after: start)
        let replayed = await drained(hub, id)
        #expect(isReplayed && replayed.events == 1)
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
