import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import ServiceRuntime

/// Finds out who a token stands for: one of ours by its hash, or one of the configured issuer by its signature.
struct Authenticator: Sendable {
    let store: Store
    /// Nil where no issuer is configured.
    let issuer: TokenIssuer?

    /// Id of tokens that are in no store of ours.
    static let issuedElsewhere = "oidc"

    /// Nil where it is nobody's, revoked or expired.
    ///
    /// - Throws: where the store does not answer.
    func caller(_ text: String) async throws -> Caller? {
        if !text.hasPrefix(Secrets.tokenPrefix), let issuer {
            guard let identity = await issuer.identity(text) else { return nil }
            let now = Timestamp.now()
            let user = try await store.user(
                ofIssuer: issuer.name, subject: identity.subject, name: identity.name, email: identity.email,
                tier: issuer.tier, id: Secrets.newUserID(), now: now)
            return Caller(
                user: user,
                token: TokenRecord(
                    id: Self.issuedElsewhere, userID: user.id, name: issuer.name, prefix: "", scopes: identity.scopes,
                    createdAt: now, expiresAt: identity.expiresAt))
        }
        return try await store.authenticate(hash: Secrets.hash(text), now: Timestamp.now())
            .map { Caller(user: $0.user, token: $0.token, version: $0.version) }
    }
}
