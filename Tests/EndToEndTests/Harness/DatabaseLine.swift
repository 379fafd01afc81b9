import NIOCore
import NIOPosix
import Synchronization

/// The way of one control plane to PostgreSQL, which can be cut: what is open ends, and what is opened ends at once.
final class DatabaseLine: Sendable {
    /// The same database by this way, as a setting.
    let address: String
    private let channel: any Channel
    private let traffic: Traffic

    private final class Traffic: Sendable {
        private struct State {
            var isCut = false
            var open: [any Channel] = []
        }

        private let state = Mutex(State())

        /// - Returns: false where it is cut.
        func opens(_ channel: any Channel) -> Bool {
            state.withLock { state -> Bool in
                guard !state.isCut else { return false }
                state.open.append(channel)
                return true
            }
        }

        func cut() -> [any Channel] {
            state.withLock { state -> [any Channel] in
                defer { state.open = [] }
                state.isCut = true
                return state.open
            }
        }

        func mend() { state.withLock { $0.isCut = false } }
    }

    /// - Parameter database: on the tests' own server, which listens in a folder.
    init(to database: String) async throws {
        let key = "host="
        let host = database.split { "?&".contains($0) }.first { $0.hasPrefix(key + "/") }
        guard let host else { throw TestEnvironment.Missing(description: "BERTH_POSTGRES is not in a folder") }
        let socket = "\(host.dropFirst(key.count))/.s.PGSQL.5432"
        let traffic = Traffic()
        self.traffic = traffic
        channel = try await ServerBootstrap(group: TestEnvironment.group)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard traffic.opens(channel) else { return channel.close(promise: nil) }
                    Self.connect(channel, to: socket)
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let port = channel.localAddress?.port ?? 0
        address = database.replacing(host, with: "host=127.0.0.1&port=\(port)&sslmode=disable")
    }

    /// Returns when all that was open has ended.
    func cut() async {
        // Some have ended before.
        for channel in traffic.cut() { try? await channel.close() }
    }

    func mend() { traffic.mend() }
    func stop() async throws { try await channel.close() }

    private static func connect(_ channel: any Channel, to socket: String) {
        ClientBootstrap(group: channel.eventLoop).channelOption(.autoRead, value: false)
            .connect(unixDomainSocketPath: socket)
            .whenComplete { result in
                guard case .success(let peer) = result else { return channel.close(promise: nil) }
                do {
                    try channel.pipeline.syncOperations.addHandler(ForwardBytes(to: peer))
                    try peer.pipeline.syncOperations.addHandler(ForwardBytes(to: channel))
                    for end in [channel, peer] { end.setOption(.autoRead, value: true).whenFailure { _ in } }
                    // It may have been cut before somebody listened for its end.
                    channel.closeFuture.whenComplete { _ in peer.close(promise: nil) }
                } catch {
                    channel.close(promise: nil)
                    peer.close(promise: nil)
                }
            }
    }
}
