import AgentCore
import BerthModel
import DockerEngine
import NIOCore

/// Runs the scripts of a role and of the shell in a container. They are written to the input of a shell there, so that no
/// file of ours need be in it; `common.sh` says what they read and what they print.
struct SetUpRunner: Sendable {
    /// From the agent's configuration: mirrors, proxies, versions.
    let environment: [String: String]

    private static let deadline = Duration.seconds(600)
    private static let anotherIsUnderWay = 75

    /// - Parameter workload: whose volume is the home.
    func run(
        _ setUp: SetUp, of workload: WorkloadID, in container: EngineContainerID, _ engine: DockerEngine,
        _ progress: @escaping PlanExecutor.Progress
    ) async throws -> StepOutcome.Result {
        let details = try await engine.inspectContainer(container.text)
        let home = details.mounts.first { $0.name == VolumeMount.name(for: workload) }?.destination
        let variables = environment.merging(["BERTH_HOME": home ?? "/root"]) { $1 }.merging(setUp.environment) { $1 }
        let exec = try await engine.createExec(
            container.text,
            DockerEngine.ExecOrder(
                command: ["/bin/sh", "-s"], environment: variables.keys.sorted().map { "\($0)=\(variables[$0] ?? "")" },
                user: "0", attachesInput: true))
        let late = EngineError(
            kind: .timedOut, call: "set-up", object: container.text, message: "not done after \(Self.deadline)")
        let said: Transcript
        do {
            said = try await withDeadline(Self.deadline, else: late) {
                try await Self.converse(exec, Self.script(of: setUp), engine, progress)
            }
        } catch let error as EngineError where error == late {
            await Self.end(exec, container, engine)
            return .failed(Self.failure("the set-up did not end within \(Self.deadline)"))
        } catch is CancellationError {
            await Task { await Self.end(exec, container, engine) }.value
            throw CancellationError()
        }
        // The stream can end a moment before the Engine knows the exit code.
        var code = try await engine.inspectExec(exec).exitCode
        for _ in 0..<50 where code == nil {
            try await Task.sleep(for: .milliseconds(100))
            code = try await engine.inspectExec(exec).exitCode
        }
        let now = try await engine.inspectContainer(container.text)
        // The container ended under it: what then runs is looked at again.
        guard now.state.status == "running", now.state.startedAt == details.state.startedAt else {
            // With its memory gone under a sandbox the whole container ends: without the role it runs.
            return now.state.isOutOfMemory
                ? .failed(Self.failure("the container's memory is too small for the set-up")) : .superseded
        }
        guard let code else { return .superseded }
        if code == Self.anotherIsUnderWay {
            return .failed(
                StepFailure(
                    reason: "set_up_under_way", message: "an earlier set-up of this container has not ended",
                    isPermanent: false))
        }
        if code == 137 { return .failed(Self.failure("the set-up was killed; perhaps its memory is too small for it")) }
        if code == 0, said.isComplete { return .succeeded }
        return .failed(Self.failure(said.error ?? "the set-up ended with \(code): \(said.lastWords)"))
    }

    /// Closing the connection does not end the shell and what it started: they would hold the lock of the next set-up.
    private static func end(_ exec: String, _ container: EngineContainerID, _ engine: DockerEngine) async {
        guard let pid = try? await engine.inspectExec(exec).pid, pid > 0 else { return }
        ContainerProcesses.killTree(pid, of: container.text)
    }

    /// Nothing that trying again at once would help.
    private static func failure(_ message: String) -> StepFailure {
        StepFailure(reason: "role_error", message: String(message.prefix(900)), isPermanent: true)
    }

    private static func converse(
        _ exec: String, _ script: [UInt8], _ engine: DockerEngine, _ progress: @escaping PlanExecutor.Progress
    ) async throws -> Transcript {
        let channel = try await engine.startExec(exec, allocatesTTY: false)
        return try await channel.executeThenClose { inbound, outbound in
            try await outbound.write(ByteBuffer(bytes: script))
            let processor = NIOSingleStepByteToMessageProcessor(LogFrameDecoder())
            var transcript = Transcript()
            for try await bytes in inbound {
                var steps: [(percent: Int, message: String)] = []
                try processor.process(buffer: bytes) { steps += transcript.heard($0) }
                for step in steps { await progress(step.percent, 100, step.message) }
            }
            return transcript
        }
    }

    static func script(of setUp: SetUp) -> [UInt8] {
        var script = PackageResources.common_sh
        switch setUp.role {
        case .node: script += PackageResources.role_node_sh
        case .python: script += PackageResources.role_python_sh
        case .go: script += PackageResources.role_go_sh
        case .rust: script += PackageResources.role_rust_sh
        case .devops: script += PackageResources.role_devops_sh
        case .barebone: script += PackageResources.role_barebone_sh
        case nil: break
        }
        if setUp.isShellWanted { script += PackageResources.shell_sh }
        // The shell ends although its input stays open.
        return script + Array("\nexit 0\n".utf8)
    }

    /// What the scripts print. Bounded: a set-up can print without end.
    struct Transcript {
        private var rest: [Bool: [UInt8]] = [:]
        private(set) var isComplete = false
        private(set) var error: String?
        /// The last line on standard error.
        private(set) var lastWords = ""
        private static let longestLine = 4096

        /// - Returns: the progress that was told.
        mutating func heard(_ chunk: OutputChunk) -> [(percent: Int, message: String)] {
            let isError = chunk.stream == .standardError
            var found: [(Int, String)] = []
            var line = rest[isError] ?? []
            for byte in chunk.bytes.readableBytesView {
                if byte == UInt8(ascii: "\n") {
                    let text = String(decoding: line, as: UTF8.self)
                    line = []
                    if let step = read(text, isError: isError) { found.append(step) }
                } else if line.count < Self.longestLine {
                    line.append(byte)
                }
            }
            rest[isError] = line
            return found
        }

        private mutating func read(_ line: String, isError: Bool) -> (Int, String)? {
            if isError {
                if line.hasPrefix("berth-error: ") { error = String(line.dropFirst("berth-error: ".count)) }
                if !line.isEmpty { lastWords = line }
                return nil
            }
            guard line.hasPrefix("berth: ") else { return nil }
            let words = line.split(separator: " ", maxSplits: 2)
            guard words.count == 3, let percent = Int(words[1]), (0...100).contains(percent) else { return nil }
            isComplete = percent == 100
            return (percent, String(words[2]))
        }
    }
}
