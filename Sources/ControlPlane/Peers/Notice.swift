import AgentProtocol
import BerthModel
import ControlPlaneCore
import ServiceRuntime

/// What one control plane tells all, itself included. A truth that must not be lost is in the store; this says that it has
/// changed, or carries what lives in memory alone.
enum Notice: Hashable, Sendable, Codable {
    /// A control plane is there.
    case alive
    /// A control plane ends in order; its agents come back elsewhere.
    case leaving
    /// An event for the streams of one user.
    case event(user: String, type: String, data: JSONValue)
    /// The store holds something new for an agent.
    case desiredStateChanged(AgentID)
    /// An agent has answered a generation of a workload; for good where it is removed.
    case settled(WorkloadID, generation: Generation, isRemoved: Bool)
    case progress(WorkloadID, owner: String, generation: Generation, ProgressScale.Shown)
    case stats(AgentID, owner: String, HostStats)
    case activity([ActivitySample])
    /// A session has begun.
    /// - process: which of the agent's processes it is with.
    /// - entry: the agent as listings show it.
    case opened(AgentPresence, process: String, entry: JSONValue)
    /// A session is over.
    case closed(AgentID, epoch: Int)
    /// Whoever has the agent's session ends it.
    case disconnect(AgentID, ControlPlaneMessage.Goodbye)
    /// Whoever has the agent's session asks it, and answers under the same number.
    case explain(op: String, WorkloadID, on: AgentID)
    case answered(op: String, AgentMessage.OpResult?)
    /// A container waits for a host, and whoever asked for it may not know of all that are there.
    case placementWanted
    /// The sender could not say all that it had to say.
    case missed
    /// A token is void.
    case revoked(token: String)
}

/// A notice on its way.
struct NoticeEnvelope: Hashable, Sendable, Codable {
    /// The control plane that sends it.
    var from: String
    /// When, in seconds since 1970 UTC.
    var at: Double
    var notice: Notice
}
