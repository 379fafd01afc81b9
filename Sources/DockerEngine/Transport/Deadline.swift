/// Runs `operation` and throws `error` where it has not ended after `duration`. The operation is cancelled and awaited.
package func withDeadline<Result: Sendable>(
    _ duration: Duration, else error: @autoclosure @escaping @Sendable () -> EngineError,
    _ operation: @escaping @Sendable () async throws -> Result
) async throws -> Result {
    try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask { try await operation() }
        group.addTask {
            try await Task.sleep(for: duration)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next() else { throw CancellationError() }
        if let result = first { return result }
        throw error()
    }
}
