import Foundation
import Synchronization
import Testing

/// A process of ours, with its output in a file.
final class RunningProgram: Sendable {
    private let process: Mutex<Process>
    let pid: Int32
    let outputPath: String

    init(_ path: String, _ arguments: [String], environment: [String: String] = [:], output: String) throws {
        #expect(FileManager.default.createFile(atPath: output, contents: nil))
        let handle = try #require(FileHandle(forWritingAtPath: output))
        try handle.seekToEnd()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        // Settings of the surrounding run must not leak into programs under test.
        var variables = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("BERTH_") }
        variables.merge(environment) { $1 }
        process.environment = variables
        process.standardOutput = handle
        process.standardError = handle
        process.standardInput = FileHandle.nullDevice
        try process.run()
        pid = process.processIdentifier
        self.process = Mutex(process)
        outputPath = output
    }

    deinit { if isRunning { kill(pid, SIGKILL) } }

    var isRunning: Bool { process.withLock { $0.isRunning } }
    var output: String { (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? "" }

    /// - Returns: the exit code, or the negative number of the signal.
    @discardableResult
    func ended(within seconds: Double = 30) async throws -> Int32 {
        try await eventually("process \(pid) ends", within: seconds, every: 20) {
            process.withLock { process in
                process.isRunning
                    ? nil
                    : (process.terminationReason == .uncaughtSignal
                        ? -process.terminationStatus : process.terminationStatus)
            }
        }
    }

    func signal(_ number: Int32) { kill(pid, number) }

    func killHard() async throws {
        kill(pid, SIGKILL)
        try await ended()
    }

    @discardableResult
    func terminate() async throws -> Int32 {
        kill(pid, SIGTERM)
        return try await ended()
    }

    /// Runs to its end.
    static func run(
        _ path: String, _ arguments: [String], environment: [String: String] = [:], within seconds: Double = 60
    ) async throws -> (status: Int32, output: String) {
        let file = NSTemporaryDirectory() + "berth-run-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: file) }
        let program = try RunningProgram(path, arguments, environment: environment, output: file)
        let status = try await program.ended(within: seconds)
        return (status, program.output)
    }
}
