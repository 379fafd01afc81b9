import FoundationEssentials
import NIOHTTP1

extension DockerEngine {
    /// - Parameter filters: as the Engine documents them, for example `["label": ["a=b"], "status": ["running"]]`.
    package func listContainers(
        all: Bool = true, filters: [String: [String]] = [:]
    ) async throws -> [ContainerSummary] {
        var query = QueryItems()
        if all { query.add("all", "1") }
        try query.add(filters: filters)
        return try await get(query.target(versioned("/containers/json")), call: "container list")
    }

    package func inspectContainer(_ id: String) async throws -> ContainerDetails {
        try await get(
            try path("containers", id, "/json"), call: "container inspect", object: id,
            deadline: deadlines.inspect)
    }

    /// Bytes that the container wrote outside its volumes. The Engine walks through the files for it: dear for many.
    package func writableLayerSize(_ id: String) async throws -> Int {
        struct Body: Decodable, Sendable { var SizeRw: Int? }
        var query = QueryItems()
        query.add("size", "1")
        let body: Body = try await get(
            try query.target(path("containers", id, "/json")), call: "container inspect with size", object: id)
        return max(0, body.SizeRw ?? 0)
    }

    /// - Returns: the new container's id, and the Engine's warnings.
    package func createContainer(
        name: String, _ specification: ContainerSpecification
    ) async throws -> ContainerCreated {
        var query = QueryItems()
        query.add("name", name)
        let answer = try await post(
            query.target(versioned("/containers/create")), body: specification, call: "container create", object: name)
        return try decode(answer.body, call: "container create", object: name)
    }

    /// Whether a call changed anything, or found its end reached already (304).
    package enum Effect: Hashable, Sendable { case changed, alreadySo }

    @discardableResult
    package func startContainer(_ id: String) async throws -> Effect {
        let answer = try await send(
            .POST, try path("containers", id, "/start"), call: "container start", object: id,
            deadline: deadlines.start)
        return answer.status == 304 ? .alreadySo : .changed
    }

    /// Changes limits on the container as it is and takes its restart policy back.
    package func updateContainer(_ id: String, _ change: ContainerChange) async throws {
        _ = try await post(
            try path("containers", id, "/update"), body: change, call: "container update", object: id)
    }

    /// Sends the stop signal, and after `graceSeconds` the kill; the call lasts that long.
    @discardableResult
    package func stopContainer(_ id: String, graceSeconds: Int) async throws -> Effect {
        var query = QueryItems()
        query.add("t", String(graceSeconds))
        let answer = try await send(
            .POST, try query.target(path("containers", id, "/stop")), call: "container stop", object: id,
            deadline: .seconds(graceSeconds) + deadlines.answer)
        return answer.status == 304 ? .alreadySo : .changed
    }

    package func killContainer(_ id: String, signal: String = "KILL") async throws {
        var query = QueryItems()
        query.add("signal", signal)
        _ = try await send(
            .POST, try query.target(path("containers", id, "/kill")), call: "container kill", object: id)
    }

    /// Removes the container and leaves its volumes, anonymous ones too: there is no way to ask for anything else.
    package func removeContainer(_ id: String, force: RemovalForce = .onlyStopped) async throws {
        var query = QueryItems()
        query.add("v", "0")
        if force == .killFirst { query.add("force", "1") }
        _ = try await send(
            .DELETE, try query.target(path("containers", id)), call: "container remove", object: id)
    }

    package enum RemovalForce: Hashable, Sendable { case onlyStopped, killFirst }

    /// Waits until the container does not run, and gives its exit code.
    package func waitContainer(_ id: String, deadline: Duration) async throws -> Int {
        struct Body: Decodable, Sendable { var StatusCode: Int }
        let answer = try await send(
            .POST, try path("containers", id, "/wait"), call: "container wait", object: id,
            deadline: deadline)
        let body: Body = try decode(answer.body, call: "container wait", object: id)
        return body.StatusCode
    }

    /// One sample, without the second that the Engine otherwise takes to compute a rate.
    package func oneShotStats(_ id: String) async throws -> ContainerStats {
        var query = QueryItems()
        query.add("stream", "0")
        query.add("one-shot", "1")
        return try await get(
            try query.target(path("containers", id, "/stats")), call: "container stats", object: id,
            deadline: .seconds(2))
    }
}

extension QueryItems {
    mutating func add(filters: [String: [String]]) throws {
        guard !filters.isEmpty else { return }
        add("filters", String(decoding: try JSONEncoder().encode(filters), as: UTF8.self))
    }
}
