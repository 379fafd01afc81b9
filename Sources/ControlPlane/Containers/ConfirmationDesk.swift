import BerthModel

/// Where requests wait until the agent has answered a generation, bounded by time.
actor ConfirmationDesk {
    private struct Waiter {
        var generation: Generation
        var continuation: CheckedContinuation<Bool, Never>
    }

    private var waiters: [WorkloadID: [Int: Waiter]] = [:]
    private var next = 0

    /// - Returns: true where the agent has answered `generation`, false where the time is over or the caller has left.
    func wait(for workload: WorkloadID, generation: Generation, atMost limit: Duration) async -> Bool {
        let id = next
        next += 1
        let timer = Task {
            try await Task.sleep(for: limit)
            self.end(workload, id, confirmed: false)
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                waiters[workload, default: [:]][id] = Waiter(generation: generation, continuation: continuation)
            }
        } onCancel: {
            Task { await self.end(workload, id, confirmed: false) }
        }
    }

    /// The agent has answered `generation`, well or badly.
    func settled(_ workload: WorkloadID, generation: Generation) {
        for (id, waiter) in waiters[workload] ?? [:] where waiter.generation <= generation {
            end(workload, id, confirmed: true)
        }
    }

    private func end(_ workload: WorkloadID, _ id: Int, confirmed: Bool) {
        guard let waiter = waiters[workload]?.removeValue(forKey: id) else { return }
        if waiters[workload]?.isEmpty == true { waiters[workload] = nil }
        waiter.continuation.resume(returning: confirmed)
    }
}
