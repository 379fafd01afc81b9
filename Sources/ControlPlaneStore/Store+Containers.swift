package import BerthModel
package import ControlPlaneCore

extension Store {
    package enum ContainerCreation: Hashable, Sendable {
        case created(ContainerRecord)
        /// The same idempotency key made this one before.
        case repeated(ContainerRecord)
        case limitReached(current: Int)
        case nameTaken
    }

    /// Counts, checks the name and the room on the chosen host, and inserts, in one transaction: parallel creates never
    /// exceed the limit, and of two with one name exactly one succeeds.
    ///
    /// - Parameters:
    ///   - container: without an agent; one is chosen here.
    ///   - online: agents that are connected now.
    package func create(
        _ container: ContainerRecord, limit: Int, idempotencyKey: String?, wish: HostWish = .any, online: Set<AgentID>
    ) async throws -> ContainerCreation {
        var waiting = container
        // Where nobody is there, there is nothing to look at beforehand.
        if !online.isEmpty || wish != .any {
            for _ in 0..<Self.mostChoices {
                let placed = try await place(container, wish: wish, online: online)
                if let outcome = try await insert(placed, limit: limit, idempotencyKey: idempotencyKey, wish: wish) {
                    return outcome
                }
            }
            // Whoever looks at those that wait chooses for one after the other.
            waiting.placement = Self.overtaken
        }
        guard let outcome = try await insert(waiting, limit: limit, idempotencyKey: idempotencyKey, wish: wish) else {
            preconditionFailure("a container without a host has room")
        }
        return outcome
    }

    /// - Parameter container: with a host, with the reason why it has none, or with neither where no host is connected.
    /// - Returns: nil where the chosen host has no room any more.
    private func insert(
        _ container: ContainerRecord, limit: Int, idempotencyKey: String?, wish: HostWish
    ) async throws -> ContainerCreation? {
        try await changing(making: container.id.text) { database, remember in
            if let idempotencyKey,
                let row = try database.row(
                    "SELECT * FROM container WHERE user_id = ? AND idempotency_key = ? AND deleted_at IS NULL",
                    [container.userID, idempotencyKey])
            {
                return .repeated(try Rows.container(row))
            }
            let others = try database.row(
                """
                SELECT COUNT(*) AS count, COUNT(CASE WHEN name = ? THEN 1 END) AS namesakes
                FROM container WHERE user_id = ? AND deleted_at IS NULL
                """, [container.spec.name, container.userID])
            if let others, (others["namesakes"] as Int) > 0 { return .nameTaken }
            if let others, (others["count"] as Int) >= limit { return .limitReached(current: others["count"]) }
            var container = container
            switch container.agent {
            case let agent?: guard try Self.hasRoom(agent, for: container.spec, database) else { return nil }
            case nil:
                let reason = try container.placement ?? Self.nobodyOnline(for: container.userID, database)
                container.placement = reason
            }
            let revision = try Rows.raiseRevision(of: container.agent, database)
            try database.execute(
                """
                INSERT INTO container (id, user_id, agent_id, name, image, role, generation, wish, spec, memory_mb,
                    cpu_millicores, changed_revision, ever_ran, placement, wanted_agent_id, host_wish, idempotency_key,
                    created_at, last_used_at, expires_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    container.id.text, container.userID, container.agent?.text, container.spec.name, container.image,
                    container.role, container.generation, container.wish.rawValue, container.spec.rowText,
                    container.spec.resources.memoryMB, container.spec.resources.cpuMillicores, revision, false,
                    container.placement, try Rows.wantedAgent(wish), try Rows.hostWish(wish), idempotencyKey,
                    container.createdAt,
                    container.lastUsedAt,
                    container.spec.expiresAt,
                ])
            try remember()
            return .created(container)
        }
    }

    /// Newest first.
    package func containers(of user: String) async throws -> [ContainerRecord] {
        try await database.read { database in
            try database.rows(
                "SELECT * FROM container WHERE user_id = ? AND deleted_at IS NULL ORDER BY created_at DESC, id DESC",
                [user]
            ).map(Rows.container)
        }
    }

    package func container(_ id: WorkloadID) async throws -> ContainerRecord? {
        try await database.read { database in
            try database.row("SELECT * FROM container WHERE id = ?", [id.text]).map(
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
        return try await database.read { database in
            let rows = try database.rows(
                "SELECT * FROM container WHERE user_id = ? AND deleted_at IS NULL AND \(Self.isNamed) LIMIT 2",
                [user] + Self.isNamed(text))
            guard let first = rows.first else { return .notFound }
            if rows.count > 1 {
                let exact = rows.first { $0["id"] == text || $0["engine_id"] == text }
                return try exact.map { .found(try Rows.container($0)) } ?? .ambiguous
            }
            return .found(try Rows.container(first))
        }
    }

    /// Whether a row is meant by an id, or by a prefix of at least 12 characters of one.
    static let isNamed = """
        (? IN (id, engine_id)
            OR ? IN (SUBSTR(id, 1, CAST(? AS INTEGER)), SUBSTR(engine_id, 1, CAST(? AS INTEGER))))
        """

    /// The arguments of `isNamed`.
    static func isNamed(_ text: String) -> [any SQLArgument] {
        let length = text.utf8.count
        // No prefix of an id has more characters than the id.
        return [text, text, length >= 12 ? length : 0, length >= 12 ? length : 0]
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
    ///   - respectsLock: false for what nobody asks for, as the end of a session: that is no use of it either.
    ///   - change: called with the row as it is now, never with an older one.
    package func change(
        _ id: WorkloadID, now: Double, respectsLock: Bool = true,
        _ change: @escaping @Sendable (inout ContainerRecord) -> Void
    ) async throws -> ContainerChange {
        try await changing { database, remember in
            guard
                let row = try database.row("SELECT * FROM container WHERE id = ? AND deleted_at IS NULL", [id.text])
            else { return .notFound }
            let before = try Rows.container(row)
            if respectsLock, before.isLocked { return .locked }
            var container = before
            change(&container)
            if container.spec.name != before.spec.name {
                let taken = try database.exists(
                    "SELECT 1 FROM container WHERE user_id = ? AND name = ? AND deleted_at IS NULL AND id <> ?",
                    [container.userID, container.spec.name, id.text])
                if taken { return .nameTaken }
            }
            guard container != before else { return .changed(container) }
            container.generation = before.generation + 1
            if respectsLock { container.lastUsedAt = now }
            let revision = try Rows.raiseRevision(of: container.agent, database)
            // Without a host there is nothing to remove there.
            let removedAt = container.wish == .removed && container.agent == nil ? now : nil
            try database.execute(
                """
                UPDATE container SET name = ?, generation = ?, wish = ?, spec = ?, memory_mb = ?, cpu_millicores = ?,
                    changed_revision = ?, last_used_at = ?, deleted_at = ?, removed_at = ?, expires_at = ?
                WHERE id = ?
                """,
                [
                    container.spec.name, container.generation, container.wish.rawValue, container.spec.rowText,
                    container.spec.resources.memoryMB, container.spec.resources.cpuMillicores, revision,
                    container.lastUsedAt, container.deletedAt, removedAt, container.spec.expiresAt, id.text,
                ])
            try remember()
            return .changed(container)
        }
    }

    /// Nobody need confirm it, and nothing begins anew by it: the generation stays.
    ///
    /// - Parameter until: seconds since 1970 UTC.
    /// - Returns: nil where it is not there any more.
    package func keepAlive(_ id: WorkloadID, until: Double, now: Double) async throws -> ContainerRecord? {
        try await changing { database, remember in
            guard
                let row = try database.row("SELECT * FROM container WHERE id = ? AND deleted_at IS NULL", [id.text])
            else { return nil }
            var container = try Rows.container(row)
            container.spec.heldUntil = until
            container.lastUsedAt = now
            let revision = try Rows.raiseRevision(of: container.agent, database)
            try database.execute(
                "UPDATE container SET spec = ?, changed_revision = ?, last_used_at = ? WHERE id = ?",
                [container.spec.rowText, revision, now, id.text])
            try remember()
            return container
        }
    }

    /// One status that was stored, with what it replaced.
    package struct StatusChange: Hashable, Sendable {
        package var before: WorkloadStatus?
        package var container: ContainerRecord
    }

    /// Stores what an agent said of its own workloads; of others it may not speak. A status of an older generation than
    /// the one stored is dropped: the observed generation never goes back.
    ///
    /// - Parameter epoch: of the session that it came over; what an older one still brings is not stored. Nil takes any.
    package func record(
        _ statuses: [WorkloadStatus], from agent: AgentID, epoch: Int? = nil, now: Double
    ) async throws -> [StatusChange] {
        try await database.write { database in
            guard try Rows.isCurrent(epoch, of: agent, database) else { return [] }
            var changes: [StatusChange] = []
            for status in statuses {
                guard
                    let row = try database.row(
                        "SELECT * FROM container WHERE id = ? AND agent_id = ?", [status.workload.text, agent.text])
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
                // What nothing is left of has no need of its secrets either.
                let bare = isRemoved && container.isPurged ? container.desired.spec.rowText : nil
                try database.execute(
                    """
                    UPDATE container SET observed = ?, engine_id = ?, ever_ran = ?, spec = COALESCE(?, spec),
                        removed_at = CASE WHEN ? THEN ? ELSE removed_at END,
                        purged_at = CASE WHEN ? THEN ? ELSE purged_at END WHERE id = ?
                    """,
                    [
                        try Rows.json(latest), latest.engineContainer?.text, container.everRan, bare, isRemoved, now,
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
        try await database.read { database in
            let current =
                try database.value(Int.self, "SELECT revision FROM agent WHERE id = ?", [agent.text]) ?? 0
            // Two looks, each by an index of its own: rows stay for long, and most are of what is gone.
            let present = try database.rows(
                "SELECT * FROM container WHERE agent_id = ? AND removed_at IS NULL", [agent.text])
            let changed = try database.rows(
                "SELECT * FROM container WHERE agent_id = ? AND changed_revision > ?", [agent.text, revision.number])
            let all = DesiredState(
                revision: Revision(current), workloads: Rows.readable(present).map(\.desired))
            return (all, Rows.readable(changed).map(\.desired))
        }
    }
}
