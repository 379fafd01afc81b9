package import BerthModel
import ControlPlaneCore
import GRDB

extension SQLiteStore {
    package enum ContainerCreation: Hashable, Sendable {
        case created(ContainerRecord)
        /// The same idempotency key made this one before.
        case repeated(ContainerRecord)
        case limitReached(current: Int)
        case nameTaken
    }

    /// Counts, checks the name, chooses the host and inserts in one transaction: parallel creates never exceed the limit,
    /// and of two with one name exactly one succeeds.
    ///
    /// - Parameters:
    ///   - container: without an agent; one is chosen here.
    ///   - online: agents that are connected now.
    package func create(
        _ container: ContainerRecord, limit: Int, idempotencyKey: String?, wanted: AgentID?, online: Set<AgentID>
    ) async throws -> ContainerCreation {
        try await pool.write { database in
            if let idempotencyKey,
                let row = try Row.fetchOne(
                    database,
                    sql: "SELECT * FROM container WHERE user_id = ? AND idempotency_key = ? AND deleted_at IS NULL",
                    arguments: [container.userID, idempotencyKey])
            {
                return .repeated(try Rows.container(row))
            }
            let nameTaken = try Bool.fetchOne(
                database,
                sql: "SELECT EXISTS (SELECT 1 FROM container WHERE user_id = ? AND name = ? AND deleted_at IS NULL)",
                arguments: [container.userID, container.spec.name])
            if nameTaken == true { return .nameTaken }
            let current =
                try Int.fetchOne(
                    database, sql: "SELECT COUNT(*) FROM container WHERE user_id = ? AND deleted_at IS NULL",
                    arguments: [container.userID]) ?? 0
            if current >= limit { return .limitReached(current: current) }

            var placed = container
            switch Placement.choose(
                among: try Self.candidates(for: container.userID, online: online, database), for: container.spec,
                wanted: wanted)
            {
            case .agent(let agent): placed.agent = agent
            case .none(let reason): placed.placement = reason
            }
            let revision = try Rows.raiseRevision(of: placed.agent, database)
            try database.execute(
                sql: """
                    INSERT INTO container (id, user_id, agent_id, name, image, role, generation, wish, spec, memory_mb,
                        cpu_millicores, changed_revision, ever_ran, placement, wanted_agent_id, idempotency_key, created_at, last_used_at,
                        expires_at)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    placed.id.text, placed.userID, placed.agent?.text, placed.spec.name, placed.image, placed.role,
                    placed.generation, placed.wish.rawValue, try Rows.json(placed.spec), placed.spec.resources.memoryMB,
                    placed.spec.resources.cpuMillicores, revision, false, placed.placement, wanted?.text,
                    idempotencyKey,
                    placed.createdAt, placed.lastUsedAt, placed.spec.expiresAt,
                ])
            return .created(placed)
        }
    }

    private static func candidates(
        for user: String, online: Set<AgentID>, _ database: Database
    ) throws -> [Placement.Candidate] {
        let rows = try Row.fetchAll(
            database,
            sql: """
                SELECT agent.*, COUNT(c.id) AS containers,
                    COALESCE(SUM(MIN(c.memory_mb, json_extract(agent.host, '$.capacity.memoryMB'))), 0) AS sum_memory
                FROM agent LEFT JOIN container c ON c.agent_id = agent.id AND c.deleted_at IS NULL
                WHERE agent.deleted_at IS NULL AND (agent.user_id = ? OR agent.is_shared)
                GROUP BY agent.id
                """, arguments: [user])
        return rows.map { row in
            let agent = Rows.agent(row)
            return Placement.Candidate(
                agent: agent.id, name: agent.name, isOnline: online.contains(agent.id),
                runtimes: agent.host.engine?.runtimes ?? [], capacity: agent.host.capacity,
                reservedMemoryMB: row["sum_memory"], containers: row["containers"])
        }
    }

    /// Gives a host to containers that had none, oldest first.
    ///
    /// - Returns: those that have one now.
    package func placeWaiting(online: Set<AgentID>) async throws -> [ContainerRecord] {
        try await pool.write { database in
            let rows = try Row.fetchAll(
                database,
                sql:
                    "SELECT * FROM container WHERE agent_id IS NULL AND deleted_at IS NULL ORDER BY created_at LIMIT 200"
            )
            var placed: [ContainerRecord] = []
            for row in rows {
                var container = try Rows.container(row)
                let candidates = try Self.candidates(for: container.userID, online: online, database)
                let wanted = (row["wanted_agent_id"] as String?).map { AgentID(validated: $0) }
                let agent: AgentID
                switch Placement.choose(among: candidates, for: container.spec, wanted: wanted) {
                case .agent(let chosen): agent = chosen
                case .none(let reason):
                    if reason != container.placement {
                        try database.execute(
                            sql: "UPDATE container SET placement = ? WHERE id = ?",
                            arguments: [reason, container.id.text])
                    }
                    continue
                }
                container.agent = agent
                container.placement = nil
                let revision = try Rows.raiseRevision(of: agent, database)
                try database.execute(
                    sql: "UPDATE container SET agent_id = ?, changed_revision = ?, placement = NULL WHERE id = ?",
                    arguments: [agent.text, revision, container.id.text])
                placed.append(container)
            }
            return placed
        }
    }

    /// Newest first.
    package func containers(of user: String) async throws -> [ContainerRecord] {
        try await pool.read { database in
            try Row.fetchAll(
                database,
                sql:
                    "SELECT * FROM container WHERE user_id = ? AND deleted_at IS NULL ORDER BY created_at DESC, id DESC",
                arguments: [user]
            ).map(Rows.container)
        }
    }

    package func container(_ id: WorkloadID) async throws -> ContainerRecord? {
        try await pool.read { database in
            try Row.fetchOne(database, sql: "SELECT * FROM container WHERE id = ?", arguments: [id.text]).map(
                Rows.container)
        }
    }

    package enum Lookup: Hashable, Sendable {
        case found(ContainerRecord)
        case notFound
        case ambiguous
    }

    /// By database id, Docker id, or a prefix of at least 12 characters of either. Only what `user` owns exists.
    package func find(_ text: String, of user: String) async throws -> Lookup {
        guard WorkloadID(text) != nil else { return .notFound }
        return try await pool.read { database in
            let pattern = text.utf8.count >= 12 ? text + "%" : text
            let rows = try Row.fetchAll(
                database,
                sql: """
                    SELECT * FROM container WHERE user_id = ? AND deleted_at IS NULL
                        AND (id = ? OR engine_id = ? OR id LIKE ? OR engine_id LIKE ?) LIMIT 2
                    """, arguments: [user, text, text, pattern, pattern])
            guard let first = rows.first else { return .notFound }
            if rows.count > 1 {
                let exact = rows.first { $0["id"] == text || $0["engine_id"] == text }
                return try exact.map { .found(try Rows.container($0)) } ?? .ambiguous
            }
            return .found(try Rows.container(first))
        }
    }

    package enum ContainerChange: Hashable, Sendable {
        case changed(ContainerRecord)
        case notFound
        case nameTaken
        /// Its owner's second factor keeps it as it is.
        case locked
    }

    /// Changes what is wanted of a container and raises its generation and its agent's revision, in one transaction.
    ///
    /// - Parameters:
    ///   - respectsLock: false for what nobody asks for, as the end of a session.
    ///   - change: called with the row as it is now, never with an older one.
    package func change(
        _ id: WorkloadID, now: Double, respectsLock: Bool = true,
        _ change: @escaping @Sendable (inout ContainerRecord) -> Void
    ) async throws -> ContainerChange {
        try await pool.write { database in
            guard
                let row = try Row.fetchOne(
                    database, sql: "SELECT * FROM container WHERE id = ? AND deleted_at IS NULL", arguments: [id.text])
            else { return .notFound }
            let before = try Rows.container(row)
            if respectsLock, before.isLocked { return .locked }
            var container = before
            change(&container)
            if container.spec.name != before.spec.name {
                let taken = try Bool.fetchOne(
                    database,
                    sql:
                        "SELECT EXISTS (SELECT 1 FROM container WHERE user_id = ? AND name = ? AND deleted_at IS NULL AND id <> ?)",
                    arguments: [container.userID, container.spec.name, id.text])
                if taken == true { return .nameTaken }
            }
            guard container != before else { return .changed(container) }
            container.generation = before.generation + 1
            container.lastUsedAt = now
            let revision = try Rows.raiseRevision(of: container.agent, database)
            // Without a host there is nothing to remove there.
            let removedAt = container.wish == .removed && container.agent == nil ? now : nil
            try database.execute(
                sql: """
                    UPDATE container SET name = ?, generation = ?, wish = ?, spec = ?, memory_mb = ?, cpu_millicores = ?,
                        changed_revision = ?, last_used_at = ?, deleted_at = ?, removed_at = ?
                    WHERE id = ?
                    """,
                arguments: [
                    container.spec.name, container.generation, container.wish.rawValue, try Rows.json(container.spec),
                    container.spec.resources.memoryMB, container.spec.resources.cpuMillicores, revision,
                    container.lastUsedAt, container.deletedAt, removedAt, id.text,
                ])
            return .changed(container)
        }
    }

    /// One status that was stored, with what it replaced.
    package struct StatusChange: Hashable, Sendable {
        package var before: WorkloadStatus?
        package var container: ContainerRecord
    }

    /// Stores what an agent said of its own workloads; of others it may not speak. A status of an older generation than
    /// the one stored is dropped: the observed generation never goes back.
    package func record(_ statuses: [WorkloadStatus], from agent: AgentID, now: Double) async throws -> [StatusChange] {
        try await pool.write { database in
            var changes: [StatusChange] = []
            for status in statuses {
                guard
                    let row = try Row.fetchOne(
                        database, sql: "SELECT * FROM container WHERE id = ? AND agent_id = ?",
                        arguments: [status.workload.text, agent.text])
                else { continue }
                var container = try Rows.container(row)
                let before = container.observed
                if status.generation > container.generation || status.generation < (before?.generation ?? 0) {
                    continue
                }
                var latest = status
                // Gone from the host, known to its owner: the id stays until there is a new one.
                latest.engineContainer = status.engineContainer ?? before?.engineContainer
                // An agent that lost its memory may know less than was true before; never more than it accepted.
                latest.observedGeneration = min(
                    latest.generation, max(latest.observedGeneration, before?.observedGeneration ?? 0))
                container.observed = latest
                container.everRan = container.everRan || status.startedAt != nil
                // An agent that does not know how to let go of volumes does not say that it did: it is told again.
                let isRemoved =
                    status.phase == .removed && container.wish == .removed && status.generation == container.generation
                    && (!container.isPurged || status.isPurged == true)
                try database.execute(
                    sql: """
                        UPDATE container SET observed = ?, engine_id = ?, ever_ran = ?,
                            removed_at = CASE WHEN ? THEN ? ELSE removed_at END,
                            purged_at = CASE WHEN ? THEN ? ELSE purged_at END WHERE id = ?
                        """,
                    arguments: [
                        try Rows.json(latest), latest.engineContainer?.text, container.everRan, isRemoved, now,
                        isRemoved && container.isPurged, now,
                        status.workload.text,
                    ])
                changes.append(StatusChange(before: before, container: container))
            }
            return changes
        }
    }

    /// An agent's desired state, and what of it changed after `revision`, tombstones included.
    package func changes(of agent: AgentID, after revision: Revision) async throws -> (DesiredState, [DesiredWorkload])
    {
        try await pool.read { database in
            let current =
                try Int.fetchOne(database, sql: "SELECT revision FROM agent WHERE id = ?", arguments: [agent.text]) ?? 0
            let rows = try Row.fetchAll(
                database,
                sql: "SELECT * FROM container WHERE agent_id = ? AND (removed_at IS NULL OR changed_revision > ?)",
                arguments: [agent.text, revision.number])
            let all = DesiredState(
                revision: Revision(current),
                workloads: try rows.filter { $0["removed_at"] as Double? == nil }.map { try Rows.container($0).desired }
            )
            let changed = try rows.filter { ($0["changed_revision"] as Int) > revision.number }.map {
                try Rows.container($0).desired
            }
            return (all, changed)
        }
    }
}
