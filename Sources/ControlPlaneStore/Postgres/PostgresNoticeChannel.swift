import Dispatch

/// Notices by `NOTIFY` and `LISTEN`. Who sends takes a lock until its transaction has ended, so that the numbers of the
/// notices are in the order in which all hear them.
struct PostgresNoticeChannel: NoticeChannel {
    private static let name = "berth_notice"
    private static let lock = 4_253_401_961
    let database: PostgresDatabase

    func send(_ texts: [String]) async throws {
        let parts = texts.flatMap { NoticeParts.split($0) }
        guard !parts.isEmpty else { return }
        // Lost notices are made up for by reading everything anew; they need not be on disk.
        let begin = "BEGIN; SET LOCAL synchronous_commit = off; SELECT pg_advisory_xact_lock(\(Self.lock))"
        try await database.transaction(begin) { connection in
            for part in parts {
                try connection.execute(
                    "SELECT pg_notify('\(Self.name)', nextval('notice_number') || ' ' || ?)", [part])
            }
        }
    }

    func signals() -> AsyncStream<NoticeSignal> {
        let (stream, continuation) = AsyncStream.makeStream(of: NoticeSignal.self)
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
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    /// Listens until the connection breaks or the task is cancelled.
    private func listen(
        _ continuation: AsyncStream<NoticeSignal>.Continuation, opened: () -> Void
    ) async throws {
        let connection = try await PostgresConnection.open(database.library, database.address)
        try await connection.perform { try $0.execute("LISTEN \(Self.name)") }
        continuation.yield(.opened)
        opened()
        let (ends, end) = AsyncStream.makeStream(of: StoreFailure.self, bufferingPolicy: .bufferingOldest(1))
        let reader = Reader(continuation: continuation, end: end)
        let source = await connection.watch { reader.read($0) }
        // What came between LISTEN and the watch makes no new event.
        try await connection.perform { reader.read($0) }
        defer { source.cancel() }
        for await failure in ends { throw failure }
    }

    /// Used on the connection's queue alone.
    private final class Reader: @unchecked Sendable {
        private let continuation: AsyncStream<NoticeSignal>.Continuation
        private let end: AsyncStream<StoreFailure>.Continuation
        private var joining = NoticeParts.Joining()

        init(continuation: AsyncStream<NoticeSignal>.Continuation, end: AsyncStream<StoreFailure>.Continuation) {
            self.continuation = continuation
            self.end = end
        }

        func read(_ session: PostgresSession) {
            if session.library.consumeInput(session.handle) == 0 || session.isBroken {
                end.yield(.unavailable("the connection for notices broke"))
                end.finish()
            }
            while let notification = session.library.notification(session.handle) {
                defer { session.library.free(notification) }
                // `PGnotify`: name, process, extra, next.
                let extra = notification.load(fromByteOffset: 16, as: UnsafePointer<CChar>?.self)
                guard let text = extra.map({ String(cString: $0) }), let space = text.firstIndex(of: " "),
                    let number = Int(text[..<space]), let whole = joining.take(text[text.index(after: space)...])
                else { continue }
                continuation.yield(.notice(number: number, text: whole))
            }
        }
    }
}
