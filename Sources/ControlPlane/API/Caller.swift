import ControlPlaneCore
import ControlPlaneStore
import Foundation
import HTTPTypes
import Hummingbird
import NIOHTTP1
import ServiceRuntime

/// Who asks, and what their token allows.
struct Caller: Sendable {
    var user: UserRecord
    var token: TokenRecord
    /// Of the store when the token was looked up; nil where it is not known.
    var version: StoreVersion?

    /// A token with `admin` may do everything that its user may.
    func require(_ scope: Scope) throws {
        guard token.scopes.contains(scope) || (token.scopes.contains(.admin) && user.isAdmin) else {
            throw APIError.scopeMissing(scope.rawValue)
        }
        try requireUser()
    }

    /// An agent's own token speaks over its WebSocket alone; whether it is good may be asked with it.
    func requireUser() throws { guard token.agent == nil else { throw APIError.scopeMissing(Scope.read.rawValue) } }
}

/// The context of a request: filled by `Authentication` on the routes that need it.
struct APIContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    var known: Caller?
    /// The other end of the connection; behind trusted proxies, who they say that it is.
    var address: String

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        address = source.channel.remoteAddress?.ipAddress ?? ""
    }

    var caller: Caller {
        get throws {
            guard let known else { throw APIError.unauthorized }
            return known
        }
    }
}

/// Finds out whom a request comes from.
struct ClientAddress: RouterMiddleware {
    typealias Context = APIContext
    let trusted: [AddressRange]

    func handle(
        _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        guard !trusted.isEmpty else { return try await next(request, context) }
        var context = context
        context.address = AddressRange.client(
            peer: context.address, forwarded: request.headers[values: .init("X-Forwarded-For")!], trusted: trusted)
        return try await next(request, context)
    }
}

struct Authentication: RouterMiddleware {
    typealias Context = APIContext
    let authenticator: Authenticator
    let limiter: RateLimiter

    func handle(
        _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        guard let text = BearerToken.text(of: request.headers[.authorization]),
            let found = try await authenticator.caller(text)
        else {
            if let verdict = await limiter.count(.unknown, by: AddressRange.counted(context.address)),
                !verdict.isAllowed
            {
                throw APIError.rateLimited(verdict)
            }
            throw APIError.unauthorized
        }
        var context = context
        context.known = found
        return try await next(request, context)
    }
}

/// Where clients put their token.
enum BearerToken {
    static func text(of header: String?) -> String? {
        guard let header, header.utf8.count <= 20_000 else { return nil }
        // By bytes: a token is long, and looked at with each request.
        let parts = header.utf8.split(separator: UInt8(ascii: " "))
        guard parts.count == 2, parts[0].count == 6, String(Substring(parts[0])).lowercased() == "bearer" else {
            return nil
        }
        return String(Substring(parts[1]))
    }

    /// Of a WebSocket handshake: the header; for clients that can do no better the query or the subprotocol
    /// `rexec.token.<token>`.
    static func text(of head: HTTPRequestHead) -> String? {
        if let token = text(of: head.headers.first(name: "Authorization")) { return token }
        if let query = head.uri.split(separator: "?", maxSplits: 1).dropFirst().first {
            for item in query.split(separator: "&") where item.hasPrefix("token=") {
                return String(item.dropFirst("token=".count)).removingPercentEncoding
            }
        }
        let offered = head.headers[canonicalForm: "Sec-WebSocket-Protocol"]
        return offered.first { $0.hasPrefix("rexec.token.") }.map { String($0.dropFirst("rexec.token.".count)) }
    }
}
