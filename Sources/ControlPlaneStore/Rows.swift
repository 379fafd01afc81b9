import BerthModel
import ControlPlaneCore
import FoundationEssentials

/// Between rows and values.
enum Rows {
    static func json(_ value: some Encodable) throws -> String {
        String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
    }

    static func value<Value: Decodable>(_ text: String) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(text.utf8))
    }

    static func user(_ row: SQLRow) -> UserRecord {
        UserRecord(
            id: row["id"], name: row["name"], email: row["email"], tier: Tier(rawValue: row["tier"]) ?? .guest,
            isAdmin: row["is_admin"])
    }

    static func token(_ row: SQLRow) -> TokenRecord {
        let scopes: String = row["scopes"]
        let agent: String? = row["agent_id"]
        return TokenRecord(
            id: row["id"], userID: row["user_id"], name: row["name"], prefix: row["prefix"],
            scopes: Set(scopes.split(separator: " ").compactMap { Scope(rawValue: String($0)) }),
            agent: agent.map { AgentID(validated: $0) }, createdAt: row["created_at"], expiresAt: row["expires_at"],
            lastUsedAt: row["last_used_at"])
    }

    static func insert(_ token: TokenRecord, hash: String, _ database: any SQLConnection) throws {
        try database.execute(
            """
            INSERT INTO token (id, user_id, agent_id, name, prefix, hash, scopes, created_at, expires_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                token.id, token.userID, token.agent?.text, token.name, token.prefix, hash,
                token.scopes.map(\.rawValue).sorted().joined(separator: " "), token.createdAt, token.expiresAt,
            ])
    }

    static func agent(_ row: SQLRow) -> AgentRecord {
        AgentRecord(
            id: AgentID(validated: row["id"]), userID: row["user_id"], name: row["name"], details: row["details"],
            tags: (try? value(row["tags"])) ?? [], isShared: row["is_shared"],
            host: (try? value(row["host"])) ?? HostDescription(), revision: Revision(row["revision"]),
            epoch: row["epoch"], createdAt: row["created_at"], lastSeenAt: row["last_seen_at"],
            frozenAt: row["frozen_at"], isLocked: row["mfa_locked"])
    }

    static func container(_ row: SQLRow) throws -> ContainerRecord {
        let agent: String? = row["agent_id"]
        let observed: String? = row["observed"]
        return ContainerRecord(
            id: WorkloadID(validated: row["id"]), userID: row["user_id"],
            agent: agent.map { AgentID(validated: $0) }, image: row["image"], role: row["role"],
            generation: row["generation"], wish: DesiredWorkload.Wish(rawValue: row["wish"]) ?? .stopped,
            spec: try value(row["spec"]), observed: try observed.map { try value($0) }, everRan: row["ever_ran"],
            placement: row["placement"], createdAt: row["created_at"], lastUsedAt: row["last_used_at"],
            deletedAt: row["deleted_at"], isPurged: row["purges"], isLocked: row["mfa_locked"])
    }

    /// Those that can be read: one that cannot (of a later version, or damaged) must not hold up the others. Whoever asks
    /// for it alone hears of it.
    static func readable(_ rows: [SQLRow]) -> [ContainerRecord] { rows.compactMap { try? container($0) } }

    /// A control plane of an earlier version, which knows no other wishes, finds no such host: what it places stays where it is.
    static func wantedAgent(_ wish: HostWish) throws -> String? {
        try wish.agent?.text ?? (hostWish(wish) == nil ? nil : "see host_wish")
    }

    /// Nil where `wanted_agent_id` says it all.
    static func hostWish(_ wish: HostWish) throws -> String? {
        wish == HostWish(agent: wish.agent) ? nil : try json(wish)
    }

    static func hostWish(_ row: SQLRow) throws -> HostWish {
        if let text: String = row["host_wish"] { return try value(text) }
        let agent: String? = row["wanted_agent_id"]
        return HostWish(agent: agent.map { AgentID(validated: $0) })
    }

    /// Raises the revision of an agent's desired state; rows that carry the new one are what changed with it.
    static func raiseRevision(of agent: AgentID?, _ database: any SQLConnection) throws -> Int {
        guard let agent else { return 0 }
        return try database.value(
            Int.self, "UPDATE agent SET revision = revision + 1 WHERE id = ? RETURNING revision", [agent.text]) ?? 0
    }

    /// - Parameter epoch: of a session of `agent`; nil stands for any.
    static func isCurrent(_ epoch: Int?, of agent: AgentID, _ database: any SQLConnection) throws -> Bool {
        guard let epoch else { return true }
        return try database.exists("SELECT 1 FROM agent WHERE id = ? AND epoch = ?", [agent.text, epoch])
    }
}
