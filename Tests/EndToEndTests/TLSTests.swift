import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import ServiceRuntime
import Testing
import WebSocketTransport

/// TLS as a user sets it up: a certificate of their own authority, with and without a proxy between.
@Suite struct TLS {
    private func openssl(_ arguments: [String]) async throws {
        let result = try await RunningProgram.run("/usr/bin/openssl", arguments)
        try #require(result.status == 0, "\(result.output)")
    }

    private func secureControlPlane() async throws -> TestControlPlane {
        try await TestControlPlane { folder in
            try await openssl([
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-keyout", folder.file("key.pem"), "-out", folder.file("cert.pem"), "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost",
            ])
            return ["BERTH_TLS_CERTIFICATE": folder.file("cert.pem"), "BERTH_TLS_KEY": folder.file("key.pem")]
        }
    }

    @Test func `an agent registers and connects over TLS with the authority it was given, and with no other`()
        async throws
    {
        let controlPlane = try await secureControlPlane()
        let folder = try TemporaryFolder()
        let server = "https://localhost:\(await controlPlane.port)"
        func register(_ more: [String]) async throws -> (status: Int32, output: String) {
            try await RunningProgram.run(
                try TestEnvironment.binary("berth-agent"),
                [
                    "register", "--server", server, "--token-file", controlPlane.folder.file("admin-token"), "--name",
                    "tls",
                    "--config", folder.file("agent.json"),
                ] + more,
                environment: ["BERTH_STATE_DIRECTORY": folder.file("state"), "BERTH_ENGINE": "unix:///none.sock"])
        }
        let untrusted = try await register([])
        #expect(untrusted.status == 69 && untrusted.output.contains("not reachable"), "\(untrusted.output)")
        let trusted = try await register(["--ca-file", controlPlane.folder.file("cert.pem")])
        #expect(trusted.status == 0, "\(trusted.output)")
        let agent = try RunningProgram(
            try TestEnvironment.binary("berth-agent"), ["run", "--config", folder.file("agent.json")],
            output: folder.file("log"))
        try await untilTrue("the agent is connected") { agent.output.contains("connected to the control plane") }
        #expect(try await agent.terminate() == 0)
        try await controlPlane.stop()
    }

    @Test func `SIGHUP gives new connections the certificate that is there by then, and a bad one changes nothing`()
        async throws
    {
        let controlPlane = try await secureControlPlane()
        let (certificate, key) = (controlPlane.folder.file("cert.pem"), controlPlane.folder.file("key.pem"))
        let port = await controlPlane.port
        func served() async throws -> String {
            let result = try await RunningProgram.run(
                "/bin/sh",
                [
                    "-c",
                    "openssl s_client -connect localhost:\(port) </dev/null 2>/dev/null | openssl x509 -noout -subject",
                ])
            return result.output
        }
        #expect(try await served().contains("localhost"))
        try await openssl([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout",
            key, "-out", certificate, "-subj", "/CN=renewed",
        ])
        #expect(try await served().contains("localhost"), "nothing is read without being told")
        let program = try #require(await controlPlane.program)
        program.signal(SIGHUP)
        try await untilTrue("the new one is served", within: 10) { try await served().contains("renewed") }
        try "no certificate".write(toFile: certificate, atomically: true, encoding: .utf8)
        program.signal(SIGHUP)
        try await untilTrue("it is said", within: 10) { program.output.contains("cannot be read again") }
        #expect(try await served().contains("renewed"))
        try await controlPlane.stop()
    }

    @Test func `a WebSocket passes a proxy that speaks CONNECT, and a proxy's refusal is told`() async throws {
        let controlPlane = try await secureControlPlane()
        let port = await controlPlane.port
        let url = try #require(RemoteURL("https://localhost:\(port)/ws/events"))
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.trustRoots = .file(controlPlane.folder.file("cert.pem"))
        let headers = await ["Authorization": "Bearer \(controlPlane.token)"]
        func connect(_ proxy: ConnectProxy) async throws -> WebSocketConnection {
            let options = ConnectOptions(
                tls: tls, proxy: RemoteURL("http://127.0.0.1:\(proxy.port)"), timeout: .seconds(10))
            return try await WebSocketClient.connect(
                to: url, headers: .init(headers.map { ($0.key, $0.value) }), options: options,
                group: TestEnvironment.group)
        }
        let proxy = try await ConnectProxy(answer: .tunnel(port: port))
        _ = try await connect(proxy).run { messages, _ in
            var iterator = messages.makeAsyncIterator()
            guard case .text(let text)? = try await iterator.next() else {
                Issue.record("expected a list")
                return
            }
            #expect(text.contains(#""type":"list""#))
        }
        let refusing = try await ConnectProxy(answer: .refuse)
        await #expect(throws: ConnectError.self) { try await connect(refusing) }
        proxy.stop()
        refusing.stop()
        try await controlPlane.stop()
    }
}

/// The least of an HTTP proxy.
private final class ConnectProxy: Sendable {
    enum Answer: Sendable {
        case tunnel(port: Int)
        case refuse
    }

    let port: Int
    private let channel: any Channel

    init(answer: Answer) async throws {
        channel = try await ServerBootstrap(group: TestEnvironment.group)
            .childChannelInitializer { $0.pipeline.addHandler(Tunnel(answer)) }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    func stop() { channel.close(promise: nil) }

    private final class Tunnel: ChannelInboundHandler, @unchecked Sendable {
        // Guarded by the event loop of its channel.
        typealias InboundIn = ByteBuffer
        private let answer: Answer
        private var head = ByteBuffer()
        private var peer: (any Channel)?

        init(_ answer: Answer) { self.answer = answer }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            if let peer {
                peer.writeAndFlush(bytes, promise: nil)
                return
            }
            head.writeBuffer(&bytes)
            guard String(buffer: head).hasSuffix("\r\n\r\n") else { return }
            let channel = context.channel
            switch answer {
            case .refuse:
                channel.writeAndFlush(
                    ByteBuffer(string: "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), promise: nil)
            case .tunnel(let port):
                ClientBootstrap(group: context.eventLoop)
                    .channelInitializer { $0.pipeline.addHandler(ForwardBytes(to: channel)) }
                    .connect(host: "127.0.0.1", port: port)
                    .whenSuccess { peer in
                        self.peer = peer
                        channel.writeAndFlush(ByteBuffer(string: "HTTP/1.1 200 OK\r\n\r\n"), promise: nil)
                    }
            }
        }

        func channelInactive(context: ChannelHandlerContext) { peer?.close(promise: nil) }
    }
}
