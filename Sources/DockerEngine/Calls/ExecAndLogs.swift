package import NIOCore
import NIOHTTP1

extension DockerEngine {
    /// What to run beside a container's main process.
    package struct ExecOrder: Encodable, Hashable, Sendable {
        package var command: [String]
        package var environment: [String]
        package var workingDirectory: String?
        package var user: String?
        package var allocatesTTY: Bool
        package var attachesInput: Bool
        let attachesOutput = true
        let attachesError = true

        package init(
            command: [String], environment: [String] = [], workingDirectory: String? = nil, user: String? = nil,
            allocatesTTY: Bool = false, attachesInput: Bool = false
        ) {
            self.command = command
            self.environment = environment
            self.workingDirectory = workingDirectory
            self.user = user
            self.allocatesTTY = allocatesTTY
            self.attachesInput = attachesInput
        }

        private enum CodingKeys: String, CodingKey {
            case command = "Cmd"
            case environment = "Env"
            case workingDirectory = "WorkingDir"
            case user = "User"
            case allocatesTTY = "Tty"
            case attachesInput = "AttachStdin"
            case attachesOutput = "AttachStdout"
            case attachesError = "AttachStderr"
        }
    }

    package struct ExecDetails: Decodable, Hashable, Sendable {
        package var running: Bool
        /// Nil while it runs.
        package var exitCode: Int?
        package var pid: Int?
        private enum CodingKeys: String, CodingKey {
            case running = "Running"
            case exitCode = "ExitCode"
            case pid = "Pid"
        }
    }

    /// - Returns: the exec's id.
    package func createExec(_ container: String, _ order: ExecOrder) async throws -> String {
        struct Created: Decodable { var Id: String }
        let answer = try await post(
            try path("containers", container, "/exec"), body: order, call: "exec create", object: container)
        let created: Created = try decode(answer.body, call: "exec create", object: container)
        return created.Id
    }

    /// Starts the exec and takes over the connection: with a TTY the bytes are the terminal's, without one they are the
    /// frames of `LogFrameDecoder`. Closing the channel does not end the process.
    package func startExec(_ exec: String, allocatesTTY: Bool) async throws -> NIOAsyncChannel<ByteBuffer, ByteBuffer> {
        struct Body: Encodable {
            var Detach = false
            var Tty: Bool
        }
        let request = EngineConnection.Request(
            method: .POST, target: try path("exec", exec, "/start"),
            body: try Self.encode(Body(Tty: allocatesTTY)), call: "exec start", object: exec)
        return try await withDeadline(
            deadlines.start,
            else: EngineError(kind: .timedOut, call: "exec start", object: exec, message: "")
        ) { try await connection.hijack(request) }
    }

    package func resizeExec(_ exec: String, columns: Int, rows: Int) async throws {
        var query = QueryItems()
        query.add("h", String(rows))
        query.add("w", String(columns))
        _ = try await send(
            .POST, try query.target(path("exec", exec, "/resize")), call: "exec resize", object: exec)
    }

    package func inspectExec(_ exec: String) async throws -> ExecDetails {
        try await get(path("exec", exec, "/json"), call: "exec inspect", object: exec)
    }

    /// Hands over a container's output. Only for containers without a TTY, whose output is framed.
    ///
    /// - Parameters:
    ///   - tail: lines from the end; nil for all.
    ///   - follow: true goes on until the container ends or the task is cancelled.
    package func logs(
        _ container: String, tail: Int? = nil, since: Int? = nil, follow: Bool = false, timestamps: Bool = false,
        take: @escaping @Sendable (OutputChunk) async throws -> Void
    ) async throws {
        var query = QueryItems()
        query.add("stdout", "1")
        query.add("stderr", "1")
        query.add("tail", tail.map(String.init) ?? "all")
        if let since { query.add("since", String(since)) }
        if follow { query.add("follow", "1") }
        if timestamps { query.add("timestamps", "1") }
        let request = EngineConnection.Request(
            method: .GET, target: try query.target(path("containers", container, "/logs")), body: nil,
            call: "container logs", object: container)
        try await stream(request, LogFrameDecoder(), take: take)
    }
}
