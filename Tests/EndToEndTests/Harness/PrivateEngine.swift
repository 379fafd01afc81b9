import DockerEngine
import Foundation
import Testing

/// A whole Engine of its own for one test, which may kill it, fill its disk, or let a start hang.
final class PrivateEngine: Sendable {
    let folder: String
    let endpoint: String
    private static let script = TestEnvironment.packageRoot.path + "/scripts/test-host"

    init(_ options: [String] = []) async throws {
        // The path of a Unix socket has at most 107 bytes.
        folder = "/tmp/berth-engine-" + UUID().uuidString.prefix(8).lowercased()
        let result = try await RunningProgram.run(Self.script, ["up", folder] + options, within: 120)
        try #require(result.status == 0, "\(result.output)")
        endpoint = "unix://\(folder)/docker.sock"
    }

    /// For calls of the test itself.
    func engine() async throws -> DockerEngine {
        try await DockerEngine.negotiate(try #require(EngineEndpoint(endpoint)), group: TestEnvironment.group)
    }

    /// `kill`, `stop`, `start` or `reboot`.
    func engine(_ what: String) async throws {
        let result = try await RunningProgram.run(Self.script, ["engine", what, folder], within: 120)
        try #require(result.status == 0, "\(what): \(result.output)")
    }

    /// Starts under the runtime `hang` do not return while this is so.
    ///
    /// - Parameter evenKilled: not even when the processes in the container's cgroup are killed.
    func letStartsHang(_ hang: Bool, evenKilled: Bool = false) throws {
        let file = folder + "/run/hang"
        if hang {
            try (evenKilled ? "word" : "").write(toFile: file, atomically: true, encoding: .utf8)
        } else {
            try FileManager.default.removeItem(atPath: file)
        }
    }

    /// Leaves nothing behind, and says so if that fails.
    func down() async throws {
        let result = try await RunningProgram.run(Self.script, ["down", folder], within: 120)
        #expect(result.status == 0, "\(result.output)")
        #expect(!FileManager.default.fileExists(atPath: folder))
    }
}
