import ControlPlaneStore
import ServiceRuntime

/// Finds out that another program has revoked tokens in the same SQLite file, which nobody is told of: open streams then look
/// whether theirs is still good. A look costs one number; where something about tokens has changed, as the moment of their
/// last use does all the time, a count of those that are revoked.
struct TokenWatch: Sendable {
    let store: Store
    let revocations: Revocations

    private static let interval = Duration.seconds(1)

    /// Until cancelled. Ends at once where control planes tell each other.
    func run() async throws {
        guard var version = store.version()?.tokens else { return }
        var revoked = try? await store.revokedTokens()
        while true {
            try await Task.sleep(for: Self.interval)
            guard let now = store.version()?.tokens, now != version,
                let count = try? await store.revokedTokens()
            else { continue }
            version = now
            guard count != revoked else { continue }
            revoked = count
            await revocations.checkAll()
        }
    }
}
