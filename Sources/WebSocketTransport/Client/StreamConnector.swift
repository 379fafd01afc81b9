import NIOCore
import NIOExtras
import NIOHTTP1
import NIOPosix
package import NIOSSL

/// Where a client connects to: `ws`, `wss`, `http` or `https`, host, port and target.
package struct RemoteURL: Hashable, Sendable, CustomStringConvertible {
    package var isSecure: Bool
    package var host: String
    package var port: Int
    /// Path and query, starting with `/`.
    package var target: String

    package init(isSecure: Bool, host: String, port: Int, target: String) {
        self.isSecure = isSecure
        self.host = host
        self.port = port
        self.target = target
    }

    /// Nil where `text` is not an absolute URL of one of the four schemes, or holds a user, a fragment or blanks.
    package init?(_ text: String) {
        guard let separator = text.firstRange(of: "://") else { return nil }
        let scheme = text[..<separator.lowerBound].lowercased()
        guard ["ws", "wss", "http", "https"].contains(scheme) else { return nil }
        isSecure = scheme.hasSuffix("s") && scheme != "ws"
        let rest = text[separator.upperBound...]
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        let authority = rest[..<end]
        let after = String(rest[end...])
        guard !text.contains(where: { $0.isWhitespace || $0 == "#" }), !authority.contains("@"), !authority.isEmpty
        else { return nil }
        target = after.isEmpty ? "/" : (after.hasPrefix("/") ? after : "/" + after)
        var host = authority
        port = isSecure ? 443 : 80
        let portStart = authority.lastIndex(of: ":").flatMap { authority[$0...].contains("]") ? nil : $0 }
        if let portStart {
            guard let number = Int(authority[authority.index(after: portStart)...]), (1...65535).contains(number)
            else { return nil }
            port = number
            host = authority[..<portStart]
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
    }

    /// The `Host` header: with the port only where it is not the scheme's own.
    var hostHeader: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return port == (isSecure ? 443 : 80) ? name : "\(name):\(port)"
    }

    /// True for addresses that never leave the machine.
    package var isLoopback: Bool { host == "localhost" || host == "::1" || host.hasPrefix("127.") }

    package var description: String { "\(isSecure ? "https" : "http")://\(hostHeader)\(target)" }
}

/// How a client reaches its peer.
package struct ConnectOptions: Sendable {
    /// Trust and client certificate of secure connections; the system's trust where nil.
    package var tls: TLSConfiguration?
    /// An HTTP proxy that speaks CONNECT.
    package var proxy: RemoteURL?
    package var timeout: Duration

    package init(tls: TLSConfiguration? = nil, proxy: RemoteURL? = nil, timeout: Duration = .seconds(15)) {
        self.tls = tls
        self.proxy = proxy
        self.timeout = timeout
    }
}

/// Why no connection came about.
package enum ConnectError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Name, network, TLS or proxy; the text says which.
    case unreachable(String)
    /// The peer answered the handshake with this status.
    case refused(status: Int, retryAfterSeconds: Int?, body: String)
    /// The peer answered with something that is not HTTP or not a WebSocket.
    case malformed(String)

    package var description: String {
        switch self {
        case .unreachable(let text): "not reachable: \(text)"
        case .refused(let status, _, let body): "refused with \(status)\(body.isEmpty ? "" : ": \(body)")"
        case .malformed(let text): "malformed answer: \(text)"
        }
    }
}

/// Opens a TCP connection, through a proxy where there is one, with TLS where the URL says so.
struct StreamConnector: Sendable {
    let group: any EventLoopGroup
    let options: ConnectOptions

    /// A channel without handlers above TLS; the caller adds them on its event loop.
    func connect(to url: RemoteURL) async throws -> any Channel {
        do {
            let peer = options.proxy ?? url
            let channel = try await ClientBootstrap(group: group)
                .connectTimeout(TimeAmount(options.timeout))
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                // Nothing is read before the protocol's own handlers are there to take it.
                .channelOption(.autoRead, value: false)
                .connect(host: peer.host, port: peer.port).get()
            do {
                if options.proxy != nil { try await passProxy(channel, to: url) }
                if url.isSecure { try await addTLS(channel, host: url.host) }
                return channel
            } catch {
                try? await channel.close()
                throw error
            }
        } catch let error as ConnectError {
            throw error
        } catch {
            try Task.checkCancellation()
            throw ConnectError.unreachable(String(describing: error))
        }
    }

    private func passProxy(_ channel: any Channel, to url: RemoteURL) async throws {
        let established = channel.eventLoop.makePromise(of: Void.self)
        try await channel.eventLoop.submit {
            let encoder = HTTPRequestEncoder()
            let decoder = ByteToMessageHandler(HTTPResponseDecoder(leftOverBytesStrategy: .forwardBytes))
            let connect = NIOHTTP1ProxyConnectHandler(
                targetHost: url.host, targetPort: url.port, headers: [:],
                deadline: .now() + TimeAmount(options.timeout),
                promise: established)
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandlers([encoder, decoder, connect])
            established.futureResult.assumeIsolated().whenSuccess { _ in
                pipeline.removeHandler(encoder, promise: nil)
                pipeline.removeHandler(decoder, promise: nil)
            }
            channel.setOption(.autoRead, value: true).whenComplete { _ in channel.read() }
        }.get()
        try await established.futureResult.get()
        try await channel.setOption(.autoRead, value: false).get()
    }

    private func addTLS(_ channel: any Channel, host: String) async throws {
        let configuration = options.tls ?? .makeClientConfiguration()
        let context = try NIOSSLContext(configuration: configuration)
        try await channel.eventLoop.submit {
            // An address is not a name: SNI must not carry it.
            let name = (try? SocketAddress(ipAddress: host, port: 0)) == nil ? host : nil
            let handler = try NIOSSLClientHandler(context: context, serverHostname: name)
            try channel.pipeline.syncOperations.addHandler(handler)
        }.get()
    }
}
