import BerthModel
import DockerEngine
import Logging
import ServiceRuntime

/// Finds out by real starts what the runtimes of this host can do: a name in the Engine's list proves nothing. The
/// containers of a probe have no network, no rights and no volume, and are gone when it ends; what a crash leaves of them
/// is removed by the next one.
struct RuntimeProbe: Sendable {
    let agent: AgentID
    let link: EngineLink
    let log: Logger

    static let label = "berth.probe"
    static let repository = "berth-probe"
    /// A sandbox that takes longer to start does not work.
    private static let deadline = Duration.seconds(10)
    /// MiB: less than the program writes.
    private static let diskMB = 16

    /// - Parameters:
    ///   - runtimes: Engine runtime by name.
    ///   - found: called for each as soon as it is known: one that hangs holds up no other.
    /// - Throws: where the Engine cannot be asked at all.
    func run(
        for runtimes: [String: String], found: @escaping @Sendable (RuntimeFinding) async -> Void
    ) async throws {
        let engine = try await link.engine()
        guard let archive = ProbeProgram.archive else {
            // Nothing to start on this processor: the Engine's word must do.
            for name in runtimes.keys.sorted() {
                await found(
                    RuntimeFinding(
                        name: name, engineRuntime: runtimes[name] ?? name, works: true,
                        diskProblem: "disk limits are not probed on this processor"))
            }
            return
        }
        let image = "\(Self.repository):\(ProbeProgram.version)"
        do {
            _ = try await engine.inspectImage(image)
        } catch let error as EngineError where error.status == 404 {
            try await engine.importImage(tar: archive, repository: Self.repository, tag: ProbeProgram.version)
        }
        try await removeLeftovers(engine)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (name, engineRuntime) in runtimes {
                group.addTask { await found(try await probe(name, engineRuntime, image, engine)) }
            }
            try await group.waitForAll()
        }
    }

    private func probe(
        _ name: String, _ engineRuntime: String, _ image: String, _ engine: DockerEngine
    ) async throws -> RuntimeFinding {
        var finding = RuntimeFinding(name: name, engineRuntime: engineRuntime)
        let trial = Trial(probe: self, engine: engine, image: image, runtime: engineRuntime)
        do {
            let code = try await trial.run("start", ProbeProgram.end)
            guard code == ProbeProgram.ended else {
                finding.problem = "a first program ended with \(code) and not with \(ProbeProgram.ended)"
                return finding
            }
            finding.works = true
        } catch let error as EngineError {
            if [.unreachable, .cutOff].contains(error.kind) { throw error }
            finding.problem = String(error.description.prefix(500))
            return finding
        }
        async let live = trial.changesLimitsLive()
        async let disk = trial.diskProblem()
        finding.changesLimitsLive = try await live
        finding.diskProblem = try await disk
        finding.enforcesDisk = finding.diskProblem == nil
        return finding
    }

    private func removeLeftovers(_ engine: DockerEngine) async throws {
        // Looked at again: what is removed by force here must be nobody's but ours, whatever the filter did.
        for left in try await engine.listContainers(filters: ["label": ["\(Self.label)=\(agent)"]])
        where left.labels[Self.label] == agent.text {
            try? await engine.removeContainer(left.id, force: .killFirst)
        }
    }

    /// Containers of one runtime's probe.
    private struct Trial: Sendable {
        let probe: RuntimeProbe
        let engine: DockerEngine
        let image: String
        let runtime: String

        /// - Returns: the exit code.
        func run(_ name: String, _ command: [String], diskMB: Int? = nil) async throws -> Int {
            try await with(name, command, diskMB: diskMB) { id in
                try await engine.waitContainer(id, deadline: RuntimeProbe.deadline)
            }
        }

        /// A limit is changed while the program runs, and the kernel is asked for it.
        func changesLimitsLive() async throws -> Bool {
            let wanted = 160 * 1024 * 1024
            do {
                return try await with("live", ProbeProgram.wait) { id in
                    try await engine.updateContainer(
                        id, ContainerChange(memory: wanted, nanoCPUs: 500_000_000, pidsLimit: 100))
                    let pid = try await engine.inspectContainer(id).state.pid
                    // What is not to be seen from here is taken on the Engine's word.
                    return ContainerProcesses.memoryLimit(ofProcess: pid).map { $0 == wanted } ?? true
                }
            } catch let error as EngineError where ![.unreachable, .cutOff].contains(error.kind) {
                return false
            }
        }

        /// Nil where a write over the limit failed.
        func diskProblem() async throws -> String? {
            do {
                switch try await run("disk", ProbeProgram.write, diskMB: RuntimeProbe.diskMB) {
                case ProbeProgram.writeFailed: return nil
                case ProbeProgram.couldWriteAll:
                    return "the Engine takes a disk limit, and a write over it goes through"
                case let code: return "the disk limit could not be tried (\(code))"
                }
            } catch let error as EngineError where ![.unreachable, .cutOff].contains(error.kind) {
                return String(error.message.prefix(300))
            }
        }

        private func with<Result: Sendable>(
            _ name: String, _ command: [String], diskMB: Int? = nil,
            _ body: @escaping @Sendable (String) async throws -> Result
        ) async throws -> Result {
            var host = ContainerSpecification.HostConfiguration()
            host.runtime = runtime
            host.memory = 128 * 1024 * 1024
            host.memorySwap = host.memory
            host.pidsLimit = 128
            host.capDrop = ["ALL"]
            host.securityOptions = ["no-new-privileges"]
            host.networkMode = "none"
            host.storageOptions = diskMB.map { ["size": "\($0)m"] }
            let specification = ContainerSpecification(
                image: image, command: command, labels: [RuntimeProbe.label: probe.agent.text], host: host)
            let id = try await engine.createContainer(
                name: "berth-probe-\(probe.agent.text.prefix(8))-\(runtime)-\(name)", specification
            ).id
            let result: Swift.Result<Result, any Error>
            do {
                let late = EngineError(
                    kind: .timedOut, call: "probe", object: runtime,
                    message: "no answer after \(RuntimeProbe.deadline)")
                result = .success(
                    try await withDeadline(RuntimeProbe.deadline, else: late) {
                        try await engine.startContainer(id)
                        return try await body(id)
                    })
            } catch {
                result = .failure(error)
            }
            // Also where this task is cancelled: a probe that is interrupted still clears up. What hangs is cleared up
            // while its finding is told.
            let hangs = if case .failure(let error as EngineError) = result { error.kind == .timedOut } else { false }
            let clearing = Task {
                if hangs { _ = await ContainerProcesses().end(id) }
                do {
                    try await engine.removeContainer(id, force: .killFirst)
                } catch {
                    probe.log.warning("a probe's container cannot be removed", metadata: ["error": "\(error)"])
                }
            }
            if !hangs { await clearing.value }
            return try result.get()
        }
    }
}
