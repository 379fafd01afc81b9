/// Of the host of a container.
enum HostState: Hashable, Sendable {
    case online
    /// Away, or not chosen yet.
    case offline
    /// Its agent was deleted: whatever is on it stays there, and nobody hears of it.
    case gone
}
