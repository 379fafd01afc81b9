import DockerEngine
import Foundation
import NIOCore
import NIOPosix
import Testing

/// A socket that answers each connection with prepared bytes, to do what a real Engine cannot be made to do.
final class PreparedServer: Sendable {
    enum Ending { case close, stayOpen }
    private let channel: any Channel
    let path: String

    init(_ answers: String, then ending: Ending = .close) async throws {
        let path = NSTemporaryDirectory() + "berth-fake-\(UUID().uuidString.prefix(8)).sock"
        self.path = path
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.pipeline.addHandler(Answering(answers, ending))
            }
            .bind(unixDomainSocketPath: path).get()
    }

    deinit {
        channel.close(promise: nil)
        unlink(path)
    }

    private final class Answering: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        let answer: String
        let ending: Ending
        init(_ answer: String, _ ending: Ending) {
            self.answer = answer
            self.ending = ending
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let channel = context.channel
            channel.writeAndFlush(ByteBuffer(string: answer)).whenComplete { [ending] _ in
                if ending == .close { channel.close(promise: nil) }
            }
        }
    }
}

@Suite struct HostileEngine {
    private func negotiate(_ server: PreparedServer) async throws -> DockerEngine {
        try await DockerEngine.negotiate(
            try #require(EngineEndpoint("unix://\(server.path)")), group: MultiThreadedEventLoopGroup.singleton)
    }

    private func http(_ status: String, _ body: String) -> String {
        "HTTP/1.1 \(status)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    private func failure(_ answer: String) async throws -> EngineError.Kind? {
        let server = try await PreparedServer(answer)
        let error = await #expect(throws: EngineError.self) { try await negotiate(server) }
        #expect(error?.call == "version")
        return error?.kind
    }

    @Test func `answers that are none become errors that say which`() async throws {
        #expect(try await failure(http("200 OK", "not json")) == .malformed)
        #expect(try await failure(http("200 OK", #"{"Version":5}"#)) == .malformed)
        #expect(try await failure(http("500 Internal", #"{"message":"boom"}"#)) == .refused(status: 500))
        #expect(try await failure("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") == .cutOff)
        #expect(try await failure("garbage\r\n\r\n") == .malformed)
        #expect(try await failure("") == .cutOff)
    }

    @Test func `versions are negotiated to the newest common one`() async throws {
        func version(_ api: String, _ least: String) -> String {
            http("200 OK", #"{"Version":"x","ApiVersion":"\#(api)","MinAPIVersion":"\#(least)"}"#)
        }
        #expect(try await negotiate(try await PreparedServer(version("1.41", "1.12"))).version == APIVersion("1.41"))
        #expect(
            try await negotiate(try await PreparedServer(version("1.99", "1.44"))).version == DockerEngine.newestVersion
        )
        #expect(try await failure(version("1.40", "1.12")) == .incompatible)
        #expect(try await failure(version("1.99", "1.90")) == .incompatible)
        #expect(try await failure(version("x.y", "1.12")) == .malformed)
    }

    @Test func `an Engine that never answers is given up on at the deadline`() async throws {
        let server = try await PreparedServer("HTTP/1.1 200 OK\r\n", then: .stayOpen)
        var deadlines = DockerEngine.Deadlines()
        deadlines.inspect = .milliseconds(200)
        let good = try await PreparedServer(http("200 OK", #"{"Version":"x","ApiVersion":"1.41"}"#))
        let template = try await negotiate(good)
        let engine = DockerEngine(
            template, endpoint: try #require(EngineEndpoint("unix://\(server.path)")), deadlines: deadlines)
        let error = await #expect(throws: EngineError.self) { try await engine.inspectContainer("hung") }
        #expect(error?.kind == .timedOut && error?.mayHaveHappened == true)
        #expect(error?.description.hasPrefix("container inspect hung: no answer in time") == true)
    }

    @Test func `an error inside the stream of a pull is an error of the pull`() async throws {
        let body = "{\"status\":\"Pulling\"}\n{\"error\":\"manifest unknown\"}\n"
        let engine = try await pulling(http("200 OK", body))
        let error = await #expect(throws: EngineError.self) { try await engine.pullImage("x") { _ in } }
        #expect(error?.kind == .pullFailed && error?.message == "manifest unknown")
    }

    @Test func `a pull that is cut off, or falls silent, is no success`() async throws {
        let cut = try await pulling("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":")
        let cutError = await #expect(throws: EngineError.self) { try await cut.pullImage("x") { _ in } }
        #expect([.cutOff, .malformed].contains(cutError?.kind))
        let silent = try await pulling("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", then: .stayOpen)
        let silence = await #expect(throws: EngineError.self) { try await silent.pullImage("x") { _ in } }
        #expect(silence?.kind == .timedOut)
    }

    private func pulling(_ answer: String, then ending: PreparedServer.Ending = .close) async throws -> DockerEngine {
        let server = try await PreparedServer(answer, then: ending)
        Self.kept.append(server)
        var deadlines = DockerEngine.Deadlines()
        if ending == .stayOpen { deadlines.pullFirstByte = .milliseconds(200) }
        let good = try await PreparedServer(http("200 OK", #"{"Version":"x","ApiVersion":"1.41"}"#))
        return DockerEngine(
            try await negotiate(good), endpoint: try #require(EngineEndpoint("unix://\(server.path)")),
            deadlines: deadlines)
    }

    /// Servers live as long as the engines that speak to them.
    private static let kept = Kept()
    private final class Kept: @unchecked Sendable {
        // Guarded by `lock`.
        private var servers: [PreparedServer] = []
        private let lock = NSLock()
        func append(_ server: PreparedServer) { lock.withLock { servers.append(server) } }
    }
}
