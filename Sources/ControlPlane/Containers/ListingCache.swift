import ControlPlaneCore
import NIOCore

/// Lists as they were sent last. Clients ask for them over and over, and most of the time nothing has changed: then the list
/// is made once for all who ask.
actor ListingCache {
    /// All that a list depends on: equal stamps, equal lists.
    struct Stamp: Hashable, Sendable {
        /// Of the store.
        var version: Int
        /// Of what lives in memory alone.
        var changes: Int
        var tier: Tier
        /// Some fields count seconds.
        var second: Int
    }

    private struct Entry {
        var stamp: Stamp
        var making: Task<ByteBuffer, any Error>
    }

    private var entries: [String: Entry] = [:]
    private static let most = 1000

    /// - Parameters:
    ///   - stamp: taken before it is called; nil where it is not known: then it is made for this caller alone.
    ///   - make: the list, as bytes.
    func list(
        of user: String, _ stamp: Stamp?, _ make: @escaping @Sendable () async throws -> ByteBuffer
    ) async throws -> ByteBuffer {
        guard let stamp else { return try await make() }
        if let entry = entries[user], entry.stamp == stamp { return try await entry.making.value }
        if entries.count >= Self.most { entries = [:] }
        let making = Task { try await make() }
        entries[user] = Entry(stamp: stamp, making: making)
        do {
            return try await making.value
        } catch {
            // The next one tries again.
            if entries[user]?.stamp == stamp { entries[user] = nil }
            throw error
        }
    }
}
