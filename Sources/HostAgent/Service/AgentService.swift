import AgentCore
import BerthModel
import DockerEngine
import FoundationEssentials
import Glibc
package import Logging
package import NIOCore
import ServiceLifecycle
package import ServiceRuntime

/// The agent as a whole: built once from its configuration, run until it is told to stop. Stopping it touches no workload.
package struct AgentService: Service {
    private let configuration: AgentConfiguration
    private let manager: ServiceManager
    private let lock: FolderLock
    private let link: EngineLink
    private let observer: HostObserver
    private let loop: ReconcileLoop
    private let watch: EngineEventWatch
    private let sampler: ActivitySampler
    private let layers: WritableLayerWatch
    private let volumes: VolumeWatch
    private let controlPlane: ControlPlaneLink
    private let group: any EventLoopGroup
    private let log: Logger

    /// - Throws: `ProgramFailure` where the state directory cannot be used or another agent holds it.
    package init(
        _ configuration: AgentConfiguration, manager: ServiceManager, group: any EventLoopGroup, log: Logger
    ) throws {
        self.configuration = configuration
        self.manager = manager
        self.group = group
        self.log = log
        lock = try Self.lock(configuration.stateDirectory)

        let time = MonotonicTime()
        let eventLoop = group.next()
        let facts = HostFacts(stateDirectory: configuration.stateDirectory)
        let store = DesiredStateStore(directory: configuration.stateDirectory, agent: configuration.agent)
        let mailbox = OutgoingMailbox(time: time, eventLoop: eventLoop)
        var deadlines = DockerEngine.Deadlines()
        deadlines.start = .seconds(configuration.startTimeoutSeconds)
        link = EngineLink(endpoint: configuration.engine, group: group, deadlines: deadlines, log: log)
        let doorbell = Doorbell()
        observer = HostObserver(
            agent: configuration.agent, link: link, runtimeNames: configuration.runtimes,
            startDeadline: .seconds(configuration.startTimeoutSeconds), doorbell: doorbell, time: time, log: log)
        let ledger = ImageLedger(directory: configuration.stateDirectory)
        let puller = ImagePuller(
            link: link, credentials: RegistryCredentials(files: configuration.registryCredentials), ledger: ledger,
            reserve: configuration.pullReserveMB * 1_048_576)
        loop = ReconcileLoop(
            held: store.load(log: log), history: ActionHistory(directory: configuration.stateDirectory),
            doorbell: doorbell, relistAfter: .seconds(configuration.relistSeconds),
            parts: .init(
                observer: observer,
                executor: PlanExecutor(
                    agent: configuration.agent, link: link,
                    resolver: ResolverFile(
                        stateDirectory: configuration.stateDirectory, servers: configuration.nameServers),
                    setUps: SetUpRunner(environment: configuration.setUpEnvironment), puller: puller,
                    ledger: ledger),
                mailbox: mailbox, memoryStore: MemoryStore(directory: configuration.stateDirectory),
                collector: ImageCollector(
                    link: link, ledger: ledger, abovePercent: configuration.collectImagesAbovePercent, log: log),
                policy: configuration.policy,
                shaper: TrafficShaper(
                    agent: configuration.agent, engineSocket: configuration.engine.socketPath, time: time),
                facts: facts, time: time, serverTime: ServerTime(time: time),
                eventLoop: eventLoop, log: log))
        watch = EngineEventWatch(link: link, observer: observer, doorbell: loop.doorbell, log: log)
        sampler = ActivitySampler(
            loop: loop, observer: observer, mailbox: mailbox, time: time, period: .seconds(configuration.sampleSeconds))
        layers = WritableLayerWatch(link: link, observer: observer)
        volumes = VolumeWatch(
            loop: loop, observer: observer, round: .seconds(configuration.volumeSeconds))
        controlPlane = ControlPlaneLink(
            configuration: configuration, loop: loop, observer: observer, sampler: sampler, mailbox: mailbox,
            store: store, facts: facts, time: time, group: group, log: log)
    }

    private static func lock(_ directory: String) throws -> FolderLock {
        do {
            try DurableFile.createFolder(directory)
            return try FolderLock(path: directory + "/lock")
        } catch FolderLock.Failure.held(let pid) {
            let holder = pid.map { "the agent with pid \($0)" } ?? "another agent"
            throw ProgramFailure(
                .temporaryFailure,
                "\(directory) is in use by \(holder); stop it, or give this one another state_directory")
        } catch FolderLock.Failure.unusable(let failure) {
            throw ProgramFailure(.noPermission, "\(failure); choose another state_directory or run with more rights")
        } catch let failure as DurableFile.Failure {
            throw ProgramFailure(.noPermission, "\(failure); choose another state_directory or run with more rights")
        }
    }

    package func run() async throws {
        log.info(
            "agent starting",
            metadata: [
                "agent": "\(configuration.agent)", "version": "\(BerthVersion.text)",
                "state": "\(configuration.stateDirectory)", "engine": "\(configuration.engine)",
                "server": "\(configuration.server)",
            ])
        await withTaskGroup(of: Void.self) { tasks in
            func add(_ name: String, _ body: @escaping @Sendable () async throws -> Void) {
                tasks.addTask {
                    do {
                        try await body()
                    } catch is CancellationError {
                    } catch {
                        log.critical("part of the agent failed", metadata: ["part": "\(name)", "error": "\(error)"])
                    }
                }
            }
            add("loop") { try await loop.run() }
            add("events") { try await watch.run() }
            add("writable layers") { try await layers.run() }
            add("volumes") { try await volumes.run() }
            add("sampler") { try await sampler.run() }
            add("session") { try await controlPlane.run() }
            add("watchdog") { try await feedWatchdog() }
            add("local socket") {
                try await LocalSocket.serve(
                    path: LocalSocket.path(stateDirectory: configuration.stateDirectory), group: group
                ) { await answer($0) }
            }
            add("stop") {
                try await gracefulShutdown()
                manager.stopping()
                log.info("agent stopping; workloads go on")
                await controlPlane.sayGoodbye()
            }
            manager.ready(status: "running")
            // The first part that ends, in order or not, ends the agent: the service manager starts it whole again.
            await tasks.next()
            tasks.cancelAll()
        }
    }

    /// Fed by the loop's own actor: an Engine or a control plane that does not answer is no reason to be restarted.
    private func feedWatchdog() async throws {
        while true {
            _ = await loop.health
            manager.alive()
            try await Task.sleep(for: manager.watchdogInterval ?? .seconds(3600))
        }
    }

    /// One word, and what it is about.
    private func answer(_ request: String) async -> Data {
        let words = request.split(separator: " ", maxSplits: 1).map(String.init)
        let about = words.count > 1 ? words[1] : nil
        switch words.first {
        case "status": return Self.encoded(await report())
        case "gc":
            do {
                return Self.encoded(try await loop.collect(isDryRun: about == "dry-run"))
            } catch {
                return Self.encoded(LocalRefusal(error: "\(error)"))
            }
        case "plan": return Self.encoded(await loop.planReport)
        case "explain":
            guard let id = await loop.find(about ?? ""), let explanation = await loop.explain(id) else {
                return Self.encoded(
                    LocalRefusal(error: "nothing here is called \"\(about ?? "")\"; see berth-agent status"))
            }
            return Self.encoded(explanation)
        case "history":
            guard let about else { return Self.encoded(await loop.history(100, of: nil)) }
            guard let id = await loop.find(about) else {
                return Self.encoded(LocalRefusal(error: "nothing here is called \"\(about)\"; see berth-agent status"))
            }
            return Self.encoded(await loop.history(100, of: id))
        default: return Self.encoded(LocalRefusal(error: "this agent does not know \"\(request.prefix(40))\""))
        }
    }

    private static func encoded(_ answer: some Encodable) -> Data {
        (try? JSONCoding.encode(answer)) ?? Data(#"{"error":"no answer"}"#.utf8)
    }

    private func report() async -> AgentReport {
        let health = await loop.health
        let held = await loop.heldState
        var controlPlane = AgentReport.ControlPlane(url: "\(configuration.server)", state: "connecting")
        switch await self.controlPlane.condition {
        case .connecting: break
        case .connected(let epoch):
            controlPlane.state = "connected"
            controlPlane.epoch = epoch
        case .waiting(let reason):
            controlPlane.state = "waiting"
            controlPlane.reason = reason
        }
        let workloads = health.statuses.map { status in
            let wanted = held.state.workloads[status.workload]
            return AgentReport.Workload(
                id: status.workload.text, name: wanted?.spec.name ?? "", wanted: wanted?.wish.rawValue ?? "",
                generation: status.generation, phase: status.phase.word, reason: status.reason,
                message: status.message, container: status.engineContainer?.text, address: status.address,
                restarts: status.restarts, unenforced: status.unenforced)
        }
        return AgentReport(
            agent: configuration.agent.text, name: configuration.name, version: BerthVersion.text, pid: Int(getpid()),
            revision: held.state.revision.number, controlPlane: controlPlane,
            engine: .init(
                endpoint: "\(configuration.engine)", reachable: await link.isReachable, error: health.failure,
                findings: await observer.findings),
            lastPassMilliseconds: health.passAge?.count, passes: await loop.passes,
            lastPassTookMicroseconds: await loop.lastPassMicroseconds,
            orphanSandboxes: await loop.orphanSandboxes, workloads: workloads)
    }
}
