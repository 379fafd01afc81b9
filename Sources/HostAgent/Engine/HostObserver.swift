package import AgentCore
package import BerthModel
package import DockerEngine
package import Logging
package import ServiceRuntime

/// Looks at the Engine. The list is the base, because it takes no container's lock; what changed since the last look is
/// inspected beside it, each with a deadline of its own, and a look waits for these only a moment: one container that
/// hangs must not slow the others. What events say only marks what to look at again.
package actor HostObserver {
    struct Seen {
        var details: ContainerDetails
        /// What the list said when it was inspected. The list can be wrong for long (an Engine whose disk was full), an
        /// inspect is not: so as long as the list says the same, the details stand.
        var listedState: String
        /// The main process was found in /proc, in its own cgroup: we see the processes of this host.
        var processWasSeen = false
        /// Since when that process is gone although the Engine says that it runs.
        var goneSince: MonotonicInstant?
        /// When this run of the main process was first seen, by the clock that decides.
        var runningSince: MonotonicInstant?
    }

    private let agent: AgentID
    private let link: EngineLink
    private let runtimeNames: [String: String]
    let doorbell: Doorbell
    let time: MonotonicTime
    let log: Logger

    /// A look waits this long for inspects; the first one, which knows nothing yet, as long as an inspect may take. An
    /// answer that comes later rings.
    private static let patience = Duration.milliseconds(300)
    private static let firstPatience = Duration.seconds(10)
    private var hasLooked = false
    var underInspection: Set<String> = []
    private var awaited: Set<String> = []
    private var awaiting: CheckedContinuation<Void, Never>?
    private let inspectSlots = Slots(count: 16)

    /// Events arrive while a look waits for the Engine. What one marks meanwhile must outlive that look, whose answers may
    /// be older: containers are marked in `stale`, and `changes` tells a look that its answers are not to be kept.
    var stale: Set<String> = []
    private var changes = 0
    var seen: [String: Seen] = [:]
    private var images: [String: ImagePresence] = [:]
    private var volumes: Set<String>?
    private var foreignVolumes: Set<String> = []
    private var ownVolumes: [WorkloadID: [String]] = [:]
    private var runtimes: [String: String]?
    private var lastRuntimes: [String: String]?
    private(set) var info: EngineInfo?
    /// What the last probe of each runtime found.
    var findings: [RuntimeFinding] = []
    let probe: RuntimeProbe
    var isProbing = false
    /// Runtimes that worked before and failed in the last probe; those that failed in two in a row.
    var suspects: Set<String> = []
    var brokenTwice: Set<String> = []
    /// Why the last one could not be made.
    var probeFailure: String?
    /// What the last probe was of.
    var probed: [String: String] = [:]
    /// Nil where the next look begins a probe.
    var probedAt: MonotonicInstant?
    /// A runtime that did not work is tried again after this.
    static let probeAgainAfter = Milliseconds.seconds(60)
    var infoChanged = false
    let processes = ContainerProcesses()
    /// A start that takes longer hangs.
    let startDeadline: Milliseconds
    var startingSince: [String: MonotonicInstant] = [:]
    var lastManaged: [String: ObservedContainer] = [:]
    /// Ended containers whose cgroup was looked into since.
    var cold: Set<String> = []
    /// Whether each container of the last list may run, whoever made it; nil before the first.
    var listed: [String: Bool]?
    /// MiB in the writable layers that were measured.
    var layers: [String: Int] = [:]
    /// MiB in the volumes that are watched, by name; and why one cannot be measured.
    var volumeMB: [String: Int] = [:]
    var volumeProblems: [String: String] = [:]

    package init(
        agent: AgentID, link: EngineLink, runtimeNames: [String: String], startDeadline: Milliseconds,
        doorbell: Doorbell, time: MonotonicTime, log: Logger
    ) {
        self.agent = agent
        self.link = link
        self.runtimeNames = runtimeNames
        self.startDeadline = startDeadline
        self.doorbell = doorbell
        self.time = time
        self.log = log
        probe = RuntimeProbe(agent: agent, link: link, log: log)
    }

    // MARK: what may have changed

    package func containerChanged(_ id: String) {
        stale.insert(id)
        cold.remove(id)
    }

    package func imagesChanged() {
        images = [:]
        changes += 1
    }

    package func volumesChanged() {
        volumes = nil
        changes += 1
    }

    package func runtimesMayHaveChanged() { runtimes = nil }

    /// The Engine was away: it may have come back with other runtimes, or another program behind a name.
    package func engineWasAway() { probedAt = nil }

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
    /// - Parameters:
    ///   - busy: workloads with a step in flight: nothing is planned for them, and their containers' locks may be held by
    ///     that step, so they are not inspected.
    ///   - pins: ids of images that workloads are bound to, to be looked up where a container is lacking.
    package func observe(
        for desired: DesiredState, busy: Set<WorkloadID>, pins: [WorkloadID: String] = [:]
    ) async throws -> ObservedHost {
        let engine = try await link.engine()
        if runtimes == nil { try await readInfo(engine) }
        let offered = runtimes ?? [:]
        beginProbe(of: offered)
        let usable = offered.filter { name, _ in findings.contains { $0.name == name && $0.works } }
        let list = try await engine.listContainers()
        listed = Dictionary(
            list.map { ($0.id, !["created", "exited", "dead"].contains($0.state)) }, uniquingKeysWith: { $0 || $1 })
        var writers: [String: [EngineContainerID]] = [:]
        var ours: [(ContainerSummary, ContainerLabels.Identity)] = []
        for summary in list {
            if let identity = ContainerLabels.identity(summary.labels, names: summary.names, agent: agent) {
                ours.append((summary, identity))
            } else if ["running", "paused", "restarting"].contains(summary.state) {
                for mount in summary.mounts where mount.type == "volume" && mount.isWritable {
                    guard let volume = mount.name else { continue }
                    writers[volume, default: []].append(EngineContainerID(validated: summary.id))
                }
            }
        }
        // A health check that has not spoken yet speaks without an event that every Engine sends.
        for (summary, _) in ours where seen[summary.id]?.details.state.health?.status == "starting" {
            stale.insert(summary.id)
        }
        let due = ours.filter { summary, identity in
            !busy.contains(identity.workload) && (stale.contains(summary.id) || !isKnown(summary))
        }
        await inspect(due.map(\.0), engine)
        let present = Set(ours.map(\.0.id))
        let isDue = processesToLookFor(ours, desired: desired, busy: busy)
        let processes = isDue || !present.isSuperset(of: lastManaged.keys) ? self.processes.all() : [:]
        var managed = ours.map { summary, identity in
            container(summary, identity, processes: processes[summary.id] ?? [])
        }
        if isDue {
            for container in managed where processes[container.id.text, default: []].isEmpty {
                switch container.state {
                case .exited, .dead: cold.insert(container.id.text)
                default: break
                }
            }
        }
        managed += outlivingTheirContainer(processes, present: present)
        lastManaged = Dictionary(managed.map { ($0.id.text, $0) }, uniquingKeysWith: { $1 })
        layers = layers.filter { present.contains($0.key) }
        startingSince = startingSince.filter { present.contains($0.key) }
        cold.formIntersection(present)
        seen = seen.filter { present.contains($0.key) }
        stale.formIntersection(present)
        let withContainer = Dictionary(grouping: managed, by: \.workload)
        let lacking = desired.workloads.values.filter { workload in
            workload.wish == .running
                && !withContainer[workload.id, default: []].contains { $0.fingerprint == workload.fingerprint }
        }
        var needs = Needs()
        let isPurging = desired.workloads.values.contains(where: \.purgesVolumes)
        var knowsVolumes = false
        if !lacking.isEmpty || isPurging {
            do {
                needs = try await lookUp(
                    Set(lacking.map(\.spec.image) + lacking.compactMap { pins[$0.id] }), engine)
                knowsVolumes = true
            } catch let error as EngineError where error.kind != .unreachable {
                // Those that lack a container wait; the others must not wait with them.
                log.warning("images or volumes cannot be looked up", metadata: ["error": "\(error)"])
            }
        }
        return ObservedHost(
            managed: managed, foreignWriters: writers, images: needs.images, runtimes: usable,
            liveRuntimes: Set(findings.filter(\.changesLimitsLive).map(\.engineRuntime)), volumes: needs.volumes,
            cpus: info?.cpus ?? 1, unusableRuntimes: troubles(among: offered),
            diskLimitingRuntimes: Set(findings.filter(\.enforcesDisk).map(\.engineRuntime)),
            foreignVolumes: foreignVolumes, volumeMB: volumeMB,
            ownVolumes: knowsVolumes ? ownVolumes : nil)
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

    private func lookUp(_ references: Set<String>, _ engine: DockerEngine) async throws -> Needs {
        let before = changes
        var needs = Needs()
        if let volumes {
            needs.volumes = volumes
        } else {
            let list = try await engine.listVolumes(filters: ["name": ["berth-"]])
            needs.volumes = Set(list.map(\.name))
            // Without a label somebody has put it there by hand, perhaps from a backup.
            ownVolumes = [:]
            for volume in list where volume.labels?[ContainerLabels.agent] == agent.text {
                // By its name too: a copy that somebody made with its labels is theirs.
                guard let workload = volume.labels?[ContainerLabels.workload].flatMap({ WorkloadID($0) }),
                    VolumeMount.isName(volume.name, of: workload)
                else { continue }
                ownVolumes[workload, default: []].append(volume.name)
            }
            foreignVolumes = Set(
                list.filter { volume in
                    volume.labels?[ContainerLabels.agent].map { $0 != agent.text } ?? false
                }.map(\.name))
        }
        for reference in references.sorted() {
            if let known = images[reference] {
                needs.images[reference] = known
                continue
            }
            do {
                let image = try await engine.inspectImage(reference)
                needs.images[reference] = .present(
                    imageID: image.id, volumePaths: (image.configuration?.volumes ?? [:]).keys.sorted(),
                    digest: Self.digest(of: image, as: reference))
            } catch let error as EngineError where error.status != nil {
                // 404, or a reference that the Engine cannot read: the pull will say so, and fail that workload alone.
                needs.images[reference] = .absent
            } catch let error as EngineError where error.kind != .unreachable {
                // Not looked up is not absent: what wants this image waits, and nothing else does.
                log.warning("image cannot be looked up", metadata: ["image": "\(reference)", "error": "\(error)"])
            }
        }
        if changes == before {
            volumes = needs.volumes
            images.merge(needs.images) { $1 }
        }
        return needs
    }

    /// Of the repository that `reference` names: an image can be in several.
    private static func digest(of image: ImageDetails, as reference: String) -> String? {
        guard let wanted = ImageReference(reference) else { return nil }
        return image.repoDigests?.first { ImageReference($0)?.name == wanted.name }
    }

    /// The list is the latest word on a container's state; details of another state are of no use.
    func isKnown(_ summary: ContainerSummary) -> Bool {
        // What is under inspection may have changed: what was true before it is not known to be true.
        guard let seen = seen[summary.id], !stale.contains(summary.id), !underInspection.contains(summary.id) else {
            return false
        }
        return seen.details.state.status == summary.state || seen.listedState == summary.state
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
                self.inspected(summary, result)
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

    private func inspected(_ summary: ContainerSummary, _ result: Result<ContainerDetails, any Error>) {
        let id = summary.id
        underInspection.remove(id)
        switch result {
        case .success(let details): remember(summary, details)
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

    private func remember(_ summary: ContainerSummary, _ details: ContainerDetails) {
        let before = seen[summary.id]
        var now = Seen(details: details, listedState: summary.state)
        if details.state.status == "running" {
            let sameRun = before?.details.state.startedAt == details.state.startedAt
            now.runningSince = sameRun ? before?.runningSince ?? time.now : time.now
            now.processWasSeen =
                (sameRun && before?.processWasSeen == true)
                || ContainerProcesses.isProcess(details.state.pid, of: summary.id)
            now.goneSince = sameRun ? before?.goneSince : nil
        }
        seen[summary.id] = now
    }

    // MARK: for others

    /// Containers that run, for the measure of their writable layers.
    func runningContainers() -> [String] {
        seen.values.filter { $0.details.state.status == "running" }.map(\.details.id).sorted()
    }

    /// Said with the next look: for this alone there is none.
    func measured(_ id: String, writableLayerMB: Int) {
        if seen[id] != nil { layers[id] = writableLayerMB }
    }

    /// True once after the Engine turned out to be another, or to offer something else, than before.
    package func takeInfoChanged() -> Bool {
        defer { infoChanged = false }
        return infoChanged
    }

    /// Pids of the main processes that run, for the samples.
    package func runningProcesses() -> [(workload: WorkloadID, container: String, pid: Int, startedAt: String)] {
        seen.values.compactMap { seen in
            guard seen.details.state.status == "running", seen.details.state.pid > 0,
                let identity = ContainerLabels.identity(
                    seen.details.configuration.labels ?? [:], names: [seen.details.name], agent: agent)
            else { return nil }
            return (identity.workload, seen.details.id, seen.details.state.pid, seen.details.state.startedAt)
        }
    }

    package func engineInfo() async throws -> (EngineInfo, APIVersion, [String]) {
        let engine = try await link.engine()
        if info == nil || runtimes == nil { try await readInfo(engine) }
        guard let info else { throw CancellationError() }
        return (info, engine.version, findings.filter(\.works).map(\.name))
    }
}
