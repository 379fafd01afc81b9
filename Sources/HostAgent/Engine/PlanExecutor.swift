import AgentCore
import BerthModel
import DockerEngine
import ServiceRuntime

/// Carries out one step. Decides nothing: what a call's answer means for the workload is decided from the next look.
package struct PlanExecutor: Sendable {
    let agent: AgentID
    let link: EngineLink
    let puller: ImagePuller
    let network = IsolatedNetwork()
    let resolver: ResolverFile
    let setUps: SetUpRunner
    let ledger: ImageLedger

    init(
        agent: AgentID, link: EngineLink, resolver: ResolverFile, setUps: SetUpRunner, puller: ImagePuller,
        ledger: ImageLedger
    ) {
        self.agent = agent
        self.link = link
        self.resolver = resolver
        self.setUps = setUps
        self.puller = puller
        self.ledger = ledger
    }

    typealias Progress = @Sendable (_ done: Int, _ total: Int, _ message: String?) async -> Void

    /// - Parameter progress: bytes of a pull, percent of a set-up.
    func run(
        _ step: Step, progress: @escaping Progress
    ) async -> StepOutcome {
        do {
            let result = try await perform(step, progress)
            return StepOutcome(step: step, result: result)
        } catch let error as EngineError {
            await link.failed(error)
            return StepOutcome(step: step, result: StepResults.result(of: step.action, error))
        } catch let failure as ProgramFailure {
            return StepOutcome(
                step: step,
                result: .failed(
                    StepFailure(reason: "image_unauthorized", message: "\(failure)", isPermanent: false)))
        } catch let failure as DurableFile.Failure {
            return StepOutcome(
                step: step,
                result: .failed(
                    StepFailure(
                        // A pull reads credentials and writes nothing.
                        reason: step.action.stage == .pulling ? "image_unauthorized" : "state_unwritable",
                        message: "\(failure)", isPermanent: false)))
        } catch {
            return StepOutcome(step: step, result: .cancelled)
        }
    }

    private func perform(
        _ step: Step, _ progress: @escaping Progress
    ) async throws -> StepOutcome.Result {
        let engine = try await link.engine()
        switch step.action {
        case .pull(let image):
            try await puller.pull(image) { done, total in await progress(done, total, nil) }
        case .create(let order):
            try await network.ensure(engine)
            let isSandboxed = order.spec.runtime.name == RuntimeChoice.gvisor && order.fellBackTo == nil
            let specification = ContainerTemplate.specification(
                order, agent: agent, resolverFile: isSandboxed ? try resolver.current() : nil)
            do {
                _ = try await engine.createContainer(name: order.name, specification)
                await ledger.used(order.spec.image)
            } catch let error as EngineError where error.status == 409 {
                guard try await isOurs(order, engine) else { throw error }
                return .superseded
            }
        case .start(let id): try await start(id, engine)
        case .stop(let id, let graceSeconds):
            try await engine.stopContainer(id.text, graceSeconds: graceSeconds)
        case .update(let id, let limits):
            try await engine.updateContainer(
                id.text,
                ContainerChange(memory: limits.memory, nanoCPUs: limits.nanoCPUs, pidsLimit: limits.pids))
        case .connect(let id):
            try await connect(id, engine)
        case .setUp(let id, let setUp): return try await setUps.run(setUp, of: step.workload, in: id, engine, progress)
        case .endProcesses(let id):
            return await endProcesses(of: id)
        case .removeVolume(let name): try await engine.removeVolume(name)
        case .remove(let id):
            try await engine.removeContainer(id.text)
            // The Engine can answer 204 while processes of the container live on and write.
            return await endProcesses(of: id)
        }
        return .succeeded
    }

    private func start(_ id: EngineContainerID, _ engine: DockerEngine) async throws {
        // A container may have it mounted: without the file the Engine would put a folder there.
        _ = try? resolver.current()
        do {
            try await engine.startContainer(id.text)
        } catch let error as EngineError where error.status == 404 && error.message.contains("network") {
            // Its network, and not itself, is gone.
            await network.forget()
            try await network.ensure(engine)
            try await engine.startContainer(id.text)
        }
    }

    private func endProcesses(of id: EngineContainerID) async -> StepOutcome.Result {
        let left = await ContainerProcesses().end(id.text)
        guard !left.isEmpty else { return .succeeded }
        return .failed(
            StepFailure(
                reason: "processes_left",
                message: "processes \(left.map(String.init).joined(separator: ", ")) of container"
                    + " \(id.text.prefix(12)) cannot be ended; end them on the host", isPermanent: false))
    }

    private func connect(_ id: EngineContainerID, _ engine: DockerEngine) async throws {
        let mode = try await engine.inspectContainer(id.text).hostConfiguration.networkMode ?? "default"
        try await engine.connectNetwork(mode == "default" ? "bridge" : mode, container: id.text)
    }

    /// A name that is taken is taken by ourselves where an earlier call was made whose answer never came.
    private func isOurs(_ order: ContainerOrder, _ engine: DockerEngine) async throws -> Bool {
        let details = try await engine.inspectContainer(order.name)
        let identity = ContainerLabels.identity(
            details.configuration.labels ?? [:], names: [details.name], agent: agent)
        return identity?.workload == order.workload && identity?.fingerprint == order.spec.fingerprint
    }
}

/// What an error of the Engine means for a step.
enum StepResults {
    static func result(of action: Step.Action, _ error: EngineError) -> StepOutcome.Result {
        switch (action, error.kind) {
        case (_, .unreachable): .superseded
        case (.stop, .refused(404)), (.remove, .refused(404)), (.removeVolume, .refused(404)): .succeeded
        // Gone, or it runs no more.
        case (.setUp, .refused(404)), (.setUp, .refused(409)), (.setUp, .cutOff): .superseded
        case (.start, .refused(404)), (.update, .refused(404)), (.connect, .refused(404)): .superseded
        // Connected already.
        case (.connect, .refused(403)): .superseded
        case (.remove, .refused(409)): .superseded
        default: .failed(failure(of: action, error))
        }
    }

    private static func failure(of action: Step.Action, _ error: EngineError) -> StepFailure {
        var (reason, isPermanent): (String, Bool)
        switch action {
        case .pull: (reason, isPermanent) = pullReason(error)
        case .create: (reason, isPermanent) = ("create_failed", error.status == 400)
        case .start: (reason, isPermanent) = ("start_failed", false)
        case .stop: (reason, isPermanent) = ("stop_failed", false)
        case .update: (reason, isPermanent) = ("update_failed", false)
        case .connect: (reason, isPermanent) = ("connect_failed", false)
        case .setUp: (reason, isPermanent) = ("set_up_failed", false)
        case .endProcesses: (reason, isPermanent) = ("processes_left", false)
        case .remove: (reason, isPermanent) = ("remove_failed", false)
        // In use, by a container that is not ours.
        case .removeVolume: (reason, isPermanent) = ("volume_remove_failed", false)
        }
        if error.message.lowercased().contains("no space left on device") { reason = "disk_full" }
        var message = error.description
        if case .start = action, let port = takenPort(error.message) {
            reason = "port_taken"
            message = "port \(port) of this host is taken; \(message)"
        }
        return StepFailure(
            reason: error.kind == .timedOut ? "\(reason)_timeout" : reason,
            message: String(message.prefix(1000)),
            isPermanent: isPermanent, mayHaveHappened: error.mayHaveHappened, timedOut: error.kind == .timedOut)
    }

    /// The number in the Engine's `Bind for 0.0.0.0:8080 failed: port is already allocated` (by another container) or `listen
    /// tcp4 0.0.0.0:8080: bind: address already in use` (by another program); nil in all else that it says.
    private static func takenPort(_ words: String) -> Int? {
        guard words.contains("port is already allocated") || words.contains("address already in use") else {
            return nil
        }
        let numbers = words.split(separator: ":").dropFirst().compactMap {
            Int($0.prefix { $0.isASCII && $0.isNumber })
        }
        return numbers.first { PublishedPort.range.contains($0) }
    }

    private static func pullReason(_ error: EngineError) -> (String, Bool) {
        let words = error.message.lowercased()
        func says(_ some: String...) -> Bool { some.contains { words.contains($0) } }
        if error.message.hasPrefix(ImagePuller.lowDiskWords) { return ("disk_low", false) }
        if says("unauthorized", "authentication required", "access denied", "no basic auth", "forbidden", "denied") {
            return ("image_unauthorized", false)
        }
        if says("no matching manifest", "does not match the specified platform") {
            return ("image_wrong_platform", true)
        }
        if says(
            "verification failed", "does not match digest", "unexpected digest", "invalid checksum", "digest mismatch")
        {
            return ("image_corrupt", false)
        }
        if says("toomanyrequests", "too many requests", "status: 429") { return ("registry_busy", false) }
        if error.status == 400 || words.contains("invalid reference") { return ("image_reference_invalid", true) }
        if error.status == 404 || words.contains("not found") || words.contains("manifest unknown")
            || words.contains("does not exist")
        {
            return ("image_not_found", false)
        }
        return ("image_pull_failed", false)
    }
}
