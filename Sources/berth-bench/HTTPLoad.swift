import NIOCore
import NIOPosix
import ServiceRuntime

/// Connections that ask for the same thing over and over, each as soon as its last answer is there.
struct HTTPLoad {
    struct Result: Sendable {
        var requestsPerSecond: Double
        /// Milliseconds.
        var median: Double
        var slowestOfHundred: Double
        /// Of one answer's body.
        var bytes: Int
    }

    let port: Int
    let group: any EventLoopGroup

    /// - Throws: where an answer is not 200.
    func run(_ path: String, token: String, connections: Int, for duration: Duration) async throws -> Result {
        let request = Self.request("GET", path, token: token)
        let start = ContinuousClock.now
        let asked = try await withThrowingTaskGroup(of: (latencies: [Double], bytes: Int).self) { tasks in
            for _ in 0..<connections {
                tasks.addTask {
                    let connection = try await KeptConnection(port: port, group: group)
                    var latencies: [Double] = []
                    var bytes = 0
                    while start.duration(to: .now) < duration {
                        let began = ContinuousClock.now
                        let answer = try await connection.ask(request)
                        latencies.append(began.duration(to: .now).milliseconds)
                        guard answer.status == 200 else { throw ProgramFailure(.failure, "\(path): \(answer.status)") }
                        bytes = answer.bytes
                    }
                    try await connection.close()
                    return (latencies, bytes)
                }
            }
            return try await tasks.reduce(into: [(latencies: [Double], bytes: Int)]()) { $0.append($1) }
        }
        let passed = start.duration(to: .now) / .seconds(1)
        let latencies = asked.flatMap(\.latencies).sorted()
        return Result(
            requestsPerSecond: Double(latencies.count) / passed, median: latencies[latencies.count / 2],
            slowestOfHundred: latencies[latencies.count * 99 / 100], bytes: asked.map(\.bytes).max() ?? 0)
    }

    static func request(_ method: String, _ path: String, token: String, body: String = "") -> ByteBuffer {
        ByteBuffer(
            string: """
                \(method) \(path) HTTP/1.1\r
                Host: bench\r
                Authorization: Bearer \(token)\r
                Content-Type: application/json\r
                Content-Length: \(body.utf8.count)\r
                \r
                \(body)
                """)
    }
}

/// One HTTP/1.1 connection of many that ask at once.
final class KeptConnection: Sendable {
    private let channel: any Channel
    private let handler: NIOLoopBound<Handler>

    init(port: Int, group: any EventLoopGroup) async throws {
        let (channel, handler) = try await ClientBootstrap(group: group)
            .channelOption(.socketOption(.so_reuseaddr), value: 1)
            .connect(host: "127.0.0.1", port: port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = Handler()
                    try channel.pipeline.syncOperations.addHandler(handler)
                    return (channel, NIOLoopBound(handler, eventLoop: channel.eventLoop))
                }
            }
        self.channel = channel
        self.handler = handler
    }

    func ask(_ request: ByteBuffer) async throws -> HTTPAnswer {
        try await channel.eventLoop.flatSubmit { [handler, channel] in
            let promise = channel.eventLoop.makePromise(of: HTTPAnswer.self)
            handler.value.waiting = promise
            channel.writeAndFlush(request).cascadeFailure(to: promise)
            return promise.futureResult
        }.get()
    }

    func close() async throws { try await channel.close() }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        var waiting: EventLoopPromise<HTTPAnswer>?
        private var received = ByteBuffer()

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            received.writeBuffer(&bytes)
            guard let answer = HTTPAnswer(takenFrom: &received) else { return }
            waiting?.succeed(answer)
            waiting = nil
        }

        func channelInactive(context: ChannelHandlerContext) {
            waiting?.fail(ChannelError.ioOnClosedChannel)
            waiting = nil
        }
    }
}
