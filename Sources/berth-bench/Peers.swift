import Foundation
import Hummingbird
import Logging
import NIOCore
import NIOPosix
import ServiceRuntime
import WebSocketTransport

/// What the control plane is compared with, each a process of its own: the same framework that answers with a constant, and
/// the same WebSocket library with connections on which nothing happens.
enum Peer {
    /// Serves as the environment says, if it says so, until the process is ended.
    ///
    /// - Returns: false where it says nothing.
    static func serveIfAsked() async throws -> Bool {
        switch ProgramEnvironment.variables()["BERTH_BENCH_PEER"] {
        case "constant": try await constant()
        case "sockets": try await sockets()
        default: return false
        }
        return true
    }

    private static func constant() async throws {
        let body = ByteBuffer(bytes: try DurableFile.read(ProgramEnvironment.variables()["BERTH_BENCH_BODY"] ?? ""))
        let router = Router()
        router.get("constant") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "application/json", .contentLength: String(body.readableBytes)],
                body: .init(byteBuffer: body))
        }
        var quiet = Logger(label: "peer")
        quiet.logLevel = .error
        let application = Application(
            router: router, configuration: .init(address: .hostname("127.0.0.1", port: 0), serverName: nil),
            onServerRunning: { channel in ProgramEnvironment.printLine("listening:\(channel.localAddress?.port ?? 0)")
            },
            logger: quiet)
        try await application.run()
    }

    private static func sockets() async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1024)
            .bind(host: "127.0.0.1", port: 0) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try WebSocketUpgradeGate<Void, Void>.install(
                        on: channel, authorize: { _, _ in .accept(subprotocol: nil, .init(), ()) },
                        configureHTTP: { _ in })
                }
            }
        ProgramEnvironment.printLine("listening:\(server.channel.localAddress?.port ?? 0)")
        try await withThrowingDiscardingTaskGroup { group in
            try await server.executeThenClose { connections in
                for try await connection in connections {
                    group.addTask {
                        guard case .webSocket(let socket, _)? = try? await connection.get() else { return }
                        _ = try? await socket.run { messages, _ in for try await _ in messages {} }
                    }
                }
            }
        }
    }
}

/// A child process and the port that it listens on.
final class PeerProcess: Sendable {
    let pid: Int32
    let port: Int

    init(_ program: String, _ arguments: [String] = [], environment: [String: String], log: String) async throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("BERTH_") }
            .merging(environment) { $1 }
        try Data().write(to: URL(fileURLWithPath: log))
        let output = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
        process.standardOutput = output
        process.standardError = output
        try process.run()
        pid = process.processIdentifier
        for _ in 0..<400 {
            let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
            if let line = text.split(separator: "\n").first(where: { $0.contains("listening") }),
                let port = line.split(separator: ":").last.flatMap({ Int($0.prefix { $0.isNumber }) })
            {
                self.port = port
                return
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        kill(pid, SIGKILL)
        throw ProgramFailure(
            .failure, "\(program) does not listen: \(try String(contentsOfFile: log, encoding: .utf8))")
    }

    func stop(_ signal: Int32 = SIGTERM) {
        kill(pid, signal)
        for _ in 0..<500 where kill(pid, 0) == 0 { usleep(10_000) }
    }

    /// Kilobytes that are in memory, shared ones left out.
    var privateKilobytes: Int {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/smaps_rollup", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").filter { $0.hasPrefix("Private_") }
            .compactMap { $0.split(separator: " ").dropFirst().first.flatMap { Int($0) } }.reduce(0, +)
    }
}
