package import AgentProtocol
package import BerthModel

/// The latest status of every workload, kept until the control plane acknowledged it. All of it is sent again on a new
/// session, so nothing is lost with a connection; a newer status of a workload replaces an older one.
package struct StatusOutbox: Sendable {
    private var latest: [WorkloadID: WorkloadStatus] = [:]
    private var unsent: Set<WorkloadID> = []
    private var inFlight: [Int: [WorkloadID: WorkloadStatus]] = [:]
    private var nextBatch = 1

    package init() {}

    package var statuses: [WorkloadID: WorkloadStatus] { latest }
    package var hasUnsent: Bool { !unsent.isEmpty }

    /// Keeps `status` where it says something new.
    package mutating func report(_ status: WorkloadStatus) -> Bool {
        if let known = latest[status.workload], known.saysTheSame(as: status) { return false }
        latest[status.workload] = status
        unsent.insert(status.workload)
        return true
    }

    package mutating func sessionStarted() {
        inFlight = [:]
        nextBatch = 1
        unsent = Set(latest.keys)
    }

    /// The next batch to send, at most `ProtocolLimits.statusBatch` items; nil where there is nothing new.
    package mutating func nextToSend() -> AgentMessage.StatusBatch? {
        guard !unsent.isEmpty else { return nil }
        let chosen = unsent.sorted().prefix(ProtocolLimits.statusBatch)
        var items: [WorkloadID: WorkloadStatus] = [:]
        for id in chosen {
            unsent.remove(id)
            items[id] = latest[id]
        }
        let batch = nextBatch
        nextBatch += 1
        inFlight[batch] = items
        return .init(batch: batch, items: items.keys.sorted().compactMap { items[$0] })
    }

    /// - Returns: workloads whose removal the control plane knows of now: nothing about them needs to be kept.
    package mutating func acknowledged(batch: Int) -> [WorkloadID] {
        guard let items = inFlight.removeValue(forKey: batch) else { return [] }
        let done = items.filter { $0.value.phase == .removed && latest[$0.key] == $0.value }.keys.sorted()
        for id in done { latest[id] = nil }
        return done
    }
}
