import AgentCore
import AgentProtocol
import BerthModel
import Testing

@Suite struct IntakeRules {
    private let running: Set<WorkloadID> = [Sample.id]

    private func held(_ revision: Int, _ workloads: [DesiredWorkload] = [Sample.desired()]) -> HeldDesiredState {
        let state = DesiredState(revision: Revision(revision), workloads: workloads)
        return HeldDesiredState(state: state, digest: state.digest)
    }

    private func delta(_ from: Int, _ to: Int, _ items: [DesiredItem], digest: Fingerprint? = nil)
        -> ControlPlaneMessage.Delta
    {
        let changed = items.compactMap { item -> DesiredWorkload? in
            if case .workload(let workload) = item { return workload }
            return nil
        }
        let result = held(from).state.applying(changed, resultingIn: Revision(to))
        return .init(appliesTo: Revision(from), resultsIn: Revision(to), digest: digest ?? result.digest, items: items)
    }

    @Test func `a delta on what is held is stored`() {
        let stopped = Sample.desired(.stopped, generation: 2)
        guard
            case .store(let next, let nacks) = DesiredStateIntake().deltaReceived(
                delta(3, 4, [.workload(stopped)]), held: held(3), running: running)
        else {
            Issue.record("expected a store")
            return
        }
        #expect(next.state.revision == Revision(4) && next.state.workloads[Sample.id] == stopped && nacks.isEmpty)
    }

    @Test func `a gap is refused, what is held already is acknowledged again`() {
        let intake = DesiredStateIntake()
        guard case .refuse = intake.deltaReceived(delta(5, 6, []), held: held(3), running: running) else {
            Issue.record("a gap must be refused")
            return
        }
        #expect(
            intake.deltaReceived(delta(2, 3, []), held: held(3), running: running) == .acknowledgeAgain(Revision(3)))
        let wrong = delta(3, 4, [.workload(Sample.desired(.stopped, generation: 2))], digest: Fingerprint(text: "0"))
        guard case .refuse = intake.deltaReceived(wrong, held: held(3), running: running) else {
            Issue.record("another digest must be refused")
            return
        }
    }

    @Test func `an old tombstone removes nothing that was restored since, whatever revision it comes with`() {
        let restored = Sample.desired(generation: 5)
        let held = HeldDesiredState(
            state: DesiredState(revision: Revision(3), workloads: [restored]), digest: Fingerprint(text: "d"))
        for purges in [false, true] {
            for generation in 1...5 {
                var old = Sample.desired(.removed, generation: generation)
                old.purgesVolumes = purges
                let snapshot = ControlPlaneMessage.Snapshot(
                    revision: Revision(9), digest: Fingerprint(text: "x"), items: [.workload(old)])
                guard
                    case .store(let next, let nacks) = DesiredStateIntake().snapshotReceived(
                        snapshot, held: held, running: running)
                else {
                    Issue.record("expected a store")
                    return
                }
                #expect(next.state.workloads[Sample.id] == restored && nacks.count == 1)
            }
        }
        // A new one is meant; and a purge that comes after the tombstone is one of its own.
        for (heldWish, generation, purges) in [
            (DesiredWorkload.Wish.running, 6, false), (.running, 6, true), (.removed, 6, true),
        ] {
            var meant = Sample.desired(.removed, generation: generation)
            meant.purgesVolumes = purges
            let before = HeldDesiredState(
                state: DesiredState(revision: Revision(3), workloads: [Sample.desired(heldWish, generation: 5)]),
                digest: Fingerprint(text: "d"))
            let snapshot = ControlPlaneMessage.Snapshot(
                revision: Revision(9), digest: Fingerprint(text: "x"), items: [.workload(meant)])
            guard
                case .store(let next, let nacks) = DesiredStateIntake().snapshotReceived(
                    snapshot, held: before, running: [])
            else {
                Issue.record("expected a store")
                return
            }
            #expect(next.state.workloads[Sample.id] == meant && nacks.isEmpty)
        }
    }

    @Test func `a tombstone's wild numbers do no harm, and many purges at once are asked about`() {
        var wild = Sample.desired(.removed, generation: 2)
        wild.spec.resources.bandwidth = .init(egressKbps: .max, ingressKbps: .min)
        wild.spec.resources.volumeMB = .max
        wild.spec.expiresAt = -.infinity
        guard
            case .store(let next, let nacks) = DesiredStateIntake().deltaReceived(
                delta(3, 4, [.workload(wild)]), held: held(3), running: running)
        else {
            Issue.record("expected a store")
            return
        }
        let kept = next.state.workloads[Sample.id]
        #expect(kept?.wish == .removed && kept?.spec.resources == Resources() && kept?.spec.expiresAt == nil)
        #expect(nacks.isEmpty)

        func purges(_ count: Int) -> DesiredStateIntake.Verdict {
            let items = (0..<count).map { number in
                var workload = Sample.desired(.removed, generation: 1)
                workload.id = WorkloadID(validated: "w\(number)")
                workload.spec.volumes = []
                workload.purgesVolumes = true
                return DesiredItem.workload(workload)
            }
            let snapshot = ControlPlaneMessage.Snapshot(
                revision: Revision(9), digest: Fingerprint(text: "x"), items: items)
            return DesiredStateIntake().snapshotReceived(snapshot, held: held(3), running: running)
        }
        if case .store = purges(10) {} else { Issue.record("ten are done") }
        guard case .askToConfirm(let candidates) = purges(11) else {
            Issue.record("eleven are asked about")
            return
        }
        #expect(candidates.workloads.count == 11)
        var living = Sample.desired(generation: 2)
        living.purgesVolumes = true
        #expect(living.problem?.contains("purgesVolumes") == true, "only what is wanted removed can lose its data")
    }

    @Test func `the same revision with other content is reported, not applied`() {
        let snapshot = ControlPlaneMessage.Snapshot(revision: Revision(3), digest: Fingerprint(text: "else"), items: [])
        guard case .refuse = DesiredStateIntake().snapshotReceived(snapshot, held: held(3), running: running) else {
            Issue.record("must be refused")
            return
        }
    }

    @Test func `a bad item is refused alone and keeps its last good version`() {
        var bad = Sample.desired(generation: 2)
        bad.spec.volumes = [VolumeMount(volume: "berth-somebody-else", path: "/root")]
        let other = Sample.desired(spec: WorkloadSpec(name: "o", image: "alpine"), id: WorkloadID(validated: "other"))
        let snapshot = ControlPlaneMessage.Snapshot(
            revision: Revision(4), digest: Fingerprint(text: "x"),
            items: [.workload(bad), .workload(other), .unreadable(id: nil, problem: "garbage")])
        guard
            case .store(let next, let nacks) = DesiredStateIntake().snapshotReceived(
                snapshot, held: held(3), running: running)
        else {
            Issue.record("expected a store")
            return
        }
        #expect(next.state.workloads[Sample.id] == Sample.desired())
        #expect(next.state.workloads[other.id] == other)
        #expect(nacks.count == 2 && nacks.contains { $0.workload == Sample.id })
        #expect(next.digest == Fingerprint(text: "x") && !next.isExact)
    }

    @Test func `what a snapshot does not mention is carried on`() {
        let snapshot = ControlPlaneMessage.Snapshot(
            revision: Revision(9), digest: Fingerprint(text: "empty"), items: [])
        guard
            case .store(let next, _) = DesiredStateIntake().snapshotReceived(snapshot, held: held(3), running: running)
        else {
            Issue.record("expected a store")
            return
        }
        #expect(next.state.workloads[Sample.id] == Sample.desired())
    }

    @Test func `removing most of what runs waits until it is confirmed`() {
        let all = (0..<10).map {
            Sample.desired(spec: WorkloadSpec(name: "w", image: "alpine"), id: WorkloadID(validated: "w\($0)"))
        }
        let state = held(3, all)
        func removing(_ count: Int) -> ControlPlaneMessage.Snapshot {
            let items = all.enumerated().map { index, workload in
                var changed = workload
                if index < count {
                    changed.wish = .removed
                    changed.generation += 1
                }
                return DesiredItem.workload(changed)
            }
            return .init(revision: Revision(4), digest: Fingerprint(text: "d"), items: items)
        }
        let everything = Set(all.map(\.id))
        var intake = DesiredStateIntake()
        guard case .store = intake.snapshotReceived(removing(3), held: state, running: everything) else {
            Issue.record("three may go")
            return
        }
        guard
            case .askToConfirm(let candidates) = intake.snapshotReceived(removing(4), held: state, running: everything)
        else {
            Issue.record("four of ten must be confirmed")
            return
        }
        #expect(candidates.workloads.count == 4)
        intake.removalConfirmed(Revision(4))
        guard case .store = intake.snapshotReceived(removing(4), held: state, running: everything) else {
            Issue.record("confirmed removals go through")
            return
        }
    }
}

@Suite struct SessionValues {
    @Test func `reconnecting waits longer each time, and starts over only after a stable session`() {
        var backoff = ReconnectBackoff()
        func delay(_ ending: ReconnectBackoff.Ending, _ random: Double) -> Int {
            backoff.ended(ending, random: random).count
        }
        let delays = (0..<10).map { _ in delay(.unreachable, 0.999_999) }
        #expect(delays.prefix(3) == [499, 999, 1999] && delays.last == 59_999)
        #expect(delay(.closed, 0.5) == 30_000)
        backoff.sessionWasStable()
        #expect(delay(.closed, 0.999_999) == 499)
        #expect(delay(.askedToWait(seconds: 60), 0) == 60_000)
        #expect(delay(.notAccepted, 0) == 60_000)
        #expect((0..<8).map { _ in delay(.askedToWait(seconds: 0), 0.999) }.last.map { $0 > 10_000 } == true)
        let refused = (0..<10).map { _ in delay(.notAccepted, 0) }
        #expect(refused.last == 3_600_000)
    }

    @Test func `the latest status of each workload is sent until acknowledged, and all of it in a new session`() {
        var outbox = StatusOutbox()
        var status = WorkloadStatus(workload: Sample.id, generation: 1, phase: .creating)
        let news = (outbox.report(status), outbox.report(status))
        #expect(news == (true, false))
        status.phase = .running
        let isNew = outbox.report(status)
        let batches = (outbox.nextToSend(), outbox.nextToSend())
        #expect(isNew && batches.0?.items == [status] && batches.1 == nil)
        outbox.sessionStarted()
        let again = outbox.nextToSend()
        #expect(again == .init(batch: 1, items: [status]))
        let unknown = outbox.acknowledged(batch: 7)
        #expect(unknown == [])
        status.phase = .removed
        _ = outbox.report(status)
        let last = outbox.nextToSend()
        let done = outbox.acknowledged(batch: last?.batch ?? 0)
        #expect(done == [Sample.id] && outbox.statuses.isEmpty)
    }

    @Test func `idle is the time since the cpu was busy, and unknown at first`() {
        var estimate = IdleEstimate()
        var counter = 0
        func sample(_ second: Int, busy: Bool, reset: String = "r") -> Double? {
            counter += busy ? 5_000_000 : 10_000
            return estimate.sampled(
                cpuMicroseconds: counter, resetID: reset, at: MonotonicInstant(milliseconds: second * 1000)
            )
            .idleSeconds
        }
        #expect(sample(0, busy: false) == nil)
        for second in 1...5 { _ = sample(second * 10, busy: true) }
        #expect(sample(60, busy: false) == 0)
        for second in 7...10 { _ = sample(second * 10, busy: false) }
        #expect(sample(110, busy: false).map { $0 >= 30 } == true)
        #expect(sample(120, busy: false, reset: "new") == nil)
    }
}

/// The history on its way.
@Suite struct HistoryOutbox {
    private func record(_ number: Int) -> ActionRecord {
        ActionRecord(
            number: number, at: 1, workload: Sample.id, generation: 1, action: "start", reason: "", result: .succeeded)
    }

    @Test func `records are sent until they are kept, and all of the others again in a new session`() {
        var outbox = EventOutbox()
        for number in 1...150 { outbox.add(record(number)) }
        #expect(outbox.nextToSend()?.items.map(\.number) == Array(1...100))
        outbox.acknowledged(upTo: 100)
        #expect(outbox.nextToSend()?.items.map(\.number) == Array(101...150))
        #expect(outbox.nextToSend() == nil)
        outbox.sessionStarted()
        #expect(outbox.nextToSend()?.items.map(\.number) == Array(101...150))
        outbox.acknowledged(upTo: .max)
        outbox.sessionStarted()
        #expect(outbox.nextToSend() == nil)
    }

    @Test func `the oldest make room, and their number is said`() {
        var outbox = EventOutbox()
        for number in 1...(EventOutbox.limit + 7) { outbox.add(record(number)) }
        let first = outbox.nextToSend()
        #expect(first?.items.first?.number == 8 && first?.dropped == 7)
    }
}
