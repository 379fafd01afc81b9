import AgentCore
import BerthModel
import FoundationEssentials
import Logging
import ServiceRuntime

/// Failure counts with what remains of their delays, on disk. Losing the file costs patience, never data: what cannot be
/// read is left out, entry by entry, and said.
struct MemoryStore: Sendable {
    private static let schema = 1

    private struct Stored: Encodable {
        var schema: Int
        var entries: [StoredMemory.Entry]
        var setUps: [StoredMemory.EndedSetUp]
    }

    private struct Found: Decodable {
        var schema: Int
        var entries: [Lenient<StoredMemory.Entry>]
        /// Not in the file of an agent that knew none.
        var setUps: [Lenient<StoredMemory.EndedSetUp>]?
    }

    /// One entry that cannot be read must not cost the others.
    private struct Lenient<Entry: Decodable>: Decodable {
        var entry: Entry?
        init(from decoder: any Decoder) throws { entry = try? Entry(from: decoder) }
    }

    let path: String

    init(directory: String) { path = directory + "/memory.json" }

    func save(_ memory: StoredMemory) throws {
        try DurableFile.write(
            try JSONCoding.encode(Stored(schema: Self.schema, entries: memory.entries, setUps: memory.setUps)), to: path
        )
    }

    /// Never throws: a file that cannot be read must not keep the agent from starting.
    func load(log: Logger) -> StoredMemory {
        guard DurableFile.exists(path) else { return .nothing }
        do {
            let found = try JSONCoding.decode(Found.self, from: try DurableFile.read(path))
            guard found.schema <= Self.schema else {
                throw ProgramFailure(.dataError, "schema \(found.schema) is newer than this program's \(Self.schema)")
            }
            let entries = found.entries.compactMap(\.entry)
            if entries.count < found.entries.count {
                log.warning(
                    "part of the memory of failures cannot be read; left out",
                    metadata: ["entries": "\(found.entries.count - entries.count)"])
            }
            return StoredMemory(entries: entries, setUps: (found.setUps ?? []).compactMap(\.entry))
        } catch {
            let aside = "\(path).unreadable-\(Int(Timestamp.now()))"
            try? DurableFile.rename(path, to: aside)
            log.error(
                "memory of failures cannot be read; set aside, delays begin afresh",
                metadata: ["file": "\(aside)", "error": "\(error)"])
            return .nothing
        }
    }
}
