package import BerthModel

/// A session of an agent with some control plane.
package struct AgentPresence: Hashable, Sendable, Codable {
    package var agent: AgentID
    /// The user whose agent it is.
    package var owner: String
    package var name: String
    /// Grows with each session of the agent: the highest is the one that counts.
    package var epoch: Int
    /// The control plane.
    package var server: String

    package init(agent: AgentID, owner: String, name: String, epoch: Int, server: String) {
        self.agent = agent
        self.owner = owner
        self.name = name
        self.epoch = epoch
        self.server = server
    }
}

/// Which agents are connected, to whichever control plane. Every control plane tells it the same in the same order, so all
/// come to the same conclusions.
package struct AgentPresences: Hashable, Sendable {
    package private(set) var all: [AgentID: AgentPresence] = [:]

    package init() {}

    package enum Opening: Hashable, Sendable {
        /// The agent was not connected before.
        case connected
        /// The agent left another session for it, or it is the same one again.
        case replaced
        /// A newer one is known: nothing is to be done.
        case outdated
    }

    package mutating func opened(_ presence: AgentPresence) -> Opening {
        guard let known = all[presence.agent] else {
            all[presence.agent] = presence
            return .connected
        }
        guard presence.epoch >= known.epoch else { return .outdated }
        all[presence.agent] = presence
        return .replaced
    }

    /// - Returns: the session that was over; nil where the agent has a newer one, or none.
    package mutating func closed(_ agent: AgentID, epoch: Int) -> AgentPresence? {
        guard let known = all[agent], known.epoch <= epoch else { return nil }
        return all.removeValue(forKey: agent)
    }

    package func with(_ server: String) -> [AgentPresence] {
        all.values.filter { $0.server == server }.sorted { $0.agent < $1.agent }
    }
}
