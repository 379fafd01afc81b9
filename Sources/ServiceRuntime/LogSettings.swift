package import Logging

/// Level and format of the log, the same for both programs.
package struct LogSettings: Hashable, Sendable {
    package var level: Logger.Level
    package var format: LogOutput.Format

    package init(level: Logger.Level, format: LogOutput.Format) {
        self.level = level
        self.format = format
    }

    package init(from settings: inout SettingsReader, environment: [String: String]) {
        let levels = Logger.Level.allCases.map(\.rawValue)
        let level = settings.text("log_level", default: "info", expected: "one of \(levels.joined(separator: ", "))") {
            levels.contains($0)
        }
        let formats = LogOutput.Format.allCases.map(\.rawValue)
        let usual = environment["JOURNAL_STREAM"] == nil ? LogOutput.Format.text : .journal
        let format = settings.text(
            "log_format", default: usual.rawValue, expected: "one of \(formats.joined(separator: ", "))"
        ) { formats.contains($0) }
        self.init(level: Logger.Level(rawValue: level) ?? .info, format: LogOutput.Format(rawValue: format) ?? usual)
    }
}
