import AgentCore
import BerthModel
import DockerEngine
import ServiceRuntime

/// What the kernel says beside the Engine's word: phantoms, starts under way, and what outlived its container.
extension HostObserver {
    /// Only where something that is not up is to start or to go: the Engine's word that it ended is not yet a proof.
    func processesToLookFor(
        _ ours: [(ContainerSummary, ContainerLabels.Identity)], desired: DesiredState, busy: Set<WorkloadID>
    ) -> Bool {
        var isDue = false
        for (summary, identity) in ours {
            guard ["created", "exited", "dead"].contains(summary.state) else {
                cold.remove(summary.id)
                continue
            }
            guard !busy.contains(identity.workload), desired.workloads[identity.workload] != nil else { continue }
            // What was found empty after its end stays so until it is started again.
            if summary.state == "created" || !cold.contains(summary.id) { isDue = true }
        }
        return isDue
    }

    /// Containers of ours that the Engine has forgotten while their processes run on, and write.
    func outlivingTheirContainer(_ processes: [String: [Int]], present: Set<String>) -> [ObservedContainer] {
        lastManaged.values.compactMap { gone in
            guard !present.contains(gone.id.text), let pids = processes[gone.id.text], !pids.isEmpty else { return nil }
            var gone = gone
            gone.state = .dead
            gone.leftoverProcesses = pids
            return gone
        }
    }

    /// True where the Engine says that a container runs and its process has been gone for longer than an end takes to be
    /// noticed: its shim and containerd died with it, and nobody will ever tell the Engine.
    func isPhantom(_ id: String) -> Bool {
        guard let known = seen[id], known.details.state.status == "running", known.processWasSeen,
            !stale.contains(id), !underInspection.contains(id)
        else { return false }
        guard !ContainerProcesses.isProcess(known.details.state.pid, of: id) else {
            seen[id]?.goneSince = nil
            return false
        }
        guard let since = known.goneSince else {
            seen[id]?.goneSince = time.now
            // Most have simply ended this moment: the next inspect says so.
            stale.insert(id)
            return false
        }
        return time.now - since >= Self.phantomAfter
    }

    private static let phantomAfter = Milliseconds(3000)

    func container(
        _ summary: ContainerSummary, _ identity: ContainerLabels.Identity, processes: [Int]
    ) -> ObservedContainer {
        let known = isKnown(summary) ? seen[summary.id] : nil
        var container = ObservedContainer(
            summary, identity, details: known?.details, upFor: known?.runningSince.map { time.now - $0 } ?? .zero)
        container.writableLayerMB = layers[summary.id]
        container.isPhantom = isPhantom(summary.id)
        switch container.state {
        case .created where !processes.isEmpty:
            let since = startingSince[summary.id] ?? time.now
            startingSince[summary.id] = since
            container.isStarting = time.now - since < startDeadline
            if !container.isStarting { container.leftoverProcesses = processes }
        case .exited, .dead: container.leftoverProcesses = processes
        default: break
        }
        if processes.isEmpty { startingSince[summary.id] = nil }
        return container
    }

    /// Processes of containers that the Engine does not know, or not as running.
    func orphanSandboxes() -> [OrphanSandbox] { listed.map { processes.orphans(listed: $0) } ?? [] }
}
