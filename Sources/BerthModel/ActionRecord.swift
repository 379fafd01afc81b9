/// Something that was done to a workload on its host, or that happened to it, with the reason: one line of its history.
package struct ActionRecord: Hashable, Sendable, Codable {
    package enum Result: String, Hashable, Sendable, Codable {
        case succeeded, failed, cancelled
        /// Done already, or overtaken.
        case superseded
        /// Nobody did it: it happened.
        case observed
    }

    /// Counts the records of one agent process, from 1.
    package var number: Int
    /// Seconds since 1970 UTC by the host's clock.
    package var at: Double
    package var workload: WorkloadID
    package var generation: Generation
    /// For example `start 0123456789ab`, `died`.
    package var action: String
    package var reason: String
    package var result: Result
    /// What went wrong; never holds a secret.
    package var error: String?
    /// How long it took.
    package var milliseconds: Int

    package init(
        number: Int, at: Double, workload: WorkloadID, generation: Generation, action: String, reason: String,
        result: Result, error: String? = nil, milliseconds: Int = 0
    ) {
        self.number = number
        self.at = at
        self.workload = workload
        self.generation = generation
        self.action = action
        self.reason = reason
        self.result = result
        self.error = error
        self.milliseconds = milliseconds
    }
}
