import ControlPlaneStore
import ServiceRuntime

/// Finds out that another program has changed tokens or users in the same SQLite file, which nobody is told of: open streams
/// then look whether their token is still good. Looking costs one number that is read from memory.
struct TokenWatch: Sendable {
    let store: Store
    let revocations: Revocations

    private static let interval = Duration.seconds(1)

    /// Until cancelled. Ends at once where control planes tell each other.
    func run() async throws {
        guard var known = store.version()?.tokens else { return }
        while true {
            try await Task.sleep(for: Self.interval)
            guard let now = store.version()?.tokens, now != known else { continue }
            known = now
            await revocations.checkAll()
        }
    }
}
