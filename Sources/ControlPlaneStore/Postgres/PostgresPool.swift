/// Connections that are open, and those who wait for one. Opened when they are needed, up to a number.
actor PostgresPool {
    private let library: PostgresLibrary
    private let address: String
    private let most: Int
    private var idle: [PostgresConnection] = []
    /// Idle ones, those in use, and those that are being opened.
    private var count = 0
    private var waiting: [(id: Int, continuation: CheckedContinuation<PostgresConnection?, any Error>)] = []
    private var nextWaiter = 0

    /// How long somebody waits for a connection.
    private static let patience = Duration.seconds(10)

    init(_ library: PostgresLibrary, _ address: String, most: Int) {
        self.library = library
        self.address = address
        self.most = most
    }

    /// Lends a connection to `body`.
    ///
    /// - Throws: `StoreFailure.unavailable` where none is to be had.
    nonisolated func lend<Value: Sendable>(
        _ body: @Sendable (PostgresConnection) async throws -> Value
    ) async throws -> Value {
        let connection = try await take()
        let outcome: Result<Value, any Error>
        do {
            outcome = .success(try await body(connection))
        } catch {
            outcome = .failure(error)
        }
        let isUsable = (try? await connection.perform { !$0.isBroken && $0.isIdle }) ?? false
        await giveBack(isUsable ? connection : nil)
        return try outcome.get()
    }

    /// The server has gone away: whatever is idle is of no use.
    func forgetIdle() {
        count -= idle.count
        idle = []
    }

    private func take() async throws -> PostgresConnection {
        if let connection = idle.popLast() { return connection }
        guard count < most else { return try await wait() }
        count += 1
        return try await open()
    }

    /// For a place that is counted already.
    private func open() async throws -> PostgresConnection {
        do {
            return try await PostgresConnection.open(library, address)
        } catch {
            giveBack(nil)
            throw error
        }
    }

    private func wait() async throws -> PostgresConnection {
        let id = nextWaiter
        nextWaiter += 1
        let timer = Task {
            try await Task.sleep(for: Self.patience)
            self.giveUp(id)
        }
        defer { timer.cancel() }
        let connection = try await withCheckedThrowingContinuation { waiting.append((id, $0)) }
        if let connection { return connection }
        return try await open()
    }

    private func giveUp(_ id: Int) {
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return }
        waiting.remove(at: index).continuation.resume(
            throwing: StoreFailure.unavailable("all \(most) connections have been busy for too long"))
    }

    /// - Parameter connection: nil where it broke: whoever waits gets its place and opens another.
    private func giveBack(_ connection: PostgresConnection?) {
        if !waiting.isEmpty {
            waiting.removeFirst().continuation.resume(returning: connection)
        } else if let connection {
            idle.append(connection)
        } else {
            count -= 1
        }
    }
}
