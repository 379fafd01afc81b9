package import FoundationEssentials
import Glibc
package import NIOCore
import NIOPosix
import ServiceRuntime

/// The agent's local Unix socket: one line of request, one JSON document of answer. Mode 0600, so that only its owner
/// and root may ask.
package enum LocalSocket {
    package static func path(stateDirectory: String) -> String { stateDirectory + "/agent.sock" }

    private static let longestRequest = 4096
    private static let longestAnswer = 64 * 1024 * 1024

    /// Serves until cancelled. The caller holds the lock of the state directory, so a socket that is there is a dead one.
    static func serve(
        path: String, group: any EventLoopGroup, answer: @escaping @Sendable (String) async -> Data
    ) async throws {
        unlink(path)
        let mask = umask(0o177)
        let server = try await ServerBootstrap(group: group)
            .bind(unixDomainSocketPath: path) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        umask(mask)
        defer { unlink(path) }
        try await server.executeThenClose { connections in
            try await withThrowingDiscardingTaskGroup { tasks in
                for try await connection in connections {
                    tasks.addTask { try? await Self.converse(connection, answer) }
                }
            }
        }
    }

    private static func converse(
        _ connection: NIOAsyncChannel<ByteBuffer, ByteBuffer>, _ answer: @Sendable (String) async -> Data
    ) async throws {
        try await connection.executeThenClose { inbound, outbound in
            var request = ByteBuffer()
            for try await var part in inbound {
                request.writeBuffer(&part)
                guard request.readableBytes <= longestRequest else { return }
                guard let end = request.readableBytesView.firstIndex(of: 10) else { continue }
                let line = request.getString(at: request.readerIndex, length: end - request.readerIndex) ?? ""
                try await outbound.write(ByteBuffer(bytes: await answer(line)))
                return
            }
        }
    }

    /// - Throws: `ProgramFailure` where no agent runs there.
    package static func ask(_ request: String, path: String, group: any EventLoopGroup) async throws -> Data {
        let connection: NIOAsyncChannel<ByteBuffer, ByteBuffer>
        do {
            connection = try await ClientBootstrap(group: group).connectTimeout(.seconds(5))
                .connect(unixDomainSocketPath: path) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            throw ProgramFailure(
                .unavailable,
                "no agent answers on \(path); is it running? (berth-agent run, or systemctl status berth-agent)")
        }
        return try await connection.executeThenClose { inbound, outbound in
            try await outbound.write(ByteBuffer(string: request + "\n"))
            var answer = Data()
            for try await part in inbound {
                answer.append(contentsOf: part.readableBytesView)
                guard answer.count <= longestAnswer else { break }
            }
            return answer
        }
    }
}
