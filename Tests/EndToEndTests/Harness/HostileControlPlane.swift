import AgentProtocol
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceRuntime
import Synchronization
import Testing
import WebSocketTransport

/// Speaks the agent protocol and says to an agent whatever a test wants, well-formed or not.
final class HostileControlPlane: Sendable {
    let port: Int
    private let channel: any Channel
    private struct State {
        var heard: [JSONValue] = []
        var writer: WebSocketConnection.Writer?
    }
    private let state = Mutex(State())

    init() async throws {
        let accepted = AsyncStream<WebSocketConnection>.makeStream()
        channel = try await ServerBootstrap(group: TestEnvironment.group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let negotiated = try WebSocketUpgradeGate<Void, Void>.install(
                        on: channel,
                        authorize: { head, _ in
                            .accept(
                                subprotocol: head.headers.first(name: "Sec-WebSocket-Protocol"),
                                .init(frameBytes: 1 << 20, messageBytes: 16 << 20), ())
                        },
                        configureHTTP: { _ in })
                    negotiated.whenSuccess { result in
                        if case .webSocket(let connection, _) = result { accepted.continuation.yield(connection) }
                    }
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
        Task { [self] in
            for await connection in accepted.stream {
                _ = try? await connection.run { messages, writer in
                    for try await message in messages {
                        guard case .text(let text) = message,
                            let value = try? JSONCoding.decode(JSONValue.self, from: text)
                        else { continue }
                        if value["type"]?.text == "hello" {
                            try await writer.send(
                                try JSONCoding.encodeText(
                                    ControlPlaneMessage.welcome(
                                        .init(epoch: 1, heartbeatSeconds: 5, serverTime: Timestamp.now()))))
                            self.state.withLock { $0.writer = writer }
                        }
                        self.state.withLock { $0.heard.append(value) }
                    }
                }
            }
        }
    }

    func stop() { channel.close(promise: nil) }

    /// Messages of one type, oldest first.
    func heard(_ type: String) -> [JSONValue] {
        state.withLock { $0.heard }.filter { $0["type"]?.text == type }.compactMap { $0["data"] }
    }

    func say(_ text: String) async throws {
        let writer = try await eventually("the agent has said hello", within: 20) { state.withLock { $0.writer } }
        try await writer.send(text)
    }

    /// The last status of a workload.
    func status(_ workload: String) -> JSONValue? {
        heard("status").flatMap { batch -> [JSONValue] in
            if case .array(let items)? = batch["items"] { items } else { [] }
        }.last { $0["workload"]?.text == workload }
    }
}
