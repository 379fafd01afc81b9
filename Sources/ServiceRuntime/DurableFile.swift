package import FoundationEssentials
import Glibc

/// A file that is either the old one or the new one, whatever happens in between.
package enum DurableFile {
    package struct Failure: Error, Sendable, CustomStringConvertible {
        package var doing: String
        package var path: String
        package var code: Int32
        package var description: String { "\(doing) \(path): \(String(cString: strerror(code)))" }
        package var isMissing: Bool { code == ENOENT }
    }

    /// Writes beside the file, syncs, renames over it, and syncs the folder: after this returns the content survives a
    /// power cut.
    package static func write(_ data: Data, to path: String, mode: UInt32 = 0o600) throws {
        let temporary = path + ".new"
        let file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard file >= 0 else { throw Failure(doing: "creating", path: temporary, code: errno) }
        do {
            defer { close(file) }
            guard fchmod(file, mode) == 0 else {
                throw Failure(doing: "setting the mode of", path: temporary, code: errno)
            }
            try data.withUnsafeBytes { bytes in
                var done = 0
                while done < bytes.count {
                    let count = Glibc.write(file, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { throw Failure(doing: "writing", path: temporary, code: errno) }
                    done += count
                }
            }
            guard fsync(file) == 0 else { throw Failure(doing: "syncing", path: temporary, code: errno) }
        } catch {
            unlink(temporary)
            throw error
        }
        guard Glibc.rename(temporary, path) == 0 else {
            let code = errno
            unlink(temporary)
            throw Failure(doing: "replacing", path: path, code: code)
        }
        try syncFolder(of: path)
    }

    /// - Parameter limit: bytes; a larger file is an error, not a large allocation.
    package static func read(_ path: String, limit: Int = 64 * 1024 * 1024) throws -> Data {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw Failure(doing: "opening", path: path, code: errno) }
        defer { close(file) }
        var result = Data()
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = Glibc.read(file, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Failure(doing: "reading", path: path, code: errno) }
            if count == 0 { return result }
            result.append(contentsOf: chunk[0..<count])
            guard result.count <= limit else { throw Failure(doing: "reading", path: path, code: EFBIG) }
        }
    }

    /// One line of text without its blanks around, as tokens are kept.
    package static func readSecret(_ path: String) throws -> String {
        let text = String(decoding: try read(path, limit: 64 * 1024), as: UTF8.self)
        return String(text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }

    package static func rename(_ old: String, to new: String) throws {
        guard Glibc.rename(old, new) == 0 else { throw Failure(doing: "renaming", path: old, code: errno) }
        try syncFolder(of: new)
    }

    /// Whether it was there or not.
    package static func remove(_ path: String) { unlink(path) }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Creates the folder and those above it.
    package static func createFolder(_ path: String, mode: UInt32 = 0o700) throws {
        var built = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            built += "/\(part)"
            if mkdir(built, mode) != 0, errno != EEXIST { throw Failure(doing: "creating", path: built, code: errno) }
        }
    }

    private static func syncFolder(of path: String) throws {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let file = open(folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard file >= 0 else { throw Failure(doing: "opening", path: folder, code: errno) }
        defer { close(file) }
        guard fsync(file) == 0 else { throw Failure(doing: "syncing", path: folder, code: errno) }
    }
}
