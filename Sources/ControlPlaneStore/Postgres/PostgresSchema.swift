/// The tables on PostgreSQL, in steps that are never changed once released. They hold what SQLite's hold (`SQLiteSchema`); texts
/// are compared by their bytes, as there.
enum PostgresSchema {
    static let steps: [(name: String, sql: String)] = [
        ("1 as SQLite's fourth", first), ("2 as SQLite's fifth", second),
    ]

    private static let first = """
        CREATE TABLE account (
            id TEXT COLLATE "C" PRIMARY KEY,
            name TEXT COLLATE "C" NOT NULL UNIQUE,
            email TEXT COLLATE "C" NOT NULL,
            tier TEXT COLLATE "C" NOT NULL,
            is_admin BOOLEAN NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            totp_secret TEXT COLLATE "C",
            totp_confirmed BOOLEAN NOT NULL DEFAULT FALSE,
            totp_last_step BIGINT NOT NULL DEFAULT 0,
            issuer TEXT COLLATE "C",
            subject TEXT COLLATE "C"
        );
        CREATE UNIQUE INDEX account_subject ON account(issuer, subject) WHERE subject IS NOT NULL;

        CREATE TABLE agent (
            id TEXT COLLATE "C" PRIMARY KEY,
            user_id TEXT COLLATE "C" NOT NULL REFERENCES account,
            name TEXT COLLATE "C" NOT NULL,
            details TEXT COLLATE "C" NOT NULL,
            tags TEXT COLLATE "C" NOT NULL,
            is_shared BOOLEAN NOT NULL,
            host TEXT COLLATE "C" NOT NULL,
            revision BIGINT NOT NULL,
            epoch BIGINT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            last_seen_at DOUBLE PRECISION NOT NULL,
            deleted_at DOUBLE PRECISION,
            frozen_at DOUBLE PRECISION,
            mfa_locked BOOLEAN NOT NULL DEFAULT FALSE,
            -- The control plane that its session is with.
            server_id TEXT COLLATE "C"
        );
        CREATE INDEX agent_user ON agent(user_id);
        CREATE INDEX agent_server ON agent(server_id) WHERE server_id IS NOT NULL;

        CREATE TABLE token (
            id TEXT COLLATE "C" PRIMARY KEY,
            user_id TEXT COLLATE "C" NOT NULL REFERENCES account,
            agent_id TEXT COLLATE "C" REFERENCES agent,
            name TEXT COLLATE "C" NOT NULL,
            prefix TEXT COLLATE "C" NOT NULL,
            hash TEXT COLLATE "C" NOT NULL UNIQUE,
            scopes TEXT COLLATE "C" NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION,
            last_used_at DOUBLE PRECISION,
            revoked_at DOUBLE PRECISION
        );
        CREATE INDEX token_user ON token(user_id);
        CREATE INDEX token_agent ON token(agent_id);

        CREATE TABLE container (
            id TEXT COLLATE "C" PRIMARY KEY,
            user_id TEXT COLLATE "C" NOT NULL REFERENCES account,
            agent_id TEXT COLLATE "C" REFERENCES agent,
            name TEXT COLLATE "C" NOT NULL,
            image TEXT COLLATE "C" NOT NULL,
            role TEXT COLLATE "C" NOT NULL,
            generation BIGINT NOT NULL,
            wish TEXT COLLATE "C" NOT NULL,
            spec TEXT COLLATE "C" NOT NULL,
            memory_mb BIGINT NOT NULL,
            cpu_millicores BIGINT NOT NULL,
            changed_revision BIGINT NOT NULL,
            observed TEXT COLLATE "C",
            engine_id TEXT COLLATE "C",
            ever_ran BOOLEAN NOT NULL,
            placement TEXT COLLATE "C",
            wanted_agent_id TEXT COLLATE "C",
            idempotency_key TEXT COLLATE "C",
            created_at DOUBLE PRECISION NOT NULL,
            last_used_at DOUBLE PRECISION NOT NULL,
            deleted_at DOUBLE PRECISION,
            removed_at DOUBLE PRECISION,
            mfa_locked BOOLEAN NOT NULL DEFAULT FALSE,
            purges BOOLEAN NOT NULL DEFAULT FALSE,
            purged_at DOUBLE PRECISION,
            expires_at DOUBLE PRECISION
        );
        CREATE UNIQUE INDEX container_name ON container(user_id, name) WHERE deleted_at IS NULL;
        CREATE UNIQUE INDEX container_idempotency ON container(user_id, idempotency_key)
            WHERE idempotency_key IS NOT NULL AND deleted_at IS NULL;
        CREATE INDEX container_user ON container(user_id, created_at);
        CREATE INDEX container_agent ON container(agent_id, changed_revision);
        CREATE INDEX container_unplaced ON container(created_at) WHERE agent_id IS NULL;
        CREATE INDEX container_engine ON container(engine_id);
        CREATE INDEX container_expiry ON container(expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
        CREATE INDEX container_deleted ON container(deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

        CREATE TABLE action (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            agent_id TEXT COLLATE "C" NOT NULL REFERENCES agent,
            process TEXT COLLATE "C" NOT NULL,
            number BIGINT NOT NULL,
            container_id TEXT COLLATE "C" NOT NULL REFERENCES container,
            record TEXT COLLATE "C" NOT NULL,
            UNIQUE (agent_id, process, number)
        );
        CREATE INDEX action_container ON action(container_id, id);

        CREATE TABLE audit (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at DOUBLE PRECISION NOT NULL,
            user_id TEXT COLLATE "C" NOT NULL,
            user_name TEXT COLLATE "C" NOT NULL,
            token_id TEXT COLLATE "C" NOT NULL,
            address TEXT COLLATE "C" NOT NULL,
            action TEXT COLLATE "C" NOT NULL,
            object TEXT COLLATE "C",
            status BIGINT NOT NULL
        );
        CREATE INDEX audit_at ON audit(at);

        -- Control planes that are there.
        CREATE TABLE server (
            id TEXT COLLATE "C" PRIMARY KEY,
            lease_until DOUBLE PRECISION NOT NULL
        );
        -- Counters: a crash of the server may take them.
        CREATE UNLOGGED TABLE request_window (
            who TEXT COLLATE "C" NOT NULL,
            class TEXT COLLATE "C" NOT NULL,
            start DOUBLE PRECISION NOT NULL,
            count BIGINT NOT NULL,
            PRIMARY KEY (who, class)
        );
        CREATE SEQUENCE notice_number;
        """

    private static let second = """
        ALTER TABLE container ADD COLUMN host_wish TEXT COLLATE "C";
        -- The index of names serves both, and rows are old in the order of their numbers.
        DROP INDEX container_user;
        DROP INDEX audit_at;
        DROP INDEX container_unplaced;
        CREATE INDEX container_unplaced ON container(created_at, id) WHERE agent_id IS NULL AND deleted_at IS NULL;
        CREATE INDEX container_room ON container(agent_id, memory_mb)
            WHERE agent_id IS NOT NULL AND deleted_at IS NULL;
        DROP INDEX container_agent;
        CREATE INDEX container_agent ON container(agent_id, changed_revision) WHERE agent_id IS NOT NULL;
        DROP INDEX container_engine;
        CREATE INDEX container_present ON container(agent_id) WHERE agent_id IS NOT NULL AND removed_at IS NULL;
        CREATE INDEX agent_connected ON agent(user_id, id) WHERE deleted_at IS NULL AND server_id IS NOT NULL;
        CREATE INDEX agent_shared ON agent(id)
            WHERE is_shared AND deleted_at IS NULL AND server_id IS NOT NULL;
        CREATE INDEX container_gone ON container(user_id, deleted_at) WHERE deleted_at IS NOT NULL AND purges = FALSE;
        """
}
