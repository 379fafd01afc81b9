import FoundationEssentials
import ServiceRuntime

/// Which images this agent pulled and when each was last of use, on disk. Only these may ever be collected: what somebody
/// else put on the host is theirs. Losing the file keeps images, and removes none.
actor ImageLedger {
    struct Entry: Codable, Hashable, Sendable {
        /// As it was pulled.
        var reference: String
        /// Seconds since 1970 UTC.
        var lastUsed: Double
    }

    private struct Stored: Codable {
        var schema = 1
        var images: [Entry]
    }

    private let path: String
    private var images: [String: Entry]?
    /// Beyond this the oldest are forgotten, and so kept on the host.
    private static let most = 1000

    init(directory: String) { path = directory + "/images.json" }

    var entries: [Entry] { load().values.sorted { ($0.lastUsed, $0.reference) < ($1.lastUsed, $1.reference) } }

    func pulled(_ reference: String) {
        change { $0[reference] = Entry(reference: reference, lastUsed: Timestamp.now()) }
    }

    /// A container was made of it. Nothing where somebody else pulled it.
    func used(_ reference: String) {
        guard load()[reference] != nil else { return }
        change { $0[reference]?.lastUsed = Timestamp.now() }
    }

    func removed(_ reference: String) { change { $0[reference] = nil } }

    private func load() -> [String: Entry] {
        if let images { return images }
        let stored = (try? DurableFile.read(path)).flatMap { try? JSONCoding.decode(Stored.self, from: $0) }
        let found = Dictionary((stored?.images ?? []).map { ($0.reference, $0) }, uniquingKeysWith: { $1 })
        images = found
        return found
    }

    private func change(_ body: (inout [String: Entry]) -> Void) {
        var next = load()
        body(&next)
        if next.count > Self.most, let oldest = next.values.min(by: { $0.lastUsed < $1.lastUsed }) {
            next[oldest.reference] = nil
        }
        images = next
        let list = next.values.sorted { $0.reference < $1.reference }
        // Not written is not collected after the next start: nothing is lost by it.
        if let data = try? JSONCoding.encode(Stored(images: list)) { try? DurableFile.write(data, to: path) }
    }
}
