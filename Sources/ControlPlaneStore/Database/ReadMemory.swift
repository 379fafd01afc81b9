import Synchronization

/// What was read last, as long as nothing in the database has changed since.
final class ReadMemory<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private struct State {
        var version = 0
        var values: [Key: Value] = [:]
    }

    private let state = Mutex(State())
    private let most: Int

    /// - Parameter most: values that are kept.
    init(most: Int) { self.most = most }

    /// - Parameters:
    ///   - version: of the database, from before `read` is called; nil where it is not known: then nothing is remembered.
    ///   - read: nil is not remembered.
    func value(
        _ key: Key, at version: Int?, _ read: () async throws -> Value?
    ) async throws -> Value? {
        guard let version else { return try await read() }
        let known = state.withLock { state in
            if state.version != version { state = State(version: version) }
            return state.values[key]
        }
        if let known { return known }
        guard let found = try await read() else { return nil }
        state.withLock { state in
            if state.version == version, state.values.count < most { state.values[key] = found }
        }
        return found
    }
}
