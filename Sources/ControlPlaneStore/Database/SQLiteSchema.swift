import GRDB

/// The tables on SQLite, in steps that are never changed once released; on PostgreSQL they are `PostgresSchema`'s.
enum SQLiteSchema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1 first light") { database in
            try database.create(table: "user") { table in
                table.primaryKey("id", .text)
                table.column("name", .text).notNull().unique()
                table.column("email", .text).notNull()
                table.column("tier", .text).notNull()
                table.column("is_admin", .boolean).notNull()
                table.column("created_at", .double).notNull()
            }
            try database.create(table: "agent") { table in
                table.primaryKey("id", .text)
                table.column("user_id", .text).notNull().references("user").indexed()
                table.column("name", .text).notNull()
                table.column("details", .text).notNull()
                table.column("tags", .text).notNull()
                table.column("is_shared", .boolean).notNull()
                table.column("host", .text).notNull()
                table.column("revision", .integer).notNull()
                table.column("epoch", .integer).notNull()
                table.column("created_at", .double).notNull()
                table.column("last_seen_at", .double).notNull()
                table.column("deleted_at", .double)
            }
            try database.create(table: "token") { table in
                table.primaryKey("id", .text)
                table.column("user_id", .text).notNull().references("user").indexed()
                table.column("agent_id", .text).references("agent").indexed()
                table.column("name", .text).notNull()
                table.column("prefix", .text).notNull()
                table.column("hash", .text).notNull().unique()
                table.column("scopes", .text).notNull()
                table.column("created_at", .double).notNull()
                table.column("expires_at", .double)
                table.column("last_used_at", .double)
                table.column("revoked_at", .double)
            }
            try database.create(table: "container") { table in
                table.primaryKey("id", .text)
                table.column("user_id", .text).notNull().references("user")
                table.column("agent_id", .text).references("agent")
                table.column("name", .text).notNull()
                table.column("image", .text).notNull()
                table.column("role", .text).notNull()
                table.column("generation", .integer).notNull()
                table.column("wish", .text).notNull()
                table.column("spec", .text).notNull()
                table.column("memory_mb", .integer).notNull()
                table.column("cpu_millicores", .integer).notNull()
                // The revision of its agent's desired state that changed this row last: a delta is a range of it.
                table.column("changed_revision", .integer).notNull()
                table.column("observed", .text)
                table.column("engine_id", .text).indexed()
                table.column("ever_ran", .boolean).notNull()
                table.column("placement", .text)
                // The host that its owner asked for, where they did.
                table.column("wanted_agent_id", .text)
                table.column("idempotency_key", .text)
                table.column("created_at", .double).notNull()
                table.column("last_used_at", .double).notNull()
                table.column("deleted_at", .double)
                // Set when the agent has confirmed the removal: the tombstone need not be sent any more.
                table.column("removed_at", .double)
            }
            try database.execute(
                sql: """
                    CREATE UNIQUE INDEX container_name ON container(user_id, name) WHERE deleted_at IS NULL;
                    CREATE UNIQUE INDEX container_idempotency ON container(user_id, idempotency_key)
                        WHERE idempotency_key IS NOT NULL AND deleted_at IS NULL;
                    CREATE INDEX container_user ON container(user_id, created_at);
                    CREATE INDEX container_agent ON container(agent_id, changed_revision);
                    CREATE INDEX container_unplaced ON container(created_at) WHERE agent_id IS NULL;
                    """)
        }
        migrator.registerMigration("2 history and frozen identities") { database in
            try database.create(table: "action") { table in
                table.autoIncrementedPrimaryKey("id")
                table.column("agent_id", .text).notNull().references("agent")
                table.column("process", .text).notNull()
                table.column("number", .integer).notNull()
                table.column("container_id", .text).notNull().references("container")
                table.column("record", .text).notNull()
                // Sent again after a lost answer, kept once.
                table.uniqueKey(["agent_id", "process", "number"])
            }
            try database.execute(sql: "CREATE INDEX action_container ON action(container_id, id)")
            try database.alter(table: "agent") { table in
                // Two processes use this identity: no session before a person has looked.
                table.add(column: "frozen_at", .double)
            }
        }
        migrator.registerMigration("3 audit, retention, second factor") { database in
            try database.create(table: "audit") { table in
                table.autoIncrementedPrimaryKey("id")
                table.column("at", .double).notNull().indexed()
                // No references: what was done stays known when its doer is gone.
                table.column("user_id", .text).notNull()
                table.column("user_name", .text).notNull()
                table.column("token_id", .text).notNull()
                table.column("address", .text).notNull()
                table.column("action", .text).notNull()
                table.column("object", .text)
                table.column("status", .integer).notNull()
            }
            try database.alter(table: "user") { table in
                table.add(column: "totp_secret", .text)
                table.add(column: "totp_confirmed", .boolean).notNull().defaults(to: false)
                // Of a user who comes from an issuer.
                table.add(column: "issuer", .text)
                table.add(column: "subject", .text)
                // The last step whose code was used: a code is good once.
                table.add(column: "totp_last_step", .integer).notNull().defaults(to: 0)
            }
            try database.alter(table: "container") { table in
                table.add(column: "mfa_locked", .boolean).notNull().defaults(to: false)
                // From then on its volumes are to go, and nothing brings it back.
                table.add(column: "purges", .boolean).notNull().defaults(to: false)
                // Set when the agent has confirmed that they are gone.
                table.add(column: "purged_at", .double)
                table.add(column: "expires_at", .double)
            }
            try database.alter(table: "agent") { table in
                table.add(column: "mfa_locked", .boolean).notNull().defaults(to: false)
            }
            try database.execute(
                sql: """
                    -- What was deleted when volumes stayed for good gets its time from here on.
                    UPDATE container SET deleted_at = (julianday('now') - 2440587.5) * 86400.0
                        WHERE deleted_at IS NOT NULL;
                    -- The end that was told at the creation: 50 hours.
                    UPDATE container SET expires_at = created_at + 180000,
                        spec = json_set(spec, '$.expiresAt', created_at + 180000), generation = generation + 1
                        WHERE deleted_at IS NULL AND user_id IN (SELECT id FROM user WHERE tier IN ('guest', 'free'));
                    UPDATE agent SET revision = revision + 1;
                    UPDATE container SET changed_revision = (SELECT revision FROM agent WHERE agent.id = agent_id)
                        WHERE expires_at IS NOT NULL AND agent_id IS NOT NULL;
                    CREATE UNIQUE INDEX user_subject ON user(issuer, subject) WHERE subject IS NOT NULL;
                    CREATE INDEX container_expiry ON container(expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
                    CREATE INDEX container_deleted ON container(deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
                    """)
        }
        migrator.registerMigration("4 names that PostgreSQL can bear, several control planes") { database in
            // `user` is a word of the language there.
            try database.rename(table: "user", to: "account")
            try database.alter(table: "agent") { table in
                // The control plane that its session is with.
                table.add(column: "server_id", .text)
            }
            try database.create(table: "server") { table in
                table.primaryKey("id", .text)
                table.column("lease_until", .double).notNull()
            }
            try database.create(table: "request_window") { table in
                table.primaryKey {
                    table.column("who", .text)
                    table.column("class", .text)
                }
                table.column("start", .double).notNull()
                table.column("count", .integer).notNull()
            }
            try database.execute(sql: "CREATE INDEX agent_server ON agent(server_id) WHERE server_id IS NOT NULL")
        }
        migrator.registerMigration("5 what was deleted is no work for what is there, hosts by what they are") {
            database in
            try database.alter(table: "container") { table in
                // What its owner asked of its host, beside the host itself; JSON.
                table.add(column: "host_wish", .text)
            }
            // One row whose number tells whether anything has changed that a token stands for.
            try database.create(table: "token_version") { table in
                table.column("number", .integer).notNull()
            }
            try database.execute(sql: "INSERT INTO token_version VALUES (1)")
            for (name, event) in [
                ("token_added", "INSERT ON token"), ("token_changed", "UPDATE ON token"),
                ("token_removed", "DELETE ON token"), ("account_changed", "UPDATE ON account"),
                ("account_removed", "DELETE ON account"), ("agent_deleted", "UPDATE OF deleted_at ON agent"),
            ] {
                try database.execute(
                    sql: """
                        CREATE TRIGGER \(name) AFTER \(event) BEGIN
                            UPDATE token_version SET number = number + 1;
                        END
                        """)
            }
            try database.execute(
                sql: """
                    -- The index of names serves both, and rows are old in the order of their numbers.
                    DROP INDEX container_user;
                    DROP INDEX audit_on_at;
                    DROP INDEX container_unplaced;
                    CREATE INDEX container_unplaced ON container(created_at, id)
                        WHERE agent_id IS NULL AND deleted_at IS NULL;
                    CREATE INDEX container_room ON container(agent_id, memory_mb)
                        WHERE agent_id IS NOT NULL AND deleted_at IS NULL;
                    DROP INDEX container_agent;
                    CREATE INDEX container_agent ON container(agent_id, changed_revision) WHERE agent_id IS NOT NULL;
                    DROP INDEX container_on_engine_id;
                    CREATE INDEX container_present ON container(agent_id) WHERE agent_id IS NOT NULL AND removed_at IS NULL;
                    CREATE INDEX agent_connected ON agent(user_id, id) WHERE deleted_at IS NULL AND server_id IS NOT NULL;
                    CREATE INDEX agent_shared ON agent(id)
                        WHERE is_shared AND deleted_at IS NULL AND server_id IS NOT NULL;
                    CREATE INDEX container_gone ON container(user_id, deleted_at)
                        WHERE deleted_at IS NOT NULL AND purges = FALSE;
                    """)
        }
        migrator.registerMigration("6 audit records are numbered by their rows") { database in
            // The number that AUTOINCREMENT keeps is one more page for each change to write. None is given again without
            // it either, as the newest record is never forgotten.
            try database.execute(
                sql: """
                    ALTER TABLE audit RENAME TO audit_before;
                    CREATE TABLE audit (
                        id INTEGER PRIMARY KEY NOT NULL, at DOUBLE NOT NULL, user_id TEXT NOT NULL,
                        user_name TEXT NOT NULL, token_id TEXT NOT NULL, address TEXT NOT NULL, action TEXT NOT NULL,
                        object TEXT, status INTEGER NOT NULL);
                    -- Without a list of columns, as between tables of one shape: pages are copied, rows are not taken apart.
                    INSERT INTO audit SELECT * FROM audit_before;
                    DROP TABLE audit_before;
                    """)
        }
        return migrator
    }
}
