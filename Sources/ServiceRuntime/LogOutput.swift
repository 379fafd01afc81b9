import Glibc
package import Logging

/// One line per fact to standard error: with journal priorities under systemd, with the time elsewhere, or as JSON.
package struct LogOutput: LogHandler {
    package enum Format: String, Sendable, CaseIterable {
        case text
        case json
        /// `<6>` priorities, which the journal reads; no time, which it adds.
        case journal
    }

    private let format: Format
    private let label: String
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]

    package init(label: String, format: Format, level: Logger.Level) {
        self.label = label
        self.format = format
        logLevel = level
    }

    /// Makes every logger of the process write this way. Once per process.
    package static func bootstrap(format: Format, level: Logger.Level) {
        LoggingSystem.bootstrap { LogOutput(label: $0, format: format, level: level) }
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var facts = metadata
        if let more = event.metadata { facts.merge(more) { $1 } }
        var line = text(event.level, event.message.description, facts)
        line.append(UInt8(ascii: "\n"))
        _ = Glibc.write(2, line, line.count)
    }

    private func text(_ level: Logger.Level, _ message: String, _ facts: Logger.Metadata) -> [UInt8] {
        let pairs = facts.keys.sorted().map { ($0, facts[$0].map { "\($0)" } ?? "") }
        switch format {
        case .journal:
            return Array("<\(Self.priority(level))>\(message)\(Self.joined(pairs))".utf8)
        case .text:
            return Array("\(Self.time()) \(level.rawValue) \(message)\(Self.joined(pairs))".utf8)
        case .json:
            var fields = ["time": Self.time(), "level": level.rawValue, "message": message, "logger": label]
            for (key, value) in pairs { fields[key] = value }
            return (try? JSONCoding.encode(fields)).map(Array.init) ?? Array(message.utf8)
        }
    }

    /// A value with blanks, quotes or control characters is quoted, so that a hostile one cannot fake a second line.
    private static func joined(_ pairs: [(String, String)]) -> String {
        pairs.map { key, value in
            let isPlain =
                !value.isEmpty && value.unicodeScalars.allSatisfy { $0.value > 32 && $0 != "\"" && $0.value != 127 }
            return isPlain ? " \(key)=\(value)" : " \(key)=\(value.debugDescription)"
        }.joined()
    }

    private static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }

    private static func time() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Timestamp.text(seconds: Double(now.tv_sec) + Double(now.tv_nsec) / 1e9, fractionDigits: 3)
    }
}
