import ControlPlaneCore
import ControlPlaneStore
import HTTPTypes
import Hummingbird
import Logging
import ServiceRuntime

/// Keeps who asked for which change, and what came of it. Reading is not kept: it is most of the traffic and changes nothing.
struct AuditTrail: RouterMiddleware {
    typealias Context = APIContext
    let store: Store

    func handle(
        _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        guard request.method != .get, request.method != .head else { return try await next(request, context) }
        let note = AuditNote(try record(of: request, context))
        let response: Response
        do {
            response = try await AuditNote.$current.withValue(note) { try await next(request, context) }
        } catch let error as APIError {
            await keep(note, context, status: error.status.code)
            throw error
        } catch let error as StoreFailure {
            await keep(note, context, status: APIError.storeUnavailable.status.code)
            throw error
        } catch {
            await keep(note, context, status: 500)
            throw error
        }
        await keep(note, context, status: response.status.code)
        return response
    }

    /// With the status of most that succeed: what a creation has is 202.
    private func record(of request: Request, _ context: APIContext) throws -> AuditRecord {
        let caller = try context.caller
        let isCreation = request.method == .post && context.parameters.get("id") == nil
        return AuditRecord(
            at: Timestamp.now(), userID: caller.user.id, userName: caller.user.name, tokenID: caller.token.id,
            address: context.address, action: "\(request.method.rawValue) \(context.endpointPath ?? request.uri.path)",
            object: context.parameters.get("id").map { String($0.prefix(200)) }, status: isCreation ? 202 : 200)
    }

    private func keep(_ note: AuditNote, _ context: APIContext, status: Int) async {
        do {
            try await store.keep(note, status: status)
        } catch {
            // The change is made; the log of the program is what is left.
            context.logger.error(
                "audit record lost", metadata: ["record": "\(note.record)", "status": "\(status)", "error": "\(error)"])
        }
    }
}

/// `GET /api/audit`, for administrators.
struct AuditRoutes: Sendable {
    let store: Store

    func add(to group: RouterGroup<APIContext>) { group.get("audit", use: list) }

    @Sendable func list(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.admin)
        guard caller.user.isAdmin else { throw APIError.scopeMissing(Scope.admin.rawValue) }
        let query = request.uri.queryParameters
        func number(_ name: String, default fallback: Int, in range: ClosedRange<Int>) throws -> Int {
            guard let text = query.get(name) else { return fallback }
            guard let number = Int(text), range.contains(number) else {
                throw APIError.badField(
                    name, "\"\(text.prefix(40))\"",
                    expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
        let records = try await store.audit(
            before: try number("before", default: .max, in: 1...Int.max),
            user: query.get("user").flatMap { $0.utf8.contains(0) ? "" : $0 },
            limit: try number("limit", default: 100, in: 1...1000))
        return .json(.object(["entries": .array(records.map(Self.present)), "count": .integer(records.count)]))
    }

    private static func present(_ record: AuditRecord) -> JSONValue {
        .object([
            "number": .integer(record.number), "at": .string(Timestamp.text(seconds: record.at)),
            "user_id": .string(record.userID), "username": .string(record.userName),
            "token_id": .string(record.tokenID), "address": .string(record.address), "action": .string(record.action),
            "object": record.object.map { .string($0) } ?? .null, "status": .integer(record.status),
        ])
    }
}
