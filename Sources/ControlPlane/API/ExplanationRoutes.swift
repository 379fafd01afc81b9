import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Hummingbird
import ServiceRuntime

/// Why a container is as it is, and what was done to it.
extension ContainerRoutes {
    static let mostExplanationBytes = 256 * 1024

    /// The agent's own answer where it is connected; else the last that was known.
    @Sendable func explain(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        let container = try await find(context, caller)
        var fields: [String: JSONValue] = [
            "id": .string(container.presentedID), "db_id": .string(container.id.text),
            "name": .string(container.spec.name), "status": .string(container.status.rawValue),
            "wanted": .string(container.wish.rawValue), "generation": .integer(container.generation),
            "accepted_generation": .integer(container.observed?.generation ?? 0),
            "observed_generation": .integer(container.observed?.observedGeneration ?? 0),
        ]
        let host = try await gateway.state(of: container.agent)
        let isOnline = host == .online
        if let message = Presentation.message(container, host: host) {
            fields["message"] = .string(message)
        }
        guard let agent = container.agent else { return .json(.object(fields)) }
        fields["agent"] = .object(["id": .string("agent:\(agent)"), "online": .bool(isOnline)])
        let answer = isOnline ? await gateway.explain(container.id, on: agent) : nil
        if let text = answer?.answer, text.utf8.count <= Self.mostExplanationBytes,
            let explanation = try? JSONCoding.decode(JSONValue.self, from: text)
        {
            fields["explanation"] = explanation
        } else if isOnline {
            fields["message"] = .string(answer?.error ?? "the agent did not answer in time; ask again")
        }
        return .json(.object(fields))
    }

    @Sendable func history(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        let limit: Int
        switch request.uri.queryParameters["limit"] {
        case nil: limit = 50
        case let text?:
            guard let number = Int(text), (1...Store.historyLimit).contains(number) else {
                throw APIError.badField(
                    "limit", "\"\(text.prefix(40))\"", expected: "1 to \(Store.historyLimit)")
            }
            limit = number
        }
        let container = try await find(context, caller)
        let records = try await store.history(of: container.id, limit: limit)
        return .json(
            .object([
                "db_id": .string(container.id.text), "name": .string(container.spec.name),
                "actions": .array(records.map(Self.action)),
            ]))
    }

    private static func action(_ record: ActionRecord) -> JSONValue {
        var fields: [String: JSONValue] = [
            "at": .string(Timestamp.text(seconds: record.at)), "generation": .integer(record.generation),
            "action": .string(record.action), "reason": .string(record.reason),
            "result": .string(record.result.rawValue), "milliseconds": .integer(record.milliseconds),
        ]
        if let error = record.error { fields["error"] = .string(error) }
        return .object(fields)
    }
}
