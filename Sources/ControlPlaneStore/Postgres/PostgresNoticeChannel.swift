import Glibc

/// Notices by `NOTIFY` and `LISTEN`. Who sends takes a lock until its transaction has ended, so that the numbers of the
/// notices are in the order in which all hear them.
struct PostgresNoticeChannel: NoticeChannel {
    private static let name = "berth_notice"
    private static let lock = 4_253_401_961
    let database: PostgresDatabase

    func send(_ texts: [String]) async throws {
        let parts = texts.flatMap { NoticeParts.split($0) }
        guard !parts.isEmpty else { return }
        // On disk, or a crash of the server would take numbers back that clients know already.
        try await database.transaction("BEGIN; SELECT pg_advisory_xact_lock(\(Self.lock))") { connection in
            _ = try connection.rows(
                """
                SELECT pg_notify('\(Self.name)', nextval('notice_number') || ' ' || part)
                FROM unnest(?::text[]) AS part
                """, [Self.array(parts)])
        }
    }

    /// As PostgreSQL writes an array of texts.
    static func array(_ texts: [String]) -> String {
        "{"
            + texts.map { text in
                "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
            }.joined(separator: ",") + "}"
    }

    func signals() -> AsyncStream<NoticeSignal> {
        let (stream, continuation) = AsyncStream.makeStream(of: NoticeSignal.self)
        let uncertainties = Task {
            for await _ in database.uncertainties { continuation.yield(.uncertain) }
        }
        let task = Task {
            var pause = 0.1
            while !Task.isCancelled {
                do {
                    try await listen(continuation) { pause = 0.1 }
                } catch {
                    continuation.yield(.lost(reason: "\(error)"))
                }
                try? await Task.sleep(for: .seconds(pause))
                pause = min(pause * 2, 5)
            }
            continuation.finish()
        }
        continuation.onTermination = { _ in
            task.cancel()
            uncertainties.cancel()
        }
        return stream
    }

    /// Listens until the connection breaks or the task is cancelled.
    private func listen(
        _ continuation: AsyncStream<NoticeSignal>.Continuation, opened: () -> Void
    ) async throws {
        let connection = try await PostgresConnection.open(database.library, database.address)
        let number = try await connection.perform { session in
            try session.execute("LISTEN \(Self.name)")
            // Whoever counts now is heard: what has been counted is what was missed.
            try session.execute("BEGIN; SELECT pg_advisory_xact_lock(\(Self.lock))")
            let last = try session.value(
                Int.self, "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM notice_number")
            try session.commit()
            return last ?? 0
        }
        continuation.yield(.opened(number: number))
        opened()
        let stop = try StopSignal()
        try await withTaskCancellationHandler {
            try await connection.perform { session in try Self.read(session, until: stop, continuation) }
        } onCancel: {
            stop.give()
        }
    }

    /// On the connection's queue, which waits here as long as it listens.
    private static func read(
        _ session: PostgresSession, until stop: StopSignal, _ continuation: AsyncStream<NoticeSignal>.Continuation
    ) throws {
        var joining = NoticeParts.Joining()
        while true {
            // First what came with earlier answers.
            while let notification = session.library.notification(session.handle) {
                defer { session.library.free(notification) }
                // `PGnotify`: name, process, extra, next.
                let extra = notification.load(fromByteOffset: 16, as: UnsafePointer<CChar>?.self)
                guard let text = extra.map({ String(cString: $0) }), let space = text.firstIndex(of: " "),
                    let number = Int(text[..<space]), let whole = joining.take(text[text.index(after: space)...])
                else { continue }
                continuation.yield(.notice(number: number, text: whole))
            }
            var descriptors = [
                pollfd(fd: session.library.socket(session.handle), events: Int16(POLLIN), revents: 0),
                pollfd(fd: stop.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&descriptors, nfds_t(descriptors.count), -1) >= 0 || errno == EINTR else {
                throw StoreFailure.unavailable("the connection for notices cannot be waited on: errno \(errno)")
            }
            if descriptors[1].revents != 0 { return }
            guard session.library.consumeInput(session.handle) != 0, !session.isBroken else {
                throw StoreFailure.unavailable("the connection for notices broke")
            }
        }
    }

    /// Ends a wait on another thread: the reading end of a pipe becomes readable.
    private final class StopSignal: Sendable {
        let descriptor: CInt
        private let writing: CInt

        init() throws {
            var ends: [CInt] = [-1, -1]
            guard pipe(&ends) == 0 else { throw StoreFailure.unavailable("no descriptor: errno \(errno)") }
            (descriptor, writing) = (ends[0], ends[1])
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        }

        deinit {
            close(descriptor)
            close(writing)
        }

        func give() { _ = write(writing, "x", 1) }
    }
}
