import AgentCore
import BerthModel
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
        let store = DesiredStateStore(directory: configuration.stateDirectory)
        let mailbox = OutgoingMailbox(time: time, eventLoop: eventLoop)
        link = EngineLink(endpoint: configuration.engine, group: group, log: log)
        let doorbell = Doorbell()
        observer = HostObserver(
            agent: configuration.agent, link: link, runtimeNames: configuration.runtimes, doorbell: doorbell,
            time: time,
            log: log)
        loop = ReconcileLoop(
            held: store.load(log: log), doorbell: doorbell, observer: observer,
            executor: PlanExecutor(agent: configuration.agent, link: link), mailbox: mailbox,
            facts: facts, time: time, relistAfter: .seconds(configuration.relistSeconds), eventLoop: eventLoop, log: log
        )
        watch = EngineEventWatch(link: link, observer: observer, doorbell: loop.doorbell, log: log)
        sampler = ActivitySampler(
            observer: observer, mailbox: mailbox, time: time, period: .seconds(configuration.sampleSeconds))
        controlPlane = ControlPlaneLink(
            configuration: configuration, loop: loop, observer: observer, mailbox: mailbox, store: store,
            facts: facts, time: time, group: group, log: log)
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

    private func answer(_ request: String) async -> Data {
        guard request == "status" else { return Data(#"{"error":"unknown request"}"#.utf8) }
        return (try? JSONCoding.encode(await report())) ?? Data(#"{"error":"no report"}"#.utf8)
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
                restarts: status.restarts)
        }
        return AgentReport(
            agent: configuration.agent.text, name: configuration.name, version: BerthVersion.text, pid: Int(getpid()),
            revision: held.state.revision.number, controlPlane: controlPlane,
            engine: .init(
                endpoint: "\(configuration.engine)", reachable: await link.isReachable, error: health.failure),
            lastPassMilliseconds: health.passAge?.count, workloads: workloads)
    }
}
