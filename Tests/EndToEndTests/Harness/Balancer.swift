import NIOCore
import NIOPosix
import Synchronization

/// One address for several control planes, as a balancer gives: each new connection goes to the first that takes it.
final class Balancer: Sendable {
    let port: Int
    private let channel: any Channel
    private let targets: Targets

    private final class Targets: Sendable { let ports = Mutex<[Int]>([]) }

    init(_ ports: [Int]) async throws {
        let targets = Targets()
        targets.ports.withLock { $0 = ports }
        self.targets = targets
        channel = try await ServerBootstrap(group: TestEnvironment.group)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    Self.connect(channel, to: targets.ports.withLock { $0 }[...])
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    /// From the next connection on.
    func send(to ports: [Int]) { targets.ports.withLock { $0 = ports } }

    func stop() async throws { try await channel.close() }

    private static func connect(_ channel: any Channel, to ports: ArraySlice<Int>) {
        guard let port = ports.first else { return channel.close(promise: nil) }
        ClientBootstrap(group: channel.eventLoop).channelOption(.autoRead, value: false)
            .connect(host: "127.0.0.1", port: port)
            .whenComplete { result in
                guard case .success(let peer) = result else { return connect(channel, to: ports.dropFirst()) }
                do {
                    try channel.pipeline.syncOperations.addHandler(ForwardBytes(to: peer))
                    try peer.pipeline.syncOperations.addHandler(ForwardBytes(to: channel))
                    for end in [channel, peer] { end.setOption(.autoRead, value: true).whenFailure { _ in } }
                } catch {
                    channel.close(promise: nil)
                    peer.close(promise: nil)
                }
            }
    }
}
