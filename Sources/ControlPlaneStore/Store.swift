package import BerthModel
package import ControlPlaneCore
import FoundationEssentials

/// The truth of the control plane. What a call has returned survives a power cut.
package struct Store: Sendable {
    let database: any SQLDatabase
    /// By the hash of their text; void ones are not remembered.
    private let tokens = ReadMemory<String, Identity>(most: 10_000)

    /// Whom a token stands for; shared by all that remember it.
    private final class Identity: Sendable {
        let (token, user): (TokenRecord, UserRecord)

        init(_ token: TokenRecord, _ user: UserRecord) { (self.token, self.user) = (token, user) }
    }

    /// Nil where finding out costs as much as reading.
    package func version() -> StoreVersion? { database.version() }

    init(_ database: any SQLDatabase) { self.database = database }

    /// - Parameter migrates: brings its tables up to date; false for what must leave it as it is.
    /// - Throws: what is wrong with the file, the server, or the tables.
    package static func open(_ place: DatabasePlace, migrates: Bool = true) async throws -> Store {
        let database: any SQLDatabase
        switch place {
        case .sqlite(let path): database = try SQLiteDatabase(path: path)
        case .postgres(let address, let connections):
            database = PostgresDatabase(try PostgresLibrary.shared.get(), address, connections: connections)
        }
        if migrates { try await database.migrate() }
        return Store(database)
    }

    /// What the control planes on one database tell each other; nil where it can have but one.
    package func noticeChannel() -> (any NoticeChannel)? { (database as? PostgresDatabase)?.noticeChannel() }

    // MARK: users

    package enum UserCreation: Hashable, Sendable { case created, nameTaken }

    package func create(_ user: UserRecord, now: Double) async throws -> UserCreation {
        try await database.write { database in
            if try database.exists("SELECT 1 FROM account WHERE name = ?", [user.name]) {
                return .nameTaken
            }
            try Self.insert(user, now: now, database)
            return .created
        }
    }

    /// The first user and their token come to be together, or not at all.
    ///
    /// - Returns: false where there is a user already: another control plane may have come first.
    package func createFirst(_ user: UserRecord, _ token: TokenRecord, hash: String, now: Double) async throws -> Bool {
        try await database.write { database in
            guard try !database.exists("SELECT 1 FROM account") else { return false }
            try Self.insert(user, now: now, database)
            try Rows.insert(token, hash: hash, database)
            return true
        }
    }

    private static func insert(_ user: UserRecord, now: Double, _ database: any SQLConnection) throws {
        try database.execute(
            "INSERT INTO account (id, name, email, tier, is_admin, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            [user.id, user.name, user.email, user.tier.rawValue, user.isAdmin, now])
    }

    package func user(named name: String) async throws -> UserRecord? {
        try await database.read { database in
            try database.row("SELECT * FROM account WHERE name = ?", [name]).map(Rows.user)
        }
    }

    /// The user whom an issuer knows as `subject`; made where they are seen for the first time.
    ///
    /// - Parameters:
    ///   - name: as the issuer has it; where somebody else has it already, the new user's id.
    ///   - id: of a new user.
    package func user(
        ofIssuer issuer: String, subject: String, name: String, email: String, tier: Tier, id: String, now: Double
    ) async throws -> UserRecord {
        let find = "SELECT * FROM account WHERE issuer = ? AND subject = ?"
        if let known = try await database.read({ database in
            try database.row(find, [issuer, subject]).map(Rows.user)
        }) {
            return known
        }
        return try await database.write { database in
            if let row = try database.row(find, [issuer, subject]) { return Rows.user(row) }
            let isTaken = try database.exists("SELECT 1 FROM account WHERE name = ?", [name])
            let user = UserRecord(
                id: id, name: isTaken || !(1...128).contains(name.utf8.count) ? id : name, email: email,
                tier: tier, isAdmin: false)
            try Self.insert(user, now: now, database)
            try database.execute("UPDATE account SET issuer = ?, subject = ? WHERE id = ?", [issuer, subject, id])
            return user
        }
    }

    package func hasUsers() async throws -> Bool {
        try await database.read { try $0.exists("SELECT 1 FROM account") }
    }

    /// In the order of their names.
    package func users() async throws -> [UserRecord] {
        try await database.read { try $0.rows("SELECT * FROM account ORDER BY name").map(Rows.user) }
    }

    /// What exists keeps its limits; the next creation has the new tier's, and the next start its session.
    ///
    /// - Returns: false where there is no such user.
    package func setTier(_ tier: Tier, ofUserNamed name: String) async throws -> Bool {
        try await database.write { database in
            try database.execute("UPDATE account SET tier = ? WHERE name = ?", [tier.rawValue, name]) > 0
        }
    }

    // MARK: the tables

    /// Names of the schema's steps that were taken.
    package func migrations() async throws -> [String] { try await database.migrations() }

    /// - Throws: `StoreFailure` where the tables are not of this version.
    package func requireUpToDate() async throws { try await database.requireAllSteps() }

    /// A consistent copy, while others read and write.
    ///
    /// - Parameter path: of a file that is not there yet.
    /// - Throws: for PostgreSQL, which has tools of its own for it.
    package func backUp(to path: String) throws {
        guard let file = database as? SQLiteDatabase else {
            throw StoreFailure.unavailable("a copy of a PostgreSQL database is made with pg_dump")
        }
        try file.backUp(to: path)
    }

    // MARK: tokens

    /// - Parameter hash: of the text, hexadecimal.
    package func create(_ token: TokenRecord, hash: String) async throws {
        try await database.write { try Rows.insert(token, hash: hash, $0) }
    }

    /// Nil where no such token exists, it is revoked or expired, or its agent is deleted. Notes its use once a minute.
    ///
    /// - Returns: with them the version of the store from before it was looked at.
    package func authenticate(
        hash: String, now: Double
    ) async throws -> (token: TokenRecord, user: UserRecord, version: StoreVersion?)? {
        let version = database.version()
        let found = try await tokens.value(hash, at: version?.tokens) {
            try await database.read { database -> Identity? in
                guard
                    let row = try database.row(
                        """
                        SELECT token.* FROM token LEFT JOIN agent ON agent.id = token.agent_id
                        WHERE token.hash = ? AND token.revoked_at IS NULL AND agent.deleted_at IS NULL
                        """, [hash])
                else { return nil }
                let token = Rows.token(row)
                guard let user = try database.row("SELECT * FROM account WHERE id = ?", [token.userID]) else {
                    return nil
                }
                return Identity(token, Rows.user(user))
            }
        }
        guard let found, found.token.expiresAt.map({ $0 > now }) ?? true else { return nil }
        if now - (found.token.lastUsedAt ?? 0) > 60 {
            // For people to see; nobody is refused for the sake of it.
            _ = try? await database.write(.soon) { database in
                try database.execute("UPDATE token SET last_used_at = ? WHERE id = ?", [now, found.token.id])
            }
        }
        return (found.token, found.user, version)
    }

    package func tokens(of user: String) async throws -> [TokenRecord] {
        try await database.read { database in
            try database.rows(
                "SELECT * FROM token WHERE user_id = ? AND revoked_at IS NULL AND agent_id IS NULL ORDER BY created_at DESC",
                [user]
            ).map(Rows.token)
        }
    }

    /// - Returns: false where the user has no such token.
    package func revokeToken(_ id: String, of user: String, now: Double) async throws -> Bool {
        try await database.write { database in
            try database.execute(
                "UPDATE token SET revoked_at = ? WHERE id = ? AND user_id = ? AND revoked_at IS NULL", [now, id, user])
                > 0
        }
    }

    /// How many there are.
    package func revokedTokens() async throws -> Int {
        try await database.read {
            try $0.value(Int.self, "SELECT COUNT(*) FROM token WHERE revoked_at IS NOT NULL") ?? 0
        }
    }

    // MARK: agents

    /// Agent and token come to be together.
    package func register(_ agent: AgentRecord, token: TokenRecord, hash: String) async throws {
        try await database.write { database in
            try database.execute(
                """
                INSERT INTO agent (id, user_id, name, details, tags, is_shared, host, revision, epoch, created_at, last_seen_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    agent.id.text, agent.userID, agent.name, agent.details, try Rows.json(agent.tags), agent.isShared,
                    try Rows.json(agent.host), agent.revision.number, agent.epoch, agent.createdAt, agent.lastSeenAt,
                ])
            try Rows.insert(token, hash: hash, database)
        }
    }

    package func agents(of user: String) async throws -> [AgentRecord] {
        try await database.read { database in
            try database.rows(
                "SELECT * FROM agent WHERE user_id = ? AND deleted_at IS NULL ORDER BY created_at DESC", [user]
            ).map(Rows.agent)
        }
    }

    package func agent(_ id: AgentID) async throws -> AgentRecord? {
        try await database.read { try Self.agent(id, $0) }
    }

    package func deletedAgents(among ids: Set<AgentID>) async throws -> Set<AgentID> {
        try await database.read { database in
            let places = Array(repeating: "?", count: ids.count).joined(separator: ", ")
            return Set(
                try database.values(
                    String.self, "SELECT id FROM agent WHERE id IN (\(places)) AND deleted_at IS NOT NULL",
                    ids.map(\.text)
                ).map { AgentID(validated: $0) })
        }
    }

    package enum AgentChange: Hashable, Sendable {
        /// As it is now, or as it was last.
        case changed(AgentRecord)
        case notFound
        /// Its owner's second factor keeps it as it is.
        case locked
        /// That of the owner of a container on it does.
        case containerLocked
    }

    /// What is nil stays.
    package func update(_ id: AgentID, name: String?, details: String?, tags: [String]?) async throws -> AgentChange {
        let tags = try tags.map { try Rows.json($0) }
        return try await changing { database, remember in
            guard let agent = try Self.agent(id, database) else { return .notFound }
            if agent.isLocked { return .locked }
            try database.execute(
                """
                UPDATE agent SET name = COALESCE(?, name), details = COALESCE(?, details), tags = COALESCE(?, tags)
                WHERE id = ?
                """, [name, details, tags, id.text])
            try remember()
            return try Self.agent(id, database).map { .changed($0) } ?? .notFound
        }
    }

    /// Its tokens are void from the same moment. Its containers stay where they are, on the host: one of its owner's that is
    /// locked keeps it, for nobody could reach that one any more. Others have no hold on a host that is shared with them.
    package func deleteAgent(_ id: AgentID, now: Double) async throws -> AgentChange {
        try await changing { database, remember in
            guard let agent = try Self.agent(id, database) else { return .notFound }
            if agent.isLocked { return .locked }
            let holdsLocked = try database.exists(
                "SELECT 1 FROM container WHERE agent_id = ? AND user_id = ? AND mfa_locked AND deleted_at IS NULL",
                [id.text, agent.userID])
            if holdsLocked { return .containerLocked }
            try database.execute("UPDATE agent SET deleted_at = ? WHERE id = ?", [now, id.text])
            try database.execute(
                "UPDATE token SET revoked_at = ? WHERE agent_id = ? AND revoked_at IS NULL", [now, id.text])
            try remember()
            return .changed(agent)
        }
    }

    private static func agent(_ id: AgentID, _ database: any SQLConnection) throws -> AgentRecord? {
        try database.row("SELECT * FROM agent WHERE id = ? AND deleted_at IS NULL", [id.text]).map(Rows.agent)
    }

    /// - Parameter epoch: of the session that it came over; nil takes any.
    package func update(_ host: HostDescription, of agent: AgentID, epoch: Int? = nil) async throws {
        let json = try Rows.json(host)
        _ = try await database.write { database in
            guard try Rows.isCurrent(epoch, of: agent, database) else { return }
            try database.execute("UPDATE agent SET host = ? WHERE id = ?", [json, agent.text])
        }
    }

    package struct SessionOpened: Hashable, Sendable {
        package var epoch: Int
        package var agent: AgentRecord
    }

    /// Raises the epoch, so that the newest session wins. Where the agent holds a later revision than this store knows,
    /// as after a restore from a backup, the store goes beyond it: a revision never means two things.
    ///
    /// - Parameter server: the control plane that the session is with.
    package func openSession(
        _ id: AgentID, host: HostDescription, heldRevision: Revision, server: String, now: Double
    ) async throws -> SessionOpened? {
        try await database.write { database in
            try database.execute(
                """
                UPDATE agent SET epoch = epoch + 1, server_id = ?, host = ?, last_seen_at = ?,
                    revision = CASE WHEN ? > revision THEN ? + 1 ELSE revision END
                WHERE id = ? AND deleted_at IS NULL
                """, [server, try Rows.json(host), now, heldRevision.number, heldRevision.number, id.text])
            guard
                let row = try database.row("SELECT * FROM agent WHERE id = ? AND deleted_at IS NULL", [id.text])
            else { return nil }
            let agent = Rows.agent(row)
            return SessionOpened(epoch: agent.epoch, agent: agent)
        }
    }

    // MARK: desired state

    /// The same under a new revision.
    package func raiseRevision(of agent: AgentID) async throws {
        _ = try await database.write { try Rows.raiseRevision(of: agent, $0) }
    }

    /// Containers that an agent may speak of.
    package func workloads(of agent: AgentID) async throws -> Set<WorkloadID> {
        try await database.read { database in
            let ids = try database.values(
                String.self, "SELECT id FROM container WHERE agent_id = ? AND deleted_at IS NULL", [agent.text])
            return Set(ids.map { WorkloadID(validated: $0) })
        }
    }

    /// All that is wanted of an agent: its containers, and the tombstones that it has not confirmed.
    package func desiredState(of agent: AgentID) async throws -> DesiredState {
        try await database.read { database in
            let revision = try database.value(Int.self, "SELECT revision FROM agent WHERE id = ?", [agent.text])
            let rows = try database.rows(
                "SELECT * FROM container WHERE agent_id = ? AND removed_at IS NULL", [agent.text])
            return DesiredState(
                revision: Revision(revision ?? 0), workloads: Rows.readable(rows).map(\.desired))
        }
    }
}
