package import AgentCore
package import BerthModel
package import DockerEngine
package import Logging
package import ServiceRuntime

/// Looks at the Engine. The list is the base, because it takes no container's lock; what changed since the last look is
/// inspected beside it, each with a deadline of its own, and a look waits for these only a moment: one container that
/// hangs must not slow the others. What events say only marks what to look at again.
package actor HostObserver {
    private struct Seen {
        var details: ContainerDetails
        /// When this run of the main process was first seen, by the clock that decides.
        var runningSince: MonotonicInstant?
    }

    private let agent: AgentID
    private let link: EngineLink
    private let runtimeNames: [String: String]
    private let doorbell: Doorbell
    private let time: MonotonicTime
    private let log: Logger

    /// A look waits this long for inspects; the first one, which knows nothing yet, as long as an inspect may take. An
    /// answer that comes later rings.
    private static let patience = Duration.milliseconds(300)
    private static let firstPatience = Duration.seconds(10)
    private var hasLooked = false
    private var underInspection: Set<String> = []
    private var awaited: Set<String> = []
    private var awaiting: CheckedContinuation<Void, Never>?
    private let inspectSlots = Slots(count: 16)

    /// Events arrive while a look waits for the Engine. What one marks meanwhile must outlive that look, whose answers may
    /// be older: containers are marked in `stale`, and `changes` tells a look that its answers are not to be kept.
    private var stale: Set<String> = []
    private var changes = 0
    private var seen: [String: Seen] = [:]
    private var images: [String: ImagePresence] = [:]
    private var volumes: Set<String>?
    private var runtimes: [String: String]?
    private var lastRuntimes: [String: String]?
    private(set) var info: EngineInfo?
    private var infoChanged = false

    package init(
        agent: AgentID, link: EngineLink, runtimeNames: [String: String], doorbell: Doorbell, time: MonotonicTime,
        log: Logger
    ) {
        self.agent = agent
        self.link = link
        self.runtimeNames = runtimeNames
        self.doorbell = doorbell
        self.time = time
        self.log = log
    }

    // MARK: what may have changed

    package func containerChanged(_ id: String) { stale.insert(id) }

    package func imagesChanged() {
        images = [:]
        changes += 1
    }

    package func volumesChanged() {
        volumes = nil
        changes += 1
    }

    package func runtimesMayHaveChanged() { runtimes = nil }

    /// Events may have been missed: everything is looked at again.
    package func everythingMayHaveChanged() {
        stale.formUnion(seen.keys)
        images = [:]
        volumes = nil
        runtimes = nil
        changes += 1
    }

    // MARK: looking

    /// One complete look. Throws where the Engine does not give one: then nothing is planned.
    ///
    /// - Parameter busy: workloads with a step in flight: nothing is planned for them, and their containers' locks may be
    ///   held by that step, so they are not inspected.
    package func observe(for desired: DesiredState, busy: Set<WorkloadID>) async throws -> ObservedHost {
        let engine = try await link.engine()
        if runtimes == nil { try await readInfo(engine) }
        let usable = runtimes ?? [:]
        let list = try await engine.listContainers()
        var managed: [ObservedContainer] = []
        var writers: [String: [EngineContainerID]] = [:]
        var ours: [(ContainerSummary, ContainerLabels.Identity)] = []
        for summary in list {
            if let identity = ContainerLabels.identity(summary.labels, agent: agent) {
                ours.append((summary, identity))
            } else if ["running", "paused", "restarting"].contains(summary.state) {
                for volume in Self.writableVolumes(summary) {
                    writers[volume, default: []].append(EngineContainerID(validated: summary.id))
                }
            }
        }
        let due = ours.filter { summary, identity in
            !busy.contains(identity.workload) && (stale.contains(summary.id) || !isKnown(summary))
        }
        await inspect(due.map(\.0), engine)
        for (summary, identity) in ours { managed.append(container(summary, identity)) }
        let present = Set(ours.map(\.0.id))
        seen = seen.filter { present.contains($0.key) }
        stale.formIntersection(present)
        let withContainer = Set(managed.map { "\($0.workload) \($0.fingerprint)" })
        let lacking = desired.workloads.values.filter {
            $0.wish == .running && !withContainer.contains("\($0.id) \($0.spec.fingerprint)")
        }
        let needs = lacking.isEmpty ? Needs() : try await lookUp(lacking, engine)
        return ObservedHost(
            managed: managed, foreignWriters: writers, images: needs.images, runtimes: usable,
            volumes: needs.volumes)
    }

    /// Images and volumes of workloads that need a new container.
    private struct Needs {
        var images: [String: ImagePresence] = [:]
        var volumes: Set<String> = []
    }

    private func readInfo(_ engine: DockerEngine) async throws {
        let info = try await engine.info()
        let offered = info.runtimes ?? [:]
        let usable = runtimeNames.filter { offered[$0.value] != nil }
        infoChanged = infoChanged || self.info?.serverVersion != info.serverVersion || usable.keys != lastRuntimes?.keys
        self.info = info
        runtimes = usable
        lastRuntimes = usable
    }

    private func lookUp(_ workloads: [DesiredWorkload], _ engine: DockerEngine) async throws -> Needs {
        let before = changes
        var needs = Needs()
        if let volumes {
            needs.volumes = volumes
        } else {
            needs.volumes = Set(try await engine.listVolumes(filters: ["name": ["berth-"]]).map(\.name))
        }
        for reference in Set(workloads.map(\.spec.image)).sorted() {
            if let known = images[reference] {
                needs.images[reference] = known
                continue
            }
            do {
                needs.images[reference] = .present(imageID: try await engine.inspectImage(reference).id)
            } catch let error as EngineError where error.status != nil {
                // 404, or a reference that the Engine cannot read: the pull will say so, and fail that workload alone.
                needs.images[reference] = .absent
            }
        }
        if changes == before {
            volumes = needs.volumes
            images.merge(needs.images) { $1 }
        }
        return needs
    }

    /// The list is the latest word on a container's state; details of another state are of no use.
    private func isKnown(_ summary: ContainerSummary) -> Bool {
        seen[summary.id]?.details.state.status == summary.state
    }

    /// Starts what is not under way already and waits a moment for all of it.
    private func inspect(_ summaries: [ContainerSummary], _ engine: DockerEngine) async {
        for summary in summaries where !underInspection.contains(summary.id) {
            underInspection.insert(summary.id)
            stale.remove(summary.id)
            // Outlives the look; bounded by the deadline of an inspect.
            Task {
                let result: Result<ContainerDetails, any Error>
                do {
                    result = .success(try await inspectSlots.withSlot { try await engine.inspectContainer(summary.id) })
                } catch {
                    result = .failure(error)
                }
                self.inspected(summary.id, result)
            }
        }
        let ids = underInspection.intersection(summaries.map(\.id))
        if !ids.isEmpty {
            let limit = hasLooked ? Self.patience : Self.firstPatience
            let timer = Task {
                try await Task.sleep(for: limit)
                self.stopWaiting()
            }
            await withCheckedContinuation { continuation in
                awaited = ids
                awaiting = continuation
            }
            timer.cancel()
        }
        hasLooked = true
    }

    private func inspected(_ id: String, _ result: Result<ContainerDetails, any Error>) {
        underInspection.remove(id)
        switch result {
        case .success(let details): remember(id, details)
        case .failure(let error as EngineError) where error.status == 404:
            // Gone between list and inspect; the event of its end brings the next look.
            seen[id] = nil
        case .failure(let error):
            stale.insert(id)
            log.warning("container cannot be inspected", metadata: ["error": "\(error)"])
        }
        guard awaiting != nil else { return doorbell.ring() }
        awaited.remove(id)
        if awaited.isEmpty { stopWaiting() }
    }

    private func stopWaiting() {
        awaiting?.resume()
        awaiting = nil
        awaited = []
    }

    private func remember(_ id: String, _ details: ContainerDetails) {
        let before = seen[id]
        var since: MonotonicInstant?
        if details.state.status == "running" {
            let sameRun = before?.details.state.startedAt == details.state.startedAt
            since = sameRun ? before?.runningSince ?? time.now : time.now
        }
        seen[id] = Seen(details: details, runningSince: since)
    }

    private func container(_ summary: ContainerSummary, _ identity: ContainerLabels.Identity) -> ObservedContainer {
        let known = isKnown(summary) ? seen[summary.id] : nil
        return ObservedContainer(
            id: EngineContainerID(validated: summary.id),
            name: String((summary.names.first ?? summary.id).drop { $0 == "/" }),
            workload: identity.workload, generation: identity.generation, fingerprint: identity.fingerprint,
            attempt: identity.attempt, state: known.map(state) ?? .unknown,
            imageID: known?.details.image ?? summary.imageID, writableVolumes: Self.writableVolumes(summary),
            address: known?.details.address, volumeKept: identity.volumeKept, fellBackTo: identity.fellBackTo)
    }

    private func state(_ seen: Seen) -> ContainerState {
        let state = seen.details.state
        switch state.status {
        case "created": return .created
        case "running":
            let upFor = seen.runningSince.map { time.now - $0 } ?? .zero
            return .running(startedAt: Timestamp.seconds(state.startedAt) ?? 0, upFor: upFor)
        case "paused": return .paused
        case "restarting": return .restarting
        case "removing": return .removing
        case "dead": return .dead
        case "exited":
            return .exited(
                .init(
                    code: state.exitCode, outOfMemory: state.isOutOfMemory, error: state.error,
                    startedAt: max(0, Timestamp.seconds(state.startedAt) ?? 0),
                    finishedAt: max(0, Timestamp.seconds(state.finishedAt) ?? 0)))
        default: return .unknown
        }
    }

    private static func writableVolumes(_ summary: ContainerSummary) -> [String] {
        summary.mounts.filter { $0.type == "volume" && $0.isWritable }.compactMap(\.name)
    }

    // MARK: for others

    /// True once after the Engine turned out to be another, or to offer something else, than before.
    package func takeInfoChanged() -> Bool {
        defer { infoChanged = false }
        return infoChanged
    }

    /// Pids of the main processes that run, for the samples.
    package func runningProcesses() -> [(workload: WorkloadID, container: String, pid: Int, startedAt: String)] {
        seen.values.compactMap { seen in
            guard seen.details.state.status == "running", seen.details.state.pid > 0,
                let identity = ContainerLabels.identity(seen.details.configuration.labels ?? [:], agent: agent)
            else { return nil }
            return (identity.workload, seen.details.id, seen.details.state.pid, seen.details.state.startedAt)
        }
    }

    package func engineInfo() async throws -> (EngineInfo, APIVersion, [String]) {
        let engine = try await link.engine()
        if info == nil || runtimes == nil { try await readInfo(engine) }
        guard let info else { throw CancellationError() }
        return (info, engine.version, (runtimes ?? [:]).keys.sorted())
    }
}
