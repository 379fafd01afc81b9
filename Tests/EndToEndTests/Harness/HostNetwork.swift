import Foundation
import Testing

/// The network of the test host's Engine, a namespace of its own: what it publishes is there, and not at the addresses of
/// this process.
struct HostNetwork: Sendable {
    private let namespace: String

    init() throws {
        let socket = URL(fileURLWithPath: try TestEnvironment.engineText.replacing("unix://", with: ""))
        let folder = socket.deletingLastPathComponent().path
        let name = try String(contentsOfFile: folder + "/run/host", encoding: .utf8)
        namespace = "/run/netns/" + name.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// What a web server at 127.0.0.1 answers; nil where none does.
    func page(at port: Int) async throws -> String? {
        let result = try await inside([
            "curl", "-fsS", "--noproxy", "*", "--max-time", "5", "http://127.0.0.1:\(port)/",
        ])
        return result.status == 0 ? result.output : nil
    }

    /// - Parameter transport: `tcp` or `udp`.
    func isListening(at port: Int, _ transport: String = "tcp") async throws -> Bool {
        let result = try await inside(["ss", "-Hln", "--\(transport)", "sport = :\(port)"])
        try #require(result.status == 0, "\(result.output)")
        return !result.output.isEmpty
    }

    private func inside(_ command: [String]) async throws -> (status: Int32, output: String) {
        try await RunningProgram.run("/usr/bin/env", ["nsenter", "--net=\(namespace)"] + command)
    }
}
