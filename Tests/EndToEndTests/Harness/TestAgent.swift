import DockerEngine
import Foundation
import NIOCore
import ServiceRuntime
import Testing

/// An agent as a process of its own, with its state in a folder.
actor TestAgent {
    let folder: TemporaryFolder
    nonisolated let configPath: String
    nonisolated let id: String
    private(set) var program: RunningProgram?
    private var starts = 0

    /// - Parameter engine: another than the common one.
    init(_ controlPlane: TestControlPlane, name: String, engine: String? = nil) async throws {
        folder = try TemporaryFolder()
        configPath = folder.file("agent.json")
        let port = await controlPlane.port
        let result = try await RunningProgram.run(
            try TestEnvironment.binary("berth-agent"),
            [
                "register", "--server", "http://127.0.0.1:\(port)", "--token-file",
                controlPlane.folder.file("admin-token"),
                "--name", name, "--config", configPath, "--json",
            ],
            environment: [
                "BERTH_ENGINE": try engine ?? TestEnvironment.engineText, "BERTH_STATE_DIRECTORY": folder.file("state"),
            ])
        #expect(result.status == 0, "\(result.output)")
        id = try #require(try JSONCoding.decode(JSONValue.self, from: result.output)["id"]?.text)
    }

    /// Of a control plane that registers nobody.
    ///
    /// - Parameter policy: of the host's owner, as in the configuration.
    init(serverPort: Int, policy: String = "{}") throws {
        folder = try TemporaryFolder()
        id = UUID().uuidString.lowercased()
        configPath = folder.file("agent.json")
        try "token".write(toFile: folder.file("token"), atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: folder.file("token"))
        try """
        {"agent":{"server":"http://127.0.0.1:\(serverPort)","agent_id":"\(id)","token_file":"\(folder.file("token"))",
         "engine":"\(try TestEnvironment.engineText)","state_directory":"\(folder.file("state"))","policy":\(policy)}}
        """.write(toFile: configPath, atomically: true, encoding: .utf8)
    }

    /// The same identity in another folder, as after the copy of a disk.
    init(copyOf other: TestAgent) throws {
        folder = try TemporaryFolder()
        id = other.id
        configPath = folder.file("agent.json")
        try FileManager.default.createDirectory(atPath: folder.file("state"), withIntermediateDirectories: true)
        for file in ["desired.json", "memory.json"]
        where FileManager.default.fileExists(atPath: "\(other.stateFolder)/\(file)") {
            try FileManager.default.copyItem(
                atPath: "\(other.stateFolder)/\(file)", toPath: folder.file("state/\(file)"))
        }
        try FileManager.default.copyItem(atPath: other.configPath + ".token", toPath: configPath + ".token")
        let text = try String(contentsOfFile: other.configPath, encoding: .utf8)
        try text.replacingOccurrences(of: other.folder.path, with: folder.path)
            .write(toFile: configPath, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: configPath)
    }

    /// - Parameter settings: more of them, as environment variables.
    func start(_ settings: [String: String] = [:]) throws {
        starts += 1
        program = try RunningProgram(
            try TestEnvironment.binary("berth-agent"), ["run", "--config", configPath],
            environment: ["BERTH_SAMPLE_SECONDS": "1", "BERTH_RELIST_SECONDS": "5"].merging(settings) { $1 },
            output: folder.file("agent-\(starts).log"))
    }

    nonisolated var stateFolder: String { folder.file("state") }

    /// Runs a command of berth-agent that answers in JSON.
    nonisolated func ask(_ arguments: String...) async throws -> JSONValue {
        let result = try await RunningProgram.run(
            try TestEnvironment.binary("berth-agent"), arguments + ["--json", "--config", configPath])
        guard result.status == 0 else {
            throw TestEnvironment.Missing(description: "\(arguments): \(result.output)")
        }
        return try JSONCoding.decode(JSONValue.self, from: result.output)
    }

    func killHard() async throws { try await program?.killHard() }
    func stop() async throws { #expect(try await program?.terminate() == 0) }
    var output: String { program?.output ?? "" }

    nonisolated func status() async throws -> JSONValue { try await ask("status") }

    /// Containers that carry this agent's label, whatever their state.
    nonisolated func containers(_ engine: DockerEngine) async throws -> [ContainerSummary] {
        try await engine.listContainers(filters: ["label": ["berth.agent=\(id)"]])
    }

    /// Leaves nothing of this agent behind, and says so if that fails.
    func cleanUp(_ other: DockerEngine? = nil) async throws {
        if let program, program.isRunning { try await program.terminate() }
        let engine: DockerEngine
        if let other { engine = other } else { engine = try await TestEnvironment.engine() }
        for container in try await containers(engine) {
            try await engine.removeContainer(container.id, force: .killFirst)
        }
        // Of a probe in which it was killed: its next start would have removed them.
        for container in try await engine.listContainers(filters: ["label": ["berth.probe=\(id)"]]) {
            try? await engine.removeContainer(container.id, force: .killFirst)
        }
        for volume in try await engine.listVolumes(filters: ["label": ["berth.agent=\(id)"]]) {
            try await engine.removeVolume(volume.name)
        }
        #expect(try await containers(engine).isEmpty)
        #expect(try await engine.listVolumes(filters: ["label": ["berth.agent=\(id)"]]).isEmpty)
    }
}

extension DockerEngine {
    /// Runs a command in a container and gives its output; fails where it fails.
    func run(_ command: String, in container: String) async throws -> String {
        let exec = try await createExec(container, ExecOrder(command: ["sh", "-c", command]))
        let channel = try await startExec(exec, allocatesTTY: false)
        let output = try await channel.executeThenClose { inbound, _ in
            let processor = NIOSingleStepByteToMessageProcessor(LogFrameDecoder())
            var text = ""
            for try await bytes in inbound {
                try processor.process(buffer: bytes) {
                    text += String(decoding: $0.bytes.readableBytesView, as: UTF8.self)
                }
            }
            return text
        }
        let details = try await inspectExec(exec)
        #expect(details.exitCode == 0, "\(command): \(output)")
        return output
    }

    func pullQuietly(_ image: String) async throws { try await pullImage(image) { _ in } }

    func removeImageIfThere(_ image: String) async throws {
        do {
            try await removeImage(image)
        } catch let error as EngineError where error.status == 404 {}
    }
}
