import BerthModel
import Foundation
package import NIOCore
import NIOHTTP1
import NIOPosix
package import Simulation
import Synchronization

/// `SimulatedHost` behind HTTP on a Unix socket: an Engine that can be told to do what a real one does only when nobody
/// looks. Speaks the part of API 1.41 that Berth uses.
package final class FakeEngine: Sendable {
    /// What becomes of a call.
    package enum Fault: Hashable, Sendable {
        case delay(milliseconds: Int)
        /// No answer, ever; the call has no effect.
        case hang
        case fail(status: Int)
        /// Done, and then an error.
        case doThenFail(status: Int)
        /// Done, and the connection is cut before the answer.
        case doThenCut
        /// Half an answer.
        case cutAnswer
    }

    /// What becomes of events.
    package enum EventMode: Hashable, Sendable {
        case normal, dropped, repeated
        /// Two at a time, the second first.
        case reordered
    }

    struct State {
        var host = SimulatedHost()
        var faults: [(matches: String, fault: Fault, left: Int)] = []
        var eventMode = EventMode.normal
        var heldEvent: [UInt8]?
        var streams: [any Channel] = []
        var connections: [ObjectIdentifier: any Channel] = [:]
        var calls: [String] = []
        var began = ContinuousClock.now
        var listensNow = true
    }

    let state = Mutex(State())
    package let path: String
    private let group: any EventLoopGroup
    private let listener: Mutex<(any Channel)?> = Mutex(nil)

    package init(path: String, group: any EventLoopGroup, host: SimulatedHost = SimulatedHost()) async throws {
        self.path = path
        self.group = group
        state.withLock { $0.host = host }
        try await listen()
    }

    private func listen() async throws {
        let channel = try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(FakeEngineHandler(self))
                }
            }
            .bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get()
        listener.withLock { $0 = channel }
    }

    // MARK: what a test tells it

    /// The next `times` calls whose "METHOD target" contains `matches` end so.
    package func inject(_ fault: Fault, into matches: String, times: Int = 1) {
        state.withLock { $0.faults.append((matches, fault, times)) }
    }

    package func events(_ mode: EventMode) { state.withLock { $0.eventMode = mode } }

    package func change<Result: Sendable>(_ body: (inout SimulatedHost) -> Result) -> Result {
        state.withLock { body(&$0.host) }
    }

    package var host: SimulatedHost { state.withLock { $0.host } }

    /// "METHOD target" of every call so far.
    package var calls: [String] { state.withLock { $0.calls } }

    /// All connections are cut, what ran has ended, and after a moment it answers again.
    package func restart(after pause: Duration = .milliseconds(300)) async throws {
        try await listener.withLock { $0 }?.close()
        let open = state.withLock { state in
            state.host.restarted()
            state.streams = []
            return Array(state.connections.values)
        }
        for channel in open { channel.close(promise: nil) }
        try await Task.sleep(for: pause)
        try await listen()
    }

    package func stop() async throws {
        try await listener.withLock { $0 }?.close()
        for channel in state.withLock({ Array($0.connections.values) }) { channel.close(promise: nil) }
    }

    // MARK: events

    func publish(_ type: String, _ action: String, _ id: String, _ attributes: [String: String] = [:]) {
        let event: [String: Any] = [
            "Type": type, "Action": action, "Actor": ["ID": id, "Attributes": attributes],
            "time": 0, "timeNano": 0,
        ]
        guard let data = try? JSONSerialization.data(withJSONObject: event) else { return }
        let line = Array(data) + [10]
        let (streams, lines) = state.withLock { state -> ([any Channel], [[UInt8]]) in
            switch state.eventMode {
            case .normal: return (state.streams, [line])
            case .dropped: return (state.streams, [])
            case .repeated: return (state.streams, [line, line])
            case .reordered:
                guard let held = state.heldEvent else {
                    state.heldEvent = line
                    return (state.streams, [])
                }
                state.heldEvent = nil
                return (state.streams, [line, held])
            }
        }
        for channel in streams {
            for line in lines {
                channel.writeAndFlush(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: line))), promise: nil)
            }
        }
    }
}

/// One connection: a call, and its answer.
final class FakeEngineHandler: ChannelInboundHandler, @unchecked Sendable {
    // Guarded by the event loop of its channel.
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let engine: FakeEngine
    private var head: HTTPRequestHead?
    private var body = ByteBuffer()

    init(_ engine: FakeEngine) { self.engine = engine }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        engine.state.withLock { $0.connections[ObjectIdentifier(channel)] = channel }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        let channel = context.channel
        engine.state.withLock { state in
            state.connections[ObjectIdentifier(channel)] = nil
            state.streams.removeAll { $0 === channel }
        }
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            body.clear()
        case .body(var part): body.writeBuffer(&part)
        case .end:
            guard let head else { return }
            answer(head, Data(body.readableBytesView), context)
        }
    }

    private func answer(_ head: HTTPRequestHead, _ body: Data, _ context: ChannelHandlerContext) {
        let call = "\(head.method.rawValue) \(head.uri)"
        let fault = engine.state.withLock { state -> FakeEngine.Fault? in
            state.calls.append(call)
            guard let index = state.faults.firstIndex(where: { call.contains($0.matches) }) else { return nil }
            state.faults[index].left -= 1
            defer { if state.faults[index].left <= 0 { state.faults.remove(at: index) } }
            return state.faults[index].fault
        }
        if head.uri.contains("/events") {
            context.write(wrapOutboundOut(.head(.init(version: .http1_1, status: .ok))), promise: nil)
            context.flush()
            let channel = context.channel
            engine.state.withLock { $0.streams.append(channel) }
            return
        }
        switch fault {
        case .hang: return
        case .fail(let status): return reply(.init(status: status, json: ["message": "injected"]), context)
        case .delay(let milliseconds):
            let context = NIOLoopBound(context, eventLoop: context.eventLoop)
            context.value.eventLoop.scheduleTask(in: .milliseconds(Int64(milliseconds))) {
                self.reply(self.engine.call(head.method, head.uri, body), context.value)
            }
        case .doThenFail(let status):
            _ = engine.call(head.method, head.uri, body)
            reply(.init(status: status, json: ["message": "injected after it was done"]), context)
        case .doThenCut:
            _ = engine.call(head.method, head.uri, body)
            context.close(promise: nil)
        case .cutAnswer:
            let answer = engine.call(head.method, head.uri, body)
            var headers = HTTPHeaders()
            headers.add(name: "Content-Length", value: String(answer.body.count + 10))
            context.write(
                wrapOutboundOut(
                    .head(
                        .init(
                            version: .http1_1, status: .init(statusCode: answer.status), headers: headers))),
                promise: nil)
            context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: answer.body)))), promise: nil)
            context.close(promise: nil)
        case nil: reply(engine.call(head.method, head.uri, body), context)
        }
    }

    private func reply(_ answer: FakeEngine.Answer, _ context: ChannelHandlerContext) {
        guard answer.status > 0 else { return }
        var headers = HTTPHeaders()
        headers.add(name: "Content-Length", value: String(answer.body.count))
        headers.add(name: "Connection", value: "close")
        context.write(
            wrapOutboundOut(
                .head(.init(version: .http1_1, status: .init(statusCode: answer.status), headers: headers))),
            promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: answer.body)))), promise: nil)
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in channel.close(promise: nil) }
    }
}
