package import BerthModel

/// What the agent holds: the state it acts on, and the digest of the state as its control plane described it. The two
/// differ where an item was refused or a snapshot left out a workload that is carried on.
package struct HeldDesiredState: Hashable, Sendable, Codable {
    package var state: DesiredState
    package var digest: Fingerprint

    package init(state: DesiredState, digest: Fingerprint) {
        self.state = state
        self.digest = digest
    }

    package static let nothing = HeldDesiredState(state: .empty, digest: DesiredState.empty.digest)

    /// True where what is acted on is what the control plane described.
    package var isExact: Bool { state.digest == digest }
}
