import Glibc

/// Keeps a second process out of a folder for as long as this one lives. The kernel releases it with the process.
package final class FolderLock: Sendable {
    private let file: Int32

    package enum Failure: Error, Sendable {
        /// Another process holds it; its pid where it could be read.
        case held(by: Int?)
        case unusable(DurableFile.Failure)
    }

    package init(path: String) throws(Failure) {
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw .unusable(.init(doing: "opening", path: path, code: errno)) }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            var text = [UInt8](repeating: 0, count: 32)
            let count = max(0, pread(file, &text, text.count, 0))
            close(file)
            throw .held(by: Int(String(decoding: text[0..<count].prefix { $0 != 10 }, as: UTF8.self)))
        }
        let pid = Array("\(getpid())\n".utf8)
        ftruncate(file, 0)
        _ = pwrite(file, pid, pid.count, 0)
        self.file = file
    }

    deinit { close(file) }
}
