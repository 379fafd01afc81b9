import AgentProtocol
import BerthModel

/// Where requests wait for the answer to a command of theirs, bounded by time.
actor OperationDesk {
    private var waiting: [String: CheckedContinuation<AgentMessage.OpResult?, Never>] = [:]

    /// Says the command and waits for its answer.
    ///
    /// - Returns: nil where none came in time, or the caller has left.
    func ask(
        _ kind: ControlPlaneMessage.Command.Kind, _ workload: WorkloadID, through outgoing: AgentOutgoing
    ) async -> AgentMessage.OpResult? {
        await ask(atMost: .seconds(5)) { op in
            await outgoing.say(.command(.init(op: op, kind: kind, workload: workload)))
        }
    }

    /// - Parameter say: called with the id that the answer must bear.
    func ask(
        atMost limit: Duration, _ say: @escaping @Sendable (String) async -> Void
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
                Task { await say(op) }
            }
        } onCancel: {
            Task { await self.end(op, with: nil) }
        }
    }

    /// An answer that nobody waits for any more is dropped.
    func answered(_ op: String, _ result: AgentMessage.OpResult?) { end(op, with: result) }

    private func end(_ op: String, with result: AgentMessage.OpResult?) {
        waiting.removeValue(forKey: op)?.resume(returning: result)
    }
}
