package import BerthModel
package import ControlPlaneCore
import FoundationEssentials
import GRDB

/// The truth of the control plane, in one SQLite file. What a call has returned survives a power cut.
package struct SQLiteStore: Sendable {
    let pool: DatabasePool

    /// Opens or creates the file.
    ///
    /// - Parameter migrates: brings its tables up to date; false for what must leave it as it is.
    package init(path: String, migrates: Bool = true) throws {
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        configuration.foreignKeysEnabled = true
        pool = try DatabasePool(path: path, configuration: configuration)
        // The pool sets NORMAL on its writer after opening it; a 202 must mean that the row is on disk.
        try pool.barrierWriteWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
        }
        if migrates { try Schema.migrator.migrate(pool) }
    }

    // MARK: users

    package enum UserCreation: Hashable, Sendable { case created, nameTaken }

    package func create(_ user: UserRecord, now: Double) async throws -> UserCreation {
        try await pool.write { database in
            if try Bool.fetchOne(
                database, sql: "SELECT EXISTS (SELECT 1 FROM user WHERE name = ?)", arguments: [user.name]) == true
            {
                return .nameTaken
            }
            try Self.insert(user, now: now, database)
            return .created
        }
    }

    /// The first user and their token come to be together, or not at all.
    package func createFirst(_ user: UserRecord, _ token: TokenRecord, hash: String, now: Double) async throws {
        try await pool.write { database in
            guard try Bool.fetchOne(database, sql: "SELECT EXISTS (SELECT 1 FROM user)") == false else { return }
            try Self.insert(user, now: now, database)
            try Rows.insert(token, hash: hash, database)
        }
    }

    private static func insert(_ user: UserRecord, now: Double, _ database: Database) throws {
        try database.execute(
            sql: "INSERT INTO user (id, name, email, tier, is_admin, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            arguments: [user.id, user.name, user.email, user.tier.rawValue, user.isAdmin, now])
    }

    package func user(named name: String) async throws -> UserRecord? {
        try await pool.read { database in
            try Row.fetchOne(database, sql: "SELECT * FROM user WHERE name = ?", arguments: [name]).map(Rows.user)
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
        let find = "SELECT * FROM user WHERE issuer = ? AND subject = ?"
        if let known = try await pool.read({ database in
            try Row.fetchOne(database, sql: find, arguments: [issuer, subject]).map(Rows.user)
        }) {
            return known
        }
        return try await pool.write { database in
            if let row = try Row.fetchOne(database, sql: find, arguments: [issuer, subject]) { return Rows.user(row) }
            let isTaken = try Bool.fetchOne(
                database, sql: "SELECT EXISTS (SELECT 1 FROM user WHERE name = ?)", arguments: [name])
            let user = UserRecord(
                id: id, name: isTaken == true || !(1...128).contains(name.utf8.count) ? id : name, email: email,
                tier: tier, isAdmin: false)
            try Self.insert(user, now: now, database)
            try database.execute(
                sql: "UPDATE user SET issuer = ?, subject = ? WHERE id = ?", arguments: [issuer, subject, id])
            return user
        }
    }

    package func hasUsers() async throws -> Bool {
        try await pool.read { try Bool.fetchOne($0, sql: "SELECT EXISTS (SELECT 1 FROM user)") ?? false }
    }

    /// In the order of their names.
    package func users() async throws -> [UserRecord] {
        try await pool.read { try Row.fetchAll($0, sql: "SELECT * FROM user ORDER BY name").map(Rows.user) }
    }

    /// What exists keeps its limits and its session; the next creation has the new tier's.
    ///
    /// - Returns: false where there is no such user.
    package func setTier(_ tier: Tier, ofUserNamed name: String) async throws -> Bool {
        try await pool.write { database in
            try database.execute(sql: "UPDATE user SET tier = ? WHERE name = ?", arguments: [tier.rawValue, name])
            return database.changesCount > 0
        }
    }

    // MARK: the file

    /// Names of the schema's steps that were taken.
    package func migrations() async throws -> [String] {
        try await pool.read { try Schema.migrator.appliedMigrations($0) }
    }

    /// A consistent copy, while others read and write.
    ///
    /// - Parameter path: of a file that is not there yet.
    package func backUp(to path: String) throws {
        let copy = try DatabaseQueue(path: path)
        try pool.backup(to: copy)
        // The copy is one file: without it, what opens it would make two more beside it.
        try copy.writeWithoutTransaction { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
        try copy.close()
    }

    // MARK: tokens

    /// - Parameter hash: of the text, hexadecimal.
    package func create(_ token: TokenRecord, hash: String) async throws {
        try await pool.write { try Rows.insert(token, hash: hash, $0) }
    }

    /// Nil where no such token exists, it is revoked or expired, or its agent is deleted. Notes its use once a minute.
    package func authenticate(hash: String, now: Double) async throws -> (token: TokenRecord, user: UserRecord)? {
        let found = try await pool.read { database -> (TokenRecord, UserRecord)? in
            guard
                let row = try Row.fetchOne(
                    database,
                    sql: """
                        SELECT token.* FROM token LEFT JOIN agent ON agent.id = token.agent_id
                        WHERE token.hash = ? AND token.revoked_at IS NULL AND agent.deleted_at IS NULL
                            AND (token.expires_at IS NULL OR token.expires_at > ?)
                        """, arguments: [hash, now])
            else { return nil }
            let token = Rows.token(row)
            guard
                let user = try Row.fetchOne(database, sql: "SELECT * FROM user WHERE id = ?", arguments: [token.userID])
            else { return nil }
            return (token, Rows.user(user))
        }
        if let (token, _) = found, now - (token.lastUsedAt ?? 0) > 60 {
            try await pool.write { database in
                try database.execute(sql: "UPDATE token SET last_used_at = ? WHERE id = ?", arguments: [now, token.id])
            }
        }
        return found
    }

    package func tokens(of user: String) async throws -> [TokenRecord] {
        try await pool.read { database in
            try Row.fetchAll(
                database,
                sql:
                    "SELECT * FROM token WHERE user_id = ? AND revoked_at IS NULL AND agent_id IS NULL ORDER BY created_at DESC",
                arguments: [user]
            ).map(Rows.token)
        }
    }

    /// - Returns: false where the user has no such token.
    package func revokeToken(_ id: String, of user: String, now: Double) async throws -> Bool {
        try await pool.write { database in
            try database.execute(
                sql: "UPDATE token SET revoked_at = ? WHERE id = ? AND user_id = ? AND revoked_at IS NULL",
                arguments: [now, id, user])
            return database.changesCount > 0
        }
    }

    // MARK: agents

    /// Agent and token come to be together.
    package func register(_ agent: AgentRecord, token: TokenRecord, hash: String) async throws {
        try await pool.write { database in
            try database.execute(
                sql: """
                    INSERT INTO agent (id, user_id, name, details, tags, is_shared, host, revision, epoch, created_at, last_seen_at)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    agent.id.text, agent.userID, agent.name, agent.details, try Rows.json(agent.tags), agent.isShared,
                    try Rows.json(agent.host), agent.revision.number, agent.epoch, agent.createdAt, agent.lastSeenAt,
                ])
            try Rows.insert(token, hash: hash, database)
        }
    }

    package func agents(of user: String) async throws -> [AgentRecord] {
        try await pool.read { database in
            try Row.fetchAll(
                database, sql: "SELECT * FROM agent WHERE user_id = ? AND deleted_at IS NULL ORDER BY created_at DESC",
                arguments: [user]
            ).map(Rows.agent)
        }
    }

    package func agent(_ id: AgentID) async throws -> AgentRecord? {
        try await pool.read { database in
            try Row.fetchOne(
                database, sql: "SELECT * FROM agent WHERE id = ? AND deleted_at IS NULL", arguments: [id.text]
            )
            .map(Rows.agent)
        }
    }

    /// What is nil stays. Nil where there is no such agent.
    package func update(_ id: AgentID, name: String?, details: String?, tags: [String]?) async throws -> AgentRecord? {
        let tags = try tags.map { try Rows.json($0) }
        return try await pool.write { database in
            try database.execute(
                sql: """
                    UPDATE agent SET name = COALESCE(?, name), details = COALESCE(?, details), tags = COALESCE(?, tags)
                    WHERE id = ? AND deleted_at IS NULL
                    """, arguments: [name, details, tags, id.text])
            return try Row.fetchOne(
                database, sql: "SELECT * FROM agent WHERE id = ? AND deleted_at IS NULL", arguments: [id.text]
            ).map(Rows.agent)
        }
    }

    /// Its tokens are void from the same moment. Its containers stay where they are, on the host.
    package func deleteAgent(_ id: AgentID, now: Double) async throws {
        try await pool.write { database in
            try database.execute(sql: "UPDATE agent SET deleted_at = ? WHERE id = ?", arguments: [now, id.text])
            try database.execute(
                sql: "UPDATE token SET revoked_at = ? WHERE agent_id = ? AND revoked_at IS NULL",
                arguments: [now, id.text])
        }
    }

    package func sawAgent(_ id: AgentID, now: Double) async throws {
        try await pool.write { database in
            try database.execute(sql: "UPDATE agent SET last_seen_at = ? WHERE id = ?", arguments: [now, id.text])
        }
    }

    package func update(_ host: HostDescription, of agent: AgentID) async throws {
        let json = try Rows.json(host)
        try await pool.write { database in
            try database.execute(sql: "UPDATE agent SET host = ? WHERE id = ?", arguments: [json, agent.text])
        }
    }

    package struct SessionOpened: Hashable, Sendable {
        package var epoch: Int
        package var agent: AgentRecord
    }

    /// Raises the epoch, so that the newest session wins. Where the agent holds a later revision than this store knows,
    /// as after a restore from a backup, the store goes beyond it: a revision never means two things.
    package func openSession(
        _ id: AgentID, host: HostDescription, heldRevision: Revision, now: Double
    ) async throws -> SessionOpened? {
        try await pool.write { database in
            try database.execute(
                sql: """
                    UPDATE agent SET epoch = epoch + 1, host = ?, last_seen_at = ?,
                        revision = CASE WHEN ? > revision THEN ? + 1 ELSE revision END
                    WHERE id = ? AND deleted_at IS NULL
                    """,
                arguments: [try Rows.json(host), now, heldRevision.number, heldRevision.number, id.text])
            guard
                let row = try Row.fetchOne(
                    database, sql: "SELECT * FROM agent WHERE id = ? AND deleted_at IS NULL", arguments: [id.text])
            else { return nil }
            let agent = Rows.agent(row)
            return SessionOpened(epoch: agent.epoch, agent: agent)
        }
    }

    // MARK: desired state

    /// All that is wanted of an agent: its containers, and the tombstones that it has not confirmed.
    package func desiredState(of agent: AgentID) async throws -> DesiredState {
        try await pool.read { database in
            let revision = try Int.fetchOne(
                database, sql: "SELECT revision FROM agent WHERE id = ?", arguments: [agent.text])
            let rows = try Row.fetchAll(
                database, sql: "SELECT * FROM container WHERE agent_id = ? AND removed_at IS NULL",
                arguments: [agent.text])
            return DesiredState(
                revision: Revision(revision ?? 0), workloads: try rows.map { try Rows.container($0).desired })
        }
    }
}
