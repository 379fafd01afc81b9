import BerthModel

/// Where requests wait until the agent has answered a generation, bounded by time.
actor ConfirmationDesk {
    enum Answer: Hashable, Sendable {
        /// The agent has answered, well or badly.
        case settled
        /// The time is over, or the caller has left.
        case timeOver
        /// It may have answered unheard: look, then wait again.
        case maybe
    }

    private struct Waiter {
        var generation: Generation
        var continuation: CheckedContinuation<Answer, Never>
    }

    private var waiters: [WorkloadID: [Int: Waiter]] = [:]
    private var next = 0

    /// Waits for the agent's answer to `generation`.
    func wait(for workload: WorkloadID, generation: Generation, atMost limit: Duration) async -> Answer {
        let id = next
        next += 1
        let timer = Task {
            try await Task.sleep(for: limit)
            self.end(workload, id, .timeOver)
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                waiters[workload, default: [:]][id] = Waiter(generation: generation, continuation: continuation)
            }
        } onCancel: {
            Task { await self.end(workload, id, .timeOver) }
        }
    }

    /// The agent has answered `generation`, well or badly.
    func settled(_ workload: WorkloadID, generation: Generation) {
        for (id, waiter) in waiters[workload] ?? [:] where waiter.generation <= generation {
            end(workload, id, .settled)
        }
    }

    func checkAll() {
        for workload in waiters.keys {
            for id in (waiters[workload] ?? [:]).keys { end(workload, id, .maybe) }
        }
    }

    private func end(_ workload: WorkloadID, _ id: Int, _ answer: Answer) {
        guard let waiter = waiters[workload]?.removeValue(forKey: id) else { return }
        if waiters[workload]?.isEmpty == true { waiters[workload] = nil }
        waiter.continuation.resume(returning: answer)
    }
}
