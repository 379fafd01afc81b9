package import BerthModel

/// A user's second factor, and what is locked by it.
extension Store {
    package struct SecondFactor: Hashable, Sendable {
        /// Base32, as authenticators read it.
        package var secret: String
        /// A code of it was given: from then on it counts.
        package var isConfirmed: Bool
        package var lastStep: Int
    }

    package func secondFactor(of user: String) async throws -> SecondFactor? {
        try await database.read { try Self.secondFactor(of: user, $0) }
    }

    private static func secondFactor(of user: String, _ database: any SQLConnection) throws -> SecondFactor? {
        guard
            let row = try database.row(
                "SELECT totp_secret, totp_confirmed, totp_last_step FROM account WHERE id = ?", [user]),
            let secret: String = row["totp_secret"]
        else { return nil }
        return SecondFactor(secret: secret, isConfirmed: row["totp_confirmed"], lastStep: row["totp_last_step"])
    }

    /// - Returns: false where one is confirmed already: it must be taken away with a code first.
    package func beginSecondFactor(_ secret: String, of user: String) async throws -> Bool {
        try await database.write { database in
            try database.execute(
                """
                UPDATE account SET totp_secret = ?, totp_last_step = 0 WHERE id = ? AND totp_confirmed = FALSE
                """, [secret, user]) > 0
        }
    }

    /// Uses up the code of `step`: of two who give the same code one succeeds.
    ///
    /// - Parameter secret: of which the code was; another one by now takes nothing.
    package func useCode(ofStep step: Int, secret: String, of user: String) async throws -> Bool {
        try await database.write { database in
            try database.execute(
                """
                UPDATE account SET totp_last_step = ?, totp_confirmed = TRUE
                WHERE id = ? AND totp_secret = ? AND totp_last_step < ?
                """, [step, user, secret, step]) > 0
        }
    }

    package func locksSomething(_ user: String) async throws -> Bool {
        try await database.read { try Self.locksSomething(user, $0) }
    }

    private static func locksSomething(_ user: String, _ database: any SQLConnection) throws -> Bool {
        try database.value(
            Bool.self,
            """
            SELECT EXISTS (SELECT 1 FROM container WHERE user_id = ? AND mfa_locked AND deleted_at IS NULL)
                OR EXISTS (SELECT 1 FROM agent WHERE user_id = ? AND mfa_locked AND deleted_at IS NULL)
            """, [user, user]) ?? false
    }

    /// - Returns: false where something of the user's is locked by it.
    package func removeSecondFactor(of user: String) async throws -> Bool {
        try await database.write { database in
            if try Self.locksSomething(user, database) { return false }
            try database.execute(
                "UPDATE account SET totp_secret = NULL, totp_confirmed = FALSE, totp_last_step = 0 WHERE id = ?", [user]
            )
            return true
        }
    }

    /// For who lost their authenticator, or whose token was stolen and used to set one up: factor and locks go together.
    ///
    /// - Returns: false where there is no such user.
    package func resetSecondFactor(ofUserNamed name: String) async throws -> Bool {
        try await database.write { database in
            guard
                let id = try database.value(String.self, "SELECT id FROM account WHERE name = ?", [name])
            else { return false }
            try database.execute(
                "UPDATE account SET totp_secret = NULL, totp_confirmed = FALSE, totp_last_step = 0 WHERE id = ?", [id])
            for table in ["container", "agent"] {
                try database.execute("UPDATE \(table) SET mfa_locked = FALSE WHERE user_id = ?", [id])
            }
            return true
        }
    }

    /// Locks only where there is a second factor to open it with; in one transaction with that check.
    ///
    /// - Returns: false where there is none.
    package func setLock(_ isLocked: Bool, container: WorkloadID) async throws -> Bool {
        try await setLock(isLocked, "container", container.text)
    }

    package func setLock(_ isLocked: Bool, agent: AgentID) async throws -> Bool {
        try await setLock(isLocked, "agent", agent.text)
    }

    private func setLock(_ isLocked: Bool, _ table: String, _ id: String) async throws -> Bool {
        try await database.write { database in
            try database.execute(
                """
                UPDATE \(table) SET mfa_locked = ? WHERE id = ? AND deleted_at IS NULL
                    AND EXISTS (SELECT 1 FROM account WHERE account.id = user_id AND totp_confirmed)
                """, [isLocked, id]) > 0
        }
    }
}
