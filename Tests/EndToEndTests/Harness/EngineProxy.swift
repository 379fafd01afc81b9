import NIOCore
import NIOPosix
import Synchronization

/// Stands between an agent and the real Engine and can hold back the inspects of one container, as an Engine does whose
/// container hangs. Every call has a connection of its own, so its first bytes say what it is.
final class EngineProxy: Sendable {
    let path: String
    private let channel: any Channel
    private let held: Held

    private final class Held: Sendable {
        let container = Mutex<String?>(nil)
        let count = Mutex(0)
        let eventStreams = Mutex<[any Channel]>([])
        let refusesEvents = Mutex(false)
    }

    init(_ path: String, to engine: String) async throws {
        self.path = path
        let held = Held()
        self.held = held
        channel = try await ServerBootstrap(group: TestEnvironment.group)
            .childChannelInitializer { $0.pipeline.addHandler(Forward(to: engine, held)) }
            .bind(unixDomainSocketPath: path).get()
    }

    func hold(_ container: String?) { held.container.withLock { $0 = container } }
    /// Cuts the streams of events that are open.
    ///
    /// - Parameter forGood: none is opened again before `letEventsThrough`.
    func cutEvents(forGood: Bool = false) {
        held.refusesEvents.withLock { $0 = forGood }
        for channel in held.eventStreams.withLock({ streams in
            defer { streams = [] }
            return streams
        }) { channel.close(promise: nil) }
    }
    func letEventsThrough() { held.refusesEvents.withLock { $0 = false } }
    var heldBack: Int { held.count.withLock { $0 } }
    func stop() { channel.close(promise: nil) }

    private final class Forward: ChannelInboundHandler, @unchecked Sendable {
        // Guarded by the event loop of its channel.
        typealias InboundIn = ByteBuffer
        private let engine: String
        private let held: Held
        private var waiting: [ByteBuffer] = []
        private var peer: (any Channel)?
        private var isDecided = false

        init(to engine: String, _ held: Held) {
            self.engine = engine
            self.held = held
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            if let peer {
                peer.writeAndFlush(bytes, promise: nil)
                return
            }
            waiting.append(bytes)
            guard !isDecided else { return }
            isDecided = true
            if let container = held.container.withLock({ $0 }),
                String(buffer: bytes).contains("/containers/\(container)/json")
            {
                held.count.withLock { $0 += 1 }
                return
            }
            let channel = context.channel
            if String(buffer: bytes).contains("/events?") {
                guard !held.refusesEvents.withLock({ $0 }) else { return context.close(promise: nil) }
                held.eventStreams.withLock { $0.append(channel) }
            }
            ClientBootstrap(group: context.eventLoop)
                .channelInitializer { $0.pipeline.addHandler(ForwardBytes(to: channel)) }
                .connect(unixDomainSocketPath: engine)
                .whenSuccess { peer in
                    for part in self.waiting { peer.write(part, promise: nil) }
                    peer.flush()
                    self.peer = peer
                }
        }

        func channelInactive(context: ChannelHandlerContext) { peer?.close(promise: nil) }
    }
}
