package import AgentProtocol
package import BerthModel

/// Decides what becomes of a snapshot or delta: pure, so that every order of messages can be tried in memory.
///
/// Rules (docs/protocol.md): revisions are contiguous; what is held already is acknowledged again and not applied; the
/// same revision with another digest is reported, not applied; a bad item is refused alone and keeps its last good
/// version; what would remove many running workloads at once, snapshot or delta, waits for a confirmation.
package struct DesiredStateIntake: Sendable {
    package enum Verdict: Hashable, Sendable {
        /// Store this durably, then send the nacks and acknowledge.
        case store(HeldDesiredState, nacks: [AgentMessage.Nack])
        /// Held already: acknowledge again.
        case acknowledgeAgain(Revision)
        /// A gap, or a state that is not what the sender thinks: ask for a snapshot by this nack.
        case refuse(AgentMessage.Nack)
        /// Too much would be removed: ask for a confirmation.
        case askToConfirm(AgentMessage.RemovalCandidates)
    }

    private var confirmedRemoval: Revision?
    /// More workloads than this lose their data at once only after a confirmation.
    private static let mostPurges = 10

    package init() {}

    /// The control plane confirmed that the removals of `revision` are meant.
    package mutating func removalConfirmed(_ revision: Revision) { confirmedRemoval = revision }

    /// - Parameter running: workloads that run now, for the removal guard.
    package func snapshotReceived(
        _ snapshot: ControlPlaneMessage.Snapshot, held: HeldDesiredState, running: Set<WorkloadID>
    ) -> Verdict {
        let heldRevision = held.state.revision
        if snapshot.revision < heldRevision || (snapshot.revision == heldRevision && snapshot.digest == held.digest) {
            return .acknowledgeAgain(heldRevision)
        }
        if snapshot.revision == heldRevision, heldRevision != .none {
            return .refuse(
                .init(revision: snapshot.revision, workload: nil, reason: "same revision, different content"))
        }
        let (items, nacks) = read(snapshot.items, revision: snapshot.revision, held: held.state)
        let state = DesiredState(
            revision: snapshot.revision, workloads: carried(from: held.state, beyond: snapshot.items) + items)
        let next = HeldDesiredState(state: state, digest: snapshot.digest)
        return guarded(next, nacks: nacks, held: held.state, running: running)
    }

    package func deltaReceived(
        _ delta: ControlPlaneMessage.Delta, held: HeldDesiredState, running: Set<WorkloadID>
    ) -> Verdict {
        let heldRevision = held.state.revision
        if delta.resultsIn <= heldRevision { return .acknowledgeAgain(heldRevision) }
        guard delta.appliesTo == heldRevision else {
            let reason = "gap: holding revision \(heldRevision), delta applies to \(delta.appliesTo)"
            return .refuse(.init(revision: delta.resultsIn, workload: nil, reason: reason))
        }
        let (items, nacks) = read(delta.items, revision: delta.resultsIn, held: held.state)
        let state = held.state.applying(items, resultingIn: delta.resultsIn)
        if held.isExact, nacks.isEmpty, state.digest != delta.digest {
            return .refuse(
                .init(revision: delta.resultsIn, workload: nil, reason: "the delta's result has another digest"))
        }
        let next = HeldDesiredState(state: state, digest: delta.digest)
        return guarded(next, nacks: nacks, held: held.state, running: running)
    }

    /// Absence is never a reason to remove: what a snapshot does not mention is carried on as it was wanted last.
    private func carried(from held: DesiredState, beyond items: [DesiredItem]) -> [DesiredWorkload] {
        let named = Set(
            items.compactMap { item in
                switch item {
                case .workload(let workload): workload.id
                case .unreadable(let id, _): id
                }
            })
        return held.workloads.values.filter { !named.contains($0.id) && $0.wish != .removed }
    }

    /// A bad item is answered by a nack; where an earlier good version of it is held, that one stays in force.
    private func read(
        _ items: [DesiredItem], revision: Revision, held: DesiredState
    ) -> (good: [DesiredWorkload], nacks: [AgentMessage.Nack]) {
        var good: [DesiredWorkload] = []
        var nacks: [AgentMessage.Nack] = []
        for item in items {
            switch item {
            case .unreadable(let id, let problem):
                nacks.append(.init(revision: revision, workload: id, reason: problem))
                if let id, let last = held.workloads[id] { good.append(last) }
            case .workload(let workload):
                let last = held.workloads[workload.id]
                if let problem = workload.wish == .removed
                    ? Self.problem(ofTombstone: workload, last) : workload.problem
                {
                    nacks.append(.init(revision: revision, workload: workload.id, reason: problem))
                    if let last { good.append(last) }
                } else {
                    good.append(workload.wish == .removed ? Self.usable(workload) : workload)
                }
            }
        }
        return (good, nacks)
    }

    /// What was deleted once and restored since must not go by the old tombstone, as a control plane that was set back to an
    /// older backup would send it: a deletion that is meant has a generation of its own.
    private static func problem(ofTombstone workload: DesiredWorkload, _ last: DesiredWorkload?) -> String? {
        guard let last, workload.generation <= last.generation else { return nil }
        if last.wish != .removed { return "tombstone of generation \(workload.generation), held is \(last.generation)" }
        return workload.purgesVolumes && !last.purgesVolumes
            ? "purge of generation \(workload.generation), held is \(last.generation)" : nil
    }

    /// A tombstone needs no usable spec: whatever was wrong with it, it is to go. Its numbers must do no harm meanwhile.
    private static func usable(_ tombstone: DesiredWorkload) -> DesiredWorkload {
        guard tombstone.problem != nil else { return tombstone }
        var result = tombstone
        result.spec.resources = Resources()
        result.spec.expiresAt = nil
        result.spec.heldUntil = nil
        return result
    }

    private func guarded(
        _ next: HeldDesiredState, nacks: [AgentMessage.Nack], held: DesiredState, running: Set<WorkloadID>
    ) -> Verdict {
        guard confirmedRemoval != next.state.revision else { return .store(next, nacks: nacks) }
        let doomed = running.filter {
            next.state.workloads[$0]?.wish == .removed && held.workloads[$0]?.wish != .removed
        }
        // Data that goes with them does not come back.
        let purged = next.state.workloads.values.filter {
            $0.purgesVolumes && held.workloads[$0.id]?.purgesVolumes != true
        }
        if purged.count > Self.mostPurges {
            let all = doomed.union(purged.map(\.id))
            return .askToConfirm(.init(revision: next.state.revision, workloads: all.sorted()))
        }
        let mostWithoutAsking = max(3, running.count * 3 / 10)
        if doomed.count > mostWithoutAsking || (doomed.count == running.count && running.count > 1) {
            return .askToConfirm(.init(revision: next.state.revision, workloads: doomed.sorted()))
        }
        return .store(next, nacks: nacks)
    }
}
