import CServiceRuntime
import Glibc

/// The process around a program.
package enum ProgramEnvironment {
    package static func variables() -> [String: String] {
        var result: [String: String] = [:]
        var entry = environ
        while let pointer = entry.pointee {
            let text = String(cString: pointer)
            if let equals = text.firstIndex(of: "=") {
                result[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            entry += 1
        }
        return result
    }

    /// Gives back what a large decode left unused.
    package static func releaseUnusedMemory() { _ = berth_release_unused_memory() }

    package static func printError(_ text: String) {
        let line = Array((text + "\n").utf8)
        _ = write(2, line, line.count)
    }

    /// Prints and flushes: output to a pipe is otherwise kept back.
    package static func printLine(_ text: String) {
        let line = Array((text + "\n").utf8)
        var done = 0
        while done < line.count {
            let count = line[done...].withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            done += count
        }
    }
}
