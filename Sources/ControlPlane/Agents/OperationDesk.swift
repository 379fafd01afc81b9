import AgentProtocol
import BerthModel

/// Where requests wait for the answer to a command of theirs, bounded by time.
actor OperationDesk {
    private var waiting: [String: CheckedContinuation<AgentMessage.OpResult?, Never>] = [:]

    /// Says the command and waits for its answer.
    ///
    /// - Returns: nil where none came in time, or the caller has left.
    func ask(
        _ kind: ControlPlaneMessage.Command.Kind, _ workload: WorkloadID, through outgoing: AgentOutgoing,
        atMost limit: Duration = .seconds(5)
    ) async -> AgentMessage.OpResult? {
        let op = Secrets.newUUID()
        let timer = Task {
            try await Task.sleep(for: limit)
            self.end(op, with: nil)
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                waiting[op] = continuation
                Task { await outgoing.say(.command(.init(op: op, kind: kind, workload: workload))) }
            }
        } onCancel: {
            Task { await self.end(op, with: nil) }
        }
    }

    /// An answer that nobody waits for any more is dropped.
    func answered(_ result: AgentMessage.OpResult) { end(result.op, with: result) }

    private func end(_ op: String, with result: AgentMessage.OpResult?) {
        waiting.removeValue(forKey: op)?.resume(returning: result)
    }
}
