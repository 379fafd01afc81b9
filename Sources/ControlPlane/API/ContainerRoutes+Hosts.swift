import BerthModel
import ControlPlaneCore

/// The field `agent` of a creation: which hosts may have the container.
extension ContainerRoutes {
    /// An `agent:` id, the id alone as `POST /api/agents/register` gives it, or labels.
    static func hosts(_ text: String) throws -> HostWish {
        let isID =
            text.hasPrefix("agent:") || text.wholeMatch(of: /[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/) != nil
        if isID, let id = agentID(text) ?? AgentID(text) { return HostWish(agent: id) }
        if !isID, let labels = LabelSelector(text) { return HostWish(labels: labels) }
        throw APIError.badField("agent", "\"\(text.prefix(80))\"", expected: LabelSelector.expected)
    }
}
