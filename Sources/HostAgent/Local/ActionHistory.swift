import BerthModel
import FoundationEssentials
import Glibc
import ServiceRuntime

/// What was done here and why: the last 1,000 records in memory, and a file of at most 2 × 1 MiB that outlives the agent.
/// Kept for people: losing its last lines in a power cut costs nothing else.
struct ActionHistory: Sendable {
    static let limit = 1000
    private static let fileLimit = 1024 * 1024

    private let path: String
    private var records: [ActionRecord] = []
    private var nextNumber = 1
    private var fileBytes: Int

    init(directory: String) {
        path = directory + "/history.jsonl"
        var status = stat()
        fileBytes = stat(path, &status) == 0 ? Int(status.st_size) : 0
        for file in [path + ".previous", path] {
            records += ProcFile.lines(file, limit: 2 * Self.fileLimit).compactMap {
                try? JSONCoding.decode(ActionRecord.self, from: $0)
            }
        }
        records = records.suffix(Self.limit)
    }

    /// - Returns: the record with its number in this process.
    mutating func add(_ record: ActionRecord) -> ActionRecord {
        var record = record
        record.number = nextNumber
        nextNumber += 1
        if records.count >= 2 * Self.limit { records.removeFirst(Self.limit) }
        records.append(record)
        write(record)
        return record
    }

    /// Newest first.
    func last(_ count: Int, of workload: WorkloadID? = nil) -> [ActionRecord] {
        let own = records.reversed().lazy.filter { workload == nil || $0.workload == workload }
        return Array(own.prefix(min(count, Self.limit)))
    }

    private mutating func write(_ record: ActionRecord) {
        guard let line = try? JSONCoding.encodeText(record) + "\n" else { return }
        if fileBytes > Self.fileLimit {
            rename(path, path + ".previous")
            fileBytes = 0
        }
        let file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { return }
        defer { close(file) }
        // A full disk loses history, and nothing else.
        let bytes = Array(line.utf8)
        if Glibc.write(file, bytes, bytes.count) > 0 { fileBytes += bytes.count }
    }
}
