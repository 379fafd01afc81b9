package import BerthModel
import ControlPlaneCore

/// Which host takes which container. Chosen by a look at hosts that a user may use, which is no part of a transaction that
/// writes; what the choice rests on is checked again where it is stored.
extension Store {
    /// So often a host is chosen that is full by the time it is stored.
    static let mostChoices = 8
    /// Why a container waits for which a host is to be looked for again.
    package static let overtaken = "hosts fill up faster than one can be chosen"
    /// Waiting containers that one round looks at together.
    private static let page = 200

    func place(
        _ container: ContainerRecord, wish: HostWish, online: Set<AgentID>
    ) async throws -> ContainerRecord {
        // As the ids begin, all of them alike.
        let digits = String(UInt32.random(in: .min ... .max), radix: 16)
        let start = String(repeating: "0", count: 8 - digits.utf8.count) + digits
        let verdict = try await database.read { database in
            try Self.choose(container, wish, online: online, from: start, database)
        }
        var placed = container
        switch verdict {
        case .agent(let agent): placed.agent = agent
        case .none(let reason): placed.placement = reason
        }
        return placed
    }

    /// What the choice of `agent` rests on, as it is in this transaction.
    static func hasRoom(_ agent: AgentID, for spec: WorkloadSpec, _ database: any SQLConnection) throws -> Bool {
        guard
            let row = try database.row("SELECT * FROM agent WHERE id = ? AND deleted_at IS NULL", [agent.text])
        else { return false }
        let capacity = Rows.agent(row).host.capacity
        var reserved = 0
        for row in try database.rows(
            """
            SELECT memory_mb, COUNT(*) AS containers FROM container WHERE agent_id = ? AND deleted_at IS NULL
            GROUP BY memory_mb
            """, [agent.text])
        {
            reserved += min(row["memory_mb"] as Int, capacity.memoryMB) * (row["containers"] as Int)
        }
        return Placement.hasRoom(capacity, reservedMemoryMB: reserved, for: spec.resources)
    }

    private struct Waiting: Sendable {
        var container: ContainerRecord
        var wish: HostWish
    }

    /// Where a look at the waiting containers goes on.
    package struct WaitingPage: Hashable, Sendable {
        fileprivate var createdAt: Double
        fileprivate var id: String

        package static let first = WaitingPage(createdAt: -1, id: "")
    }

    package struct PlacementOutcome: Hashable, Sendable {
        /// Those that have a host now.
        package var placed: [ContainerRecord] = []
        /// A chosen host was full by the time that the choice was stored: another look may find another.
        package var isOutdated = false
        /// Nil behind the last.
        package var next: WaitingPage?
    }

    /// Gives a host to containers that had none, oldest first, a page at a time.
    package func placeWaiting(_ page: WaitingPage, online: Set<AgentID>) async throws -> PlacementOutcome {
        let (waiting, candidates, next) = try await database.read { database in
            let rows = try database.rows(
                """
                SELECT * FROM container WHERE agent_id IS NULL AND deleted_at IS NULL
                    AND (created_at > ? OR (created_at = ? AND id > ?)) ORDER BY created_at, id LIMIT ?
                """, [page.createdAt, page.createdAt, page.id, Self.page])
            // One that cannot be read must not hold up the others.
            let waiting = rows.compactMap { row in
                try? Waiting(container: Rows.container(row), wish: Rows.hostWish(row))
            }
            let next =
                rows.count < Self.page
                ? nil : rows.last.map { WaitingPage(createdAt: $0["created_at"], id: $0["id"]) }
            let users = Set(waiting.map(\.container.userID))
            let candidates = try Self.candidates(forEachOf: users, online: online, database)
            return (waiting, candidates, next)
        }
        var outcome = try await store(Self.choices(for: waiting, among: candidates))
        outcome.next = next
        return outcome
    }

    /// Only those for which something is new: a host, or another reason for none.
    private static func choices(
        for waiting: [Waiting], among candidates: [String: [Placement.Candidate]]
    ) -> [ContainerRecord] {
        // By agent, not by user: a shared host is one for all of them.
        var promised: [AgentID: (memoryMB: Int, containers: Int)] = [:]
        return waiting.compactMap { waiting in
            var container = waiting.container
            let hosts = (candidates[container.userID] ?? []).map { host in
                var host = host
                host.reservedMemoryMB += promised[host.agent]?.memoryMB ?? 0
                host.containers += promised[host.agent]?.containers ?? 0
                return host
            }
            switch Placement.choose(among: hosts, for: container.spec, wish: waiting.wish) {
            case .none(let reason) where reason == container.placement: return nil
            case .none(let reason): container.placement = reason
            case .agent(let agent):
                (container.agent, container.placement) = (agent, nil)
                let capacity = hosts.first { $0.agent == agent }?.capacity.memoryMB ?? 0
                promised[agent, default: (0, 0)].memoryMB += min(container.spec.resources.memoryMB, capacity)
                promised[agent, default: (0, 0)].containers += 1
            }
            return container
        }
    }

    private func store(_ choices: [ContainerRecord]) async throws -> PlacementOutcome {
        guard !choices.isEmpty else { return PlacementOutcome() }
        return try await database.write { database in
            var outcome = PlacementOutcome()
            for container in choices {
                let unplaced = "id = ? AND agent_id IS NULL AND deleted_at IS NULL"
                guard let agent = container.agent else {
                    try database.execute(
                        "UPDATE container SET placement = ? WHERE \(unplaced)",
                        [container.placement, container.id.text])
                    continue
                }
                // Deleted meanwhile, or placed by another control plane.
                guard try database.exists("SELECT 1 FROM container WHERE \(unplaced)", [container.id.text]) else {
                    continue
                }
                guard try Self.hasRoom(agent, for: container.spec, database) else {
                    outcome.isOutdated = true
                    continue
                }
                let revision = try Rows.raiseRevision(of: agent, database)
                try database.execute(
                    "UPDATE container SET agent_id = ?, changed_revision = ?, placement = NULL WHERE id = ?",
                    [agent.text, revision, container.id.text])
                outcome.placed.append(container)
            }
            return outcome
        }
    }
}
