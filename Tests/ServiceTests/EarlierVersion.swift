@testable import ControlPlaneStore

/// What a control plane of before the second step of PostgreSQL's tables asks of them, in its own words: they were taken
/// from its store and are not brought up to date.
struct EarlierVersion: Sendable {
    private let database: PostgresDatabase

    /// Takes the first step on an empty database, and none of the later ones.
    init(_ empty: TestDatabase) async throws {
        guard let name = empty.name, case .postgres(let address, _) = empty.place else {
            throw TestDatabase.Missing(description: "it knows PostgreSQL alone")
        }
        database = PostgresDatabase(try PostgresLibrary.shared.get(), address, connections: 4)
        let first = PostgresSchema.steps[0]
        try await TestDatabase.execute(
            """
            CREATE TABLE berth_migration (number BIGINT GENERATED ALWAYS AS IDENTITY, name TEXT PRIMARY KEY);
            \(first.sql)
            """, in: name)
        try await database.write { database in
            try database.execute("INSERT INTO berth_migration (name) VALUES (?)", [first.name])
            try database.execute(
                "INSERT INTO account (id, name, email, tier, is_admin, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                ["u1", "ann", "ann@example.com", "pro", false, 1.0])
            try database.execute(
                """
                INSERT INTO agent (id, user_id, name, details, tags, is_shared, host, revision, epoch, created_at, last_seen_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """, ["a1", "u1", "host", "", #"["t"]"#, false, Self.host, 0, 0, 1.0, 1.0])
            try database.execute(
                """
                INSERT INTO token (id, user_id, agent_id, name, prefix, hash, scopes, created_at, expires_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """, ["t1", "u1", nil as String?, "laptop", "berth_012345", "hash", "read write", 1.0, nil as Double?])
        }
    }

    private static let host =
        #"{"arch":"x86_64","capacity":{"cpuMillicores":4000,"diskMB":100000,"memoryMB":8000},"distro":"debian","#
        + #""engine":{"apiVersion":"1.41","cgroupVersion":"2","runtimes":["runc"],"storageDriver":"overlay2","#
        + #""version":"20.10"},"hostname":"h1","kernel":"6.1","os":"linux"}"#

    private static func spec(_ id: String) -> String {
        #"{"environment":{"A":"b"},"image":"alpine:latest","labels":{},"name":"\#(id)","resources":"#
            + #"{"cpuMillicores":500,"diskMB":2048,"memoryMB":256,"pids":512},"restart":"always","runtime":"#
            + #"{"name":"runc","necessity":"require"},"stopGraceSeconds":10,"volumes":"#
            + #"[{"access":"readWrite","path":"\/root","volume":"berth-\#(id)"}]}"#
    }

    private static func status(_ id: String) -> String {
        #"{"engineContainer":"e\#(id)","generation":2,"observedGeneration":2,"outOfMemory":false,"phase":"running","#
            + #""restarts":0,"since":5,"startedAt":5,"unenforced":{},"warnings":[],"workload":"\#(id)"}"#
    }

    struct Surprise: Error, CustomStringConvertible { var description: String }

    private static func isOne(_ changes: Int, _ what: String) throws {
        guard changes == 1 else { throw Surprise(description: "\(what): \(changes) rows") }
    }

    // MARK: its statements

    /// All that it asks about one container, from its creation to the end of its data, and about the audit.
    func live(_ id: String) async throws {
        try await create(id)
        try await change(id)
        try await record(id)
        try await look(id)
        try await audit(id)
    }

    func create(_ id: String) async throws { try await database.write { try Self.insert(id, $0) } }

    static func insert(_ id: String, _ database: any SQLConnection) throws {
        _ = try database.rows("SELECT * FROM agent WHERE deleted_at IS NULL AND (user_id = ? OR is_shared)", ["u1"])
        _ = try database.rows(
            """
            SELECT c.agent_id AS agent_id, c.memory_mb AS memory_mb, COUNT(*) AS containers
            FROM container c JOIN agent ON agent.id = c.agent_id
            WHERE c.deleted_at IS NULL AND agent.deleted_at IS NULL AND (agent.user_id = ? OR agent.is_shared)
            GROUP BY c.agent_id, c.memory_mb
            """, ["u1"])
        _ = try database.row(
            "SELECT * FROM container WHERE user_id = ? AND idempotency_key = ? AND deleted_at IS NULL",
            ["u1", "key-\(id)"])
        _ = try database.exists(
            "SELECT 1 FROM container WHERE user_id = ? AND name = ? AND deleted_at IS NULL", ["u1", id])
        _ = try database.value(
            Int.self, "SELECT COUNT(*) FROM container WHERE user_id = ? AND deleted_at IS NULL", ["u1"])
        _ = try database.rows(
            """
            SELECT memory_mb, COUNT(*) AS containers FROM container WHERE agent_id = ? AND deleted_at IS NULL
            GROUP BY memory_mb
            """, ["a1"])
        let revision = try raiseRevision(database)
        try isOne(
            try database.execute(
                """
                INSERT INTO container (id, user_id, agent_id, name, image, role, generation, wish, spec, memory_mb,
                    cpu_millicores, changed_revision, ever_ran, placement, wanted_agent_id, idempotency_key, created_at, last_used_at,
                    expires_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                [
                    id, "u1", "a1", id, "alpine:latest", "", 1, "running", spec(id), 256, 500, revision, false,
                    nil as String?, nil as String?, "key-\(id)", 1.0, 1.0, nil as Double?,
                ]), "a creation")
    }

    private static func raiseRevision(_ database: any SQLConnection) throws -> Int {
        let revision = try database.value(
            Int.self, "UPDATE agent SET revision = revision + 1 WHERE id = ? RETURNING revision", ["a1"])
        guard let revision else { throw Surprise(description: "there is no agent") }
        return revision
    }

    private func change(_ id: String) async throws {
        try await database.write { database in
            guard
                let row = try database.row("SELECT * FROM container WHERE id = ? AND deleted_at IS NULL", [id]),
                (row["generation"] as Int) == 1
            else { throw Surprise(description: "\(id) is not as it was made") }
            _ = try database.exists(
                "SELECT 1 FROM container WHERE user_id = ? AND name = ? AND deleted_at IS NULL AND id <> ?",
                ["u1", id, id])
            let revision = try Self.raiseRevision(database)
            try Self.isOne(
                try database.execute(
                    """
                    UPDATE container SET name = ?, generation = ?, wish = ?, spec = ?, memory_mb = ?, cpu_millicores = ?,
                        changed_revision = ?, last_used_at = ?, deleted_at = ?, removed_at = ?
                    WHERE id = ?
                    """,
                    [id, 2, "running", Self.spec(id), 300, 500, revision, 2.0, nil as Double?, nil as Double?, id]),
                "a change")
        }
    }

    private func record(_ id: String) async throws {
        try await database.write { database in
            _ = try database.exists("SELECT 1 FROM agent WHERE id = ? AND epoch = ?", ["a1", 0])
            _ = try database.row("SELECT * FROM container WHERE id = ? AND agent_id = ?", [id, "a1"])
            try Self.isOne(
                try database.execute(
                    """
                    UPDATE container SET observed = ?, engine_id = ?, ever_ran = ?,
                        removed_at = CASE WHEN ? THEN ? ELSE removed_at END,
                        purged_at = CASE WHEN ? THEN ? ELSE purged_at END WHERE id = ?
                    """, [Self.status(id), "e\(id)", true, false, 3.0, false, 3.0, id]), "a status")
            try Self.isOne(
                try database.execute(
                    """
                    INSERT INTO action (agent_id, process, number, container_id, record)
                    SELECT ?, ?, ?, id, ? FROM container WHERE id = ? AND agent_id = ?
                    ON CONFLICT (agent_id, process, number) DO NOTHING
                    """, ["a1", "p-\(id)", 1, "{}", id, "a1"]), "a line of history")
        }
    }

    private func look(_ id: String) async throws {
        try await database.read { database in
            let pattern = "e\(id)".utf8.count >= 12 ? "e\(id)%" : "e\(id)"
            let found = try database.rows(
                """
                SELECT * FROM container WHERE user_id = ? AND deleted_at IS NULL
                    AND (id = ? OR engine_id = ? OR id LIKE ? OR engine_id LIKE ?) LIMIT 2
                """, ["u1", "e\(id)", "e\(id)", pattern, pattern])
            try Self.isOne(found.count, "\(id) by its Docker id")
            let wanted = try database.rows(
                "SELECT * FROM container WHERE agent_id = ? AND (removed_at IS NULL OR changed_revision > ?)",
                ["a1", 0])
            try Self.isOne(wanted.count { $0["id"] == id }, "\(id) among what is wanted of its host")
            _ = try database.rows(
                "SELECT * FROM container WHERE agent_id IS NULL AND deleted_at IS NULL ORDER BY created_at, id LIMIT ?",
                [200])
            _ = try database.exists(
                "SELECT 1 FROM container WHERE deleted_at <= ? AND purged_at IS NULL AND NOT purges", [1.0])
            let user = try database.row(
                """
                SELECT token.* FROM token LEFT JOIN agent ON agent.id = token.agent_id
                WHERE token.hash = ? AND token.revoked_at IS NULL AND agent.deleted_at IS NULL
                """, ["hash"])
            guard let user, (user["user_id"] as String) == "u1" else {
                throw Surprise(description: "the token is nobody's")
            }
        }
    }

    private func audit(_ id: String) async throws {
        try await database.write(.soon) { database in
            try Self.isOne(
                try database.execute(
                    """
                    INSERT INTO audit (at, user_id, user_name, token_id, address, action, object, status)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                    """, [5.0, "u1", "ann", "t1", "127.0.0.1", "POST /api/containers", id, 202]), "a record")
        }
        _ = try await database.write { try $0.execute("DELETE FROM audit WHERE at < ?", [1.0]) }
        try await database.read { database in
            let records = try database.rows(
                "SELECT * FROM audit WHERE id < ? AND TRUE ORDER BY id DESC LIMIT ?", [Int.max, 1])
            try Self.isOne(records.count, "the newest record")
        }
    }

    /// Ids of a user's containers.
    func list(of user: String) async throws -> Set<String> {
        try await database.read { database in
            Set(
                try database.rows(
                    "SELECT * FROM container WHERE user_id = ? AND deleted_at IS NULL ORDER BY created_at DESC, id DESC",
                    [user]
                ).map { $0["id"] as String })
        }
    }

    /// Whether somebody waits to have the table of containers alone.
    func isWaitedForContainers() async throws -> Bool {
        try await database.read { database in
            try database.exists(
                """
                SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                    AND relation = to_regclass('container')
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                """)
        }
    }
}
