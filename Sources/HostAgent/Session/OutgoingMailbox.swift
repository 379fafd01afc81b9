import AgentCore
package import AgentProtocol
package import BerthModel
package import NIOCore
package import ServiceRuntime

/// Everything that is to be said to the control plane, bounded: statuses by workload, kept until acknowledged; progress,
/// samples and the rest by their latest. Survives sessions.
package actor OutgoingMailbox {
    private let time: MonotonicTime
    private let eventLoop: any EventLoop
    private var outbox = StatusOutbox()
    private var history = EventOutbox()
    private var progress: [WorkloadID: WorkloadProgress] = [:]
    private var progressSent: [WorkloadID: MonotonicInstant] = [:]
    private var samples: [ActivitySample]?
    private var hostStats: HostStats?
    private var others: [AgentMessage] = []
    private(set) var acknowledgedInSession = false

    package nonisolated let doorbell = Doorbell()

    package init(time: MonotonicTime, eventLoop: any EventLoop) {
        self.time = time
        self.eventLoop = eventLoop
    }

    /// - Returns: true where the status said something new.
    package func report(_ status: WorkloadStatus) -> Bool {
        guard outbox.report(status) else { return false }
        switch status.phase {
        case .running, .stopped, .failed, .removed:
            progress[status.workload] = nil
            progressSent[status.workload] = nil
        default: break
        }
        doorbell.ring()
        return true
    }

    package func progress(_ progress: WorkloadProgress) {
        self.progress[progress.workload] = progress
        doorbell.ring()
    }

    package func sampled(_ samples: [ActivitySample], host: HostStats) {
        self.samples = samples
        hostStats = host
        doorbell.ring()
    }

    /// Answers that belong to this session.
    package func say(_ message: AgentMessage) {
        guard others.count < 1000 else { return }
        others.append(message)
        doorbell.ring()
    }

    package func happened(_ record: ActionRecord) {
        history.add(record)
        doorbell.ring()
    }

    package func historyKept(upTo number: Int) { history.acknowledged(upTo: number) }

    package func sessionStarted() {
        outbox.sessionStarted()
        history.sessionStarted()
        others = []
        acknowledgedInSession = false
        doorbell.ring()
    }

    /// - Returns: workloads whose removal is confirmed by both ends.
    package func acknowledged(batch: Int) -> [WorkloadID] {
        acknowledgedInSession = true
        return outbox.acknowledged(batch: batch)
    }

    /// What is due now, in the order of its importance.
    package func drain() -> [AgentMessage] {
        var messages = others
        others = []
        let now = time.now
        var nextDue: MonotonicInstant?
        for (workload, latest) in progress {
            let due =
                progressSent[workload].map { $0 + Milliseconds(ProtocolLimits.progressIntervalMilliseconds) } ?? now
            if due <= now {
                messages.append(.progress(latest))
                progress[workload] = nil
                progressSent[workload] = now
            } else {
                nextDue = min(nextDue ?? due, due)
            }
        }
        while let batch = outbox.nextToSend() { messages.append(.status(batch)) }
        while let events = history.nextToSend() { messages.append(.events(events)) }
        if let samples, !samples.isEmpty { messages.append(.activity(samples: samples)) }
        samples = nil
        if let hostStats { messages.append(.stats(hostStats)) }
        hostStats = nil
        if let nextDue {
            let doorbell = doorbell
            eventLoop.scheduleTask(in: .milliseconds(Int64((nextDue - now).count))) { doorbell.ring() }
        }
        return messages
    }
}
