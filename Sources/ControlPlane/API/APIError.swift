import ControlPlaneCore
import ControlPlaneStore
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import ServiceRuntime

/// An answer that is not a success: `{"error": …}` and the documented fields beside it.
struct APIError: Error, HTTPResponseError {
    var status: HTTPResponse.Status
    var fields: [String: JSONValue]
    var headers = HTTPFields()

    /// - Parameter retryAfter: seconds after which the same may succeed.
    init(
        _ status: HTTPResponse.Status, _ message: String, _ more: [String: JSONValue] = [:], retryAfter: Int? = nil
    ) {
        self.status = status
        fields = more
        fields["error"] = .string(message)
        if let retryAfter {
            fields["retry_after"] = .integer(retryAfter)
            headers[.retryAfter] = String(retryAfter)
        }
    }

    static let unauthorized: APIError = {
        var error = APIError(.unauthorized, "unauthorized")
        error.headers[.wwwAuthenticate] = "Bearer"
        return error
    }()
    static let upgradeRequired: APIError = {
        var error = APIError(.upgradeRequired, "this is a WebSocket; ask for an upgrade on a new connection")
        error.headers[.upgrade] = "websocket"
        error.headers[.connection] = "Upgrade"
        return error
    }()
    /// - Parameter allowed: the methods that there are, with commas between.
    static func methodNotAllowed(_ allowed: String) -> APIError {
        var error = APIError(.methodNotAllowed, "method not allowed", ["allowed": .string(allowed)])
        error.headers[.allow] = allowed
        return error
    }
    static let containerNotFound = APIError(.notFound, "container not found")
    /// - Parameter what: `container` or `agent`.
    static func locked(_ what: String) -> APIError {
        APIError(
            .init(code: 423, reasonPhrase: "Locked"), "\(what) is locked",
            ["message": .string("unlock it with a code: POST …/mfa-unlock"), "mfa_locked": .bool(true)])
    }

    static func rateLimited(_ verdict: RateLimit.Verdict) -> APIError {
        var error = APIError(
            .tooManyRequests, "rate limit exceeded", ["retry_after": .integer(verdict.retryAfter)])
        error.headers = verdict.headers
        return error
    }
    static let storeUnavailable = APIError(.serviceUnavailable, "the store does not answer", retryAfter: 5)
    static let ambiguousID = APIError(.conflict, "the id is a prefix of more than one; give more of it")
    static let hostIsGone = APIError(
        .conflict, "host is gone",
        ["message": .string("the agent was deleted; the container's data is on its host")])
    static let agentNotFound = APIError(.notFound, "agent not found")

    static func scopeMissing(_ scope: String) -> APIError {
        APIError(.forbidden, "insufficient permissions", ["message": .string("the token lacks the scope \"\(scope)\"")])
    }

    static func badField(_ field: String, _ value: String, expected: String) -> APIError {
        APIError(
            .badRequest, "\(field): found \(value), expected \(expected)",
            ["field": .string(field), "value": .string(value), "expected": .string(expected)])
    }

    func response(from request: Request, context: some RequestContext) throws -> Response {
        answer
    }

    var answer: Response {
        var response = Response.json(.object(fields), status: status)
        response.headers.append(contentsOf: headers)
        return response
    }
}

extension Response {
    static func json(_ value: JSONValue, status: HTTPResponse.Status = .ok) -> Response {
        json(ByteBuffer(bytes: value.json), status: status)
    }

    /// - Parameter text: JSON already.
    static func json(_ text: ByteBuffer, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status,
            headers: [.contentType: "application/json; charset=utf-8", .contentLength: String(text.readableBytes)],
            body: ResponseBody(byteBuffer: text))
    }
}

/// Makes every error an answer in JSON, and keeps what went wrong inside the log.
struct ErrorAnswers<Context: RequestContext>: RouterMiddleware {
    func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        var response = try await answer(request, context: context, next: next)
        // The answer to a HEAD has no body, or the next answer on the connection is read from the middle of it.
        if request.method == .head { response = response.createHeadResponse() }
        return response
    }

    private func answer(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let error as APIError {
            return error.answer
        } catch let error as HTTPError {
            let text =
                switch error.status {
                case .notFound: "not found"
                case .contentTooLarge: "the body is larger than 1 MiB"
                default: error.body ?? error.status.reasonPhrase.lowercased()
                }
            return .json(.object(["error": .string(text)]), status: error.status)
        } catch is CancellationError {
            throw CancellationError()
        } catch let error as HTTPParserError {
            // Of the server: it says 400 and closes, for nobody knows where the next request begins.
            throw error
        } catch let failure as StoreFailure {
            context.logger.error(
                "the store does not answer", metadata: ["path": "\(request.uri.path)", "error": "\(failure)"])
            return APIError.storeUnavailable.answer
        } catch {
            context.logger.error(
                "request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return .json(.object(["error": .string("internal error")]), status: .internalServerError)
        }
    }
}
