package import AgentCore
package import BerthModel
import FoundationEssentials
package import Logging
import ServiceRuntime

/// The accepted desired state on disk: one file with a checksum, and the one before it. What cannot be read is set aside
/// under a dated name and reported; the agent goes on with the previous copy, or with nothing, which removes nothing.
package struct DesiredStateStore: Sendable {
    private struct Stored: Codable {
        var schema: Int
        /// Of the program that stored it; nil from one that did not say.
        var version: String?
        /// Whose state it is: another agent's would start its workloads here.
        var agent: AgentID
        var checksum: Fingerprint
        var held: HeldDesiredState
    }

    private static let schema = 1
    private let path: String
    private let agent: AgentID
    private var previousPath: String { path + ".previous" }

    package init(directory: String, agent: AgentID) {
        path = directory + "/desired.json"
        self.agent = agent
    }

    /// Returns when the state survives a power cut.
    package func save(_ held: HeldDesiredState) throws {
        let data = try JSONCoding.encode(
            Stored(
                schema: Self.schema, version: BerthVersion.text, agent: agent, checksum: checksum(held), held: held))
        if DurableFile.exists(path) { try DurableFile.rename(path, to: previousPath) }
        try DurableFile.write(data, to: path)
    }

    /// Never throws: a state that cannot be read must not keep the agent from starting.
    package func load(log: Logger) -> HeldDesiredState {
        for candidate in [path, previousPath] where DurableFile.exists(candidate) {
            do {
                return try read(candidate)
            } catch {
                let aside = "\(candidate).unreadable-\(Int(Timestamp.now()))"
                try? DurableFile.rename(candidate, to: aside)
                log.error(
                    "desired state cannot be read; set aside", metadata: ["file": "\(aside)", "error": "\(error)"])
            }
        }
        return .nothing
    }

    private func read(_ path: String) throws -> HeldDesiredState {
        let stored = try JSONCoding.decode(Stored.self, from: try DurableFile.read(path))
        guard stored.schema <= Self.schema else {
            throw ProgramFailure(.dataError, "schema \(stored.schema) is newer than this program's \(Self.schema)")
        }
        guard stored.agent == agent else {
            throw ProgramFailure(.dataError, "it is the state of another agent, \(stored.agent)")
        }
        guard stored.checksum == checksum(stored.held) else {
            throw ProgramFailure(.dataError, "the checksum does not match")
        }
        var held = stored.held
        // Another version may have left out what it did not know, under a digest that says that all is there. With this one
        // the control plane sends all of it again.
        if stored.version != BerthVersion.text { held.digest = Fingerprint(text: "of another version") }
        return held
    }

    private func checksum(_ held: HeldDesiredState) -> Fingerprint {
        var hasher = Fingerprint.Hasher()
        hasher.combine(agent.text)
        hasher.combine(held.state.digest.text)
        hasher.combine(held.digest.text)
        return hasher.finalize()
    }
}
