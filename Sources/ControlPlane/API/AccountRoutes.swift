package import ControlPlaneCore
package import ControlPlaneStore
import HTTPTypes
import Hummingbird
import ServiceRuntime

/// Tokens and the profile of whoever asks.
struct AccountRoutes: Sendable {
    let store: Store
    let board: NoticeBoard

    func add(to group: RouterGroup<APIContext>) {
        group.get("profile", use: profile)
        group.get("tokens/validate", use: validate)
        group.get("tokens", use: list)
        group.post("tokens", use: create)
        group.delete("tokens/:id", use: revoke)
    }

    @Sendable func profile(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.requireUser()
        let user = caller.user
        return .json(
            .object([
                "user": .object([
                    "id": .string(user.id), "username": .string(user.name), "email": .string(user.email),
                    "tier": .string(user.tier.rawValue), "is_admin": .bool(user.isAdmin),
                ])
            ]))
    }

    @Sendable func validate(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        return .json(
            .object([
                "valid": .bool(true), "user_id": .string(caller.user.id), "username": .string(caller.user.name),
                "email": .string(caller.user.email), "tier": .string(caller.user.tier.rawValue),
                "scopes": Self.scopes(caller.token),
            ]))
    }

    @Sendable func list(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        let tokens = try await store.tokens(of: caller.user.id)
        return .json(.object(["tokens": .array(tokens.map(Self.present))]))
    }

    /// A new token can do no more than the one that asks for it.
    @Sendable func create(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        var body = try await BodyReader(request)
        let name = try body.text("name") ?? "token"
        guard (1...128).contains(name.utf8.count) else {
            throw APIError.badField("name", "\(name.utf8.count) bytes", expected: "1 to 128 bytes of text")
        }
        let words = try body.texts("scopes") ?? ["read"]
        let scopes = Set(words.compactMap(Scope.init))
        let allowed = Scope.allCases.map(\.rawValue).joined(separator: ", ")
        guard scopes.count == Set(words).count, !scopes.isEmpty else {
            throw APIError.badField(
                "scopes", "\"\(words.joined(separator: ", ").prefix(80))\"", expected: "some of \(allowed)")
        }
        for scope in scopes { try caller.require(scope) }
        let expected = "a whole number of days from 1 to 3650"
        let days = try body.integer("expires_in", expected: expected)
        if let days, !(1...3650).contains(days) {
            throw APIError.badField("expires_in", String(days), expected: expected)
        }
        var (token, text) = TokenIssue.token(for: caller.user, name: name, scopes: scopes, days: days)
        // Nor for longer; one of an issuer only proves who asks.
        if caller.token.id != Authenticator.issuedElsewhere, let end = caller.token.expiresAt {
            token.expiresAt = min(token.expiresAt ?? end, end)
        }
        try await store.create(token, hash: Secrets.hash(text))
        AuditNote.current?.concerns(token.id)
        guard case .object(var fields) = Self.present(token) else {
            throw APIError(.internalServerError, "internal error")
        }
        fields["token"] = .string(text)
        return .json(.object(fields), status: .created)
    }

    @Sendable func revoke(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        let missing = APIError(.notFound, "token not found")
        let id = try ContainerRoutes.id(context, orElse: missing)
        guard try await store.revokeToken(id, of: caller.user.id, now: Timestamp.now()) else {
            throw missing
        }
        await board.post(.revoked(token: id))
        return .json(.object(["message": .string("token revoked"), "id": .string(id)]))
    }

    private static func present(_ token: TokenRecord) -> JSONValue {
        .object([
            "id": .string(token.id), "name": .string(token.name), "prefix": .string(token.prefix),
            "scopes": scopes(token),
            "created_at": .string(Timestamp.text(seconds: token.createdAt)),
            "expires_at": token.expiresAt.map { .string(Timestamp.text(seconds: $0)) } ?? .null,
            "last_used_at": token.lastUsedAt.map { .string(Timestamp.text(seconds: $0)) } ?? .null,
        ])
    }

    private static func scopes(_ token: TokenRecord) -> JSONValue {
        .array(token.scopes.map(\.rawValue).sorted().map { .string($0) })
    }
}

/// Makes tokens.
package enum TokenIssue {
    /// - Returns: the record to store, and the text, which is shown once.
    package static func token(
        for user: UserRecord, name: String, scopes: Set<Scope>, days: Int?
    ) -> (TokenRecord, String) {
        let text = Secrets.newToken()
        let now = Timestamp.now()
        let token = TokenRecord(
            id: Secrets.newUUID(), userID: user.id, name: name, prefix: String(text.prefix(12)), scopes: scopes,
            createdAt: now, expiresAt: days.map { now + Double($0) * 86_400 })
        return (token, text)
    }
}
