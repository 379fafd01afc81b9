import DockerEngine
import Foundation
import NIOCore
import NIOPosix
import Testing

/// The real parts that `scripts/test` started. A missing one is a failure, never a skip.
enum TestEnvironment {
    struct Missing: Error, CustomStringConvertible {
        var description: String
    }

    static let group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton

    static func variable(_ name: String) throws -> String {
        guard let value = ProcessInfo.processInfo.environment[name], !value.isEmpty else {
            throw Missing(description: "\(name) is not set: run these tests by `make test`, which starts a real Engine")
        }
        return value
    }

    static var engineText: String { get throws { try variable("BERTH_ENGINE") } }
    static var registry: String { get throws { try variable("BERTH_REGISTRY") } }

    static func engine() async throws -> DockerEngine {
        let endpoint = try #require(EngineEndpoint(try engineText))
        return try await DockerEngine.negotiate(endpoint, group: group)
    }

    /// On the server that `scripts/test` started.
    ///
    /// - Returns: its address, as a setting.
    static func newPostgresDatabase() async throws -> String {
        let server = try variable("BERTH_POSTGRES")
        let name = "e2e_" + UUID().uuidString.lowercased().replacing("-", with: "")
        let result = try await RunningProgram.run("/usr/bin/psql", [server, "-qc", "CREATE DATABASE \(name)"])
        guard result.status == 0 else { throw Missing(description: result.output) }
        return server.replacing("/postgres?", with: "/\(name)?")
    }

    static let packageRoot = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static func binary(_ name: String) throws -> String {
        let folder = ProcessInfo.processInfo.environment["BERTH_BINARIES"] ?? packageRoot.path + "/.build/debug"
        let path = folder + "/" + name
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw Missing(description: "\(path) is not built")
        }
        return path
    }
}

/// A folder that goes with its test.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "berth-test-" + UUID().uuidString.prefix(8).lowercased()
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        // With BERTH_KEEP_LOGS set, what the programs said stays for reading.
        guard ProcessInfo.processInfo.environment["BERTH_KEEP_LOGS"] == nil else { return }
        try? FileManager.default.removeItem(atPath: path)
    }

    func file(_ name: String) -> String { path + "/" + name }

    func text(_ name: String) -> String { (try? String(contentsOfFile: file(name), encoding: .utf8)) ?? "" }
}

/// Waits for something to become so, bounded; never for time to pass.
func eventually<Value>(
    _ what: String, within seconds: Double = 60, every milliseconds: Int = 50,
    sourceLocation: SourceLocation = #_sourceLocation, _ value: () async throws -> Value?
) async throws -> Value {
    let end = ContinuousClock.now + .seconds(seconds)
    while true {
        if let value = try await value() { return value }
        guard ContinuousClock.now < end else {
            Issue.record("\(what): not within \(seconds) s", sourceLocation: sourceLocation)
            throw TestEnvironment.Missing(description: what)
        }
        try await Task.sleep(for: .milliseconds(milliseconds))
    }
}

func untilTrue(
    _ what: String, within seconds: Double = 60, sourceLocation: SourceLocation = #_sourceLocation,
    _ holds: () async throws -> Bool
) async throws {
    _ = try await eventually(what, within: seconds, sourceLocation: sourceLocation) { try await holds() ? true : nil }
}
