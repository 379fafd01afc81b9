import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Hummingbird
import ServiceRuntime

/// What keeps a container from being stopped for idleness, and when it is.
extension ContainerRoutes {
    private static let ttl = 0...86_400
    private static let usualTTL = 300
    private static let mostReasonBytes = 200

    /// The field `idle_timeout_seconds`: 0 takes it away, as far as the tier allows.
    static func idleTimeout(_ body: inout BodyReader) throws -> Int? {
        let range = WorkloadSpec.idleTimeoutRange
        let expected = "0 (never) or a whole number from \(range.lowerBound) to \(range.upperBound)"
        guard let seconds = try body.integer("idle_timeout_seconds", expected: expected) else { return nil }
        guard seconds == 0 || range.contains(seconds) else {
            throw APIError.badField("idle_timeout_seconds", "\(seconds)", expected: expected)
        }
        return seconds
    }

    /// For so many seconds from now it counts as used, whatever it does. The last word counts; 0 ends it.
    @Sendable func keepAlive(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        let container = try await find(context, caller)
        if try await gateway.state(of: container.agent) == .gone { throw APIError.hostIsGone }
        var body = try await BodyReader(request, mayBeEmpty: true)
        let expected = "a whole number of seconds from \(Self.ttl.lowerBound) to \(Self.ttl.upperBound)"
        let seconds = try body.integer("ttl", expected: expected) ?? Self.usualTTL
        guard Self.ttl.contains(seconds) else { throw APIError.badField("ttl", "\(seconds)", expected: expected) }
        let reason = try body.text("reason")
        if let reason, reason.utf8.count > Self.mostReasonBytes {
            throw APIError.badField(
                "reason", "\(reason.utf8.count) bytes", expected: "at most \(Self.mostReasonBytes) bytes of text")
        }
        let held = try await service.keepAlive(container, seconds: seconds)
        var fields: [String: JSONValue] = [
            "message": .string(seconds == 0 ? "container not kept alive any more" : "container kept alive"),
            "id": .string(held.presentedID), "db_id": .string(held.id.text), "name": .string(held.spec.name),
            "status": .string(held.status.rawValue),
        ]
        if seconds > 0, let until = held.spec.heldUntil {
            fields["keepalive_until"] = .string(Timestamp.text(seconds: until))
        }
        if let reason { fields["reason"] = .string(reason) }
        if !body.warnings.isEmpty { fields["warnings"] = .array(body.warnings.map { .string($0) }) }
        return .json(.object(fields))
    }
}
