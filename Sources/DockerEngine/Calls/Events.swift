import NIOCore
import NIOHTTP1

extension DockerEngine {
    /// Hands over what happens from now on, or from `since`, until the Engine ends the stream or the task is cancelled.
    ///
    /// - Parameters:
    ///   - since: seconds since 1970 UTC; the Engine replays the few events it keeps.
    ///   - onOpen: called once the Engine has accepted the subscription: what changes later is not missed.
    /// - Throws: `EngineError` of kind `cutOff` where the stream breaks: what happened meanwhile is unknown then.
    package func events(
        since: Double? = nil, filters: [String: [String]] = [:], onOpen: @escaping @Sendable () async -> Void = {},
        take: @escaping @Sendable (EngineEvent) async throws -> Void
    ) async throws {
        var query = QueryItems()
        if let since {
            let seconds = Int(since)
            let rest = String(Int((since - Double(seconds)) * 1_000_000_000))
            query.add("since", "\(seconds).\(String(repeating: "0", count: max(0, 9 - rest.count)))\(rest)")
        }
        try query.add(filters: filters)
        let request = EngineConnection.Request(
            method: .GET, target: query.target(versioned("/events")), body: nil, call: "events", object: "")
        try await stream(request, JSONLineDecoder(), onHead: onOpen) { line in
            try await take(try decode(line, call: "events", object: ""))
        }
    }
}

/// One event; the fields that are used.
package struct EngineEvent: Decodable, Hashable, Sendable {
    package struct Actor: Decodable, Hashable, Sendable {
        package var id: String?
        package var attributes: [String: String]?
        private enum CodingKeys: String, CodingKey {
            case id = "ID"
            case attributes = "Attributes"
        }
    }

    /// `container`, `image`, `volume`, `network`, `daemon`, …
    package var type: String
    /// `start`, `die`, `destroy`, … ; exec and health events carry more after a colon.
    package var action: String
    package var actor: Actor
    /// Nanoseconds since 1970 UTC.
    package var timeNano: Int

    private enum CodingKeys: String, CodingKey {
        case type = "Type"
        case action = "Action"
        case actor = "Actor"
        case timeNano
    }
}
