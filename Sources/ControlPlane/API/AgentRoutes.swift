import AgentProtocol
import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import HTTPTypes
import Hummingbird
import ServiceRuntime

/// `/api/agents`, and what `agent:` ids answer among the containers.
struct AgentRoutes: Sendable {
    let store: Store
    let gateway: AgentGateway

    /// A stopped agent comes back by itself after this.
    private static let reconnectAfterSeconds = 60

    func add(to group: RouterGroup<APIContext>) {
        group.post("agents/register", use: register)
        group.post("agents", use: register)
        group.get("agents", use: list)
        group.get("agents/:id", use: get)
        group.get("agents/:id/status", use: status)
        group.delete("agents/:id", use: delete)
        group.patch("agents/:id", use: update)
    }

    @Sendable func register(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.agent)
        var body = try await BodyReader(request)
        guard let name = try Self.name(&body) else {
            throw APIError.badField("name", "nothing", expected: Self.nameLength)
        }
        let now = Timestamp.now()
        let id = AgentID(validated: Secrets.newUUID())
        let host = HostDescription(
            hostname: try Self.text("hostname", most: 255, &body) ?? "",
            os: try Self.text("os", most: 64, &body) ?? "linux", arch: try Self.text("arch", most: 64, &body) ?? "",
            distro: try Self.text("distro", most: 200, &body) ?? "")
        // Of terminals, which are not there yet: taken as existing agents send it.
        _ = try Self.text("shell", most: 255, &body)
        let agent = AgentRecord(
            id: id, userID: caller.user.id, name: name, details: try Self.details(&body) ?? "",
            tags: try Self.tags(&body) ?? [], isShared: caller.user.isAdmin, host: host.bounded(), createdAt: now,
            lastSeenAt: now)
        let text = Secrets.newToken()
        let token = TokenRecord(
            id: Secrets.newUUID(), userID: caller.user.id, name: "agent \(name)", prefix: String(text.prefix(12)),
            scopes: [.agent], agent: id, createdAt: now)
        try await store.register(agent, token: token, hash: Secrets.hash(text))
        AuditNote.current?.concerns("agent:\(id)")
        return .json(
            .object(["id": .string(id.text), "name": .string(name), "token": .string(text)]), status: .created)
    }

    private static let nameLength = "1 to 64 bytes of text"

    private static func name(_ body: inout BodyReader) throws -> String? {
        guard let name = try body.text("name", expected: nameLength) else { return nil }
        guard (1...64).contains(name.utf8.count) else {
            throw APIError.badField("name", "\(name.utf8.count) bytes", expected: nameLength)
        }
        return name
    }

    private static func details(_ body: inout BodyReader) throws -> String? {
        try text("description", most: 2000, &body)
    }

    private static func text(_ field: String, most: Int, _ body: inout BodyReader) throws -> String? {
        let text = try body.text(field)
        if let text, text.utf8.count > most {
            throw APIError.badField(field, "\(text.utf8.count) bytes", expected: "at most \(most) bytes of text")
        }
        return text
    }

    private static func tags(_ body: inout BodyReader) throws -> [String]? {
        let tags = try body.texts("tags")
        if let tags, tags.count > 32 || tags.contains(where: { !(1...64).contains($0.utf8.count) }) {
            throw APIError.badField("tags", "\(tags.count) tags", expected: "at most 32 tags of 1 to 64 bytes")
        }
        return tags
    }

    /// A bare array, as existing agents read it.
    @Sendable func list(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        var entries: [JSONValue] = []
        for agent in try await store.agents(of: caller.user.id) { entries.append(await present(agent)) }
        return .json(.array(entries))
    }

    @Sendable func get(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        return .json(await present(try await owned(try id(context), by: caller)))
    }

    @Sendable func status(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        let agent = try await owned(try id(context), by: caller)
        let isOnline = await gateway.isOnline(agent.id)
        return .json(
            .object([
                "id": .string(agent.id.text), "status": .string(isOnline ? "online" : "offline"),
                "last_seen_at": .string(Timestamp.text(seconds: isOnline ? Timestamp.now() : agent.lastSeenAt)),
            ]))
    }

    /// Name, description and tags; what is left out stays.
    @Sendable func update(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        let agent = try await owned(try id(context), by: caller)
        var body = try await BodyReader(request)
        let changed = try Self.changed(
            try await store.update(
                agent.id, name: try Self.name(&body), details: try Self.details(&body), tags: try Self.tags(&body)))
        // Something may have waited for a host with these labels.
        if changed.tags != agent.tags || changed.name != agent.name { await gateway.board.post(.placementWanted) }
        return .json(await present(changed))
    }

    @Sendable func delete(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        return try await delete(try await owned(try id(context), by: caller))
    }

    // MARK: among the containers

    func present(_ agent: AgentRecord) async -> JSONValue {
        Presentation.agent(agent, isOnline: await gateway.isOnline(agent.id), stats: await gateway.stats(of: agent.id))
    }

    /// Another user's agent does not exist.
    func owned(_ id: AgentID, by caller: Caller) async throws -> AgentRecord {
        if let agent = try await store.agent(id), agent.userID == caller.user.id { return agent }
        // Twelve characters of it will do, as for containers.
        guard id.text.utf8.count >= 12 else { throw APIError.agentNotFound }
        let found = try await store.agents(of: caller.user.id).filter { $0.id.text.hasPrefix(id.text) }
        guard found.count <= 1 else { throw APIError.ambiguousID }
        guard let agent = found.first else { throw APIError.agentNotFound }
        return agent
    }

    func start(_ agent: AgentRecord) async throws -> Response {
        if agent.isLocked { throw APIError.locked("agent") }
        if agent.frozenAt != nil {
            try await store.unfreeze(agent.id)
            return .json(
                .object([
                    "message": .string("the agent may connect again; it does so by itself within ten minutes"),
                    "id": .string("agent:\(agent.id)"), "name": .string(agent.name), "status": .string("offline"),
                ]))
        }
        guard await gateway.isOnline(agent.id) else {
            throw APIError(
                .conflict, "agent is offline",
                ["message": .string("start it on its host: systemctl start berth-agent, or berth-agent run")])
        }
        return .json(
            .object([
                "message": .string("agent is online"), "id": .string("agent:\(agent.id)"), "name": .string(agent.name),
                "status": .string("online"),
            ]))
    }

    /// Disconnects it. Its host and its workloads are not affected, and it reconnects by itself.
    func stop(_ agent: AgentRecord) async throws -> Response {
        if agent.isLocked { throw APIError.locked("agent") }
        await gateway.disconnect(
            agent.id,
            .init(code: .stopped, reason: "stopped by its owner", reconnectAfterSeconds: Self.reconnectAfterSeconds))
        return .json(
            .object([
                "message": .string("agent disconnected"), "id": .string("agent:\(agent.id)"),
                "name": .string(agent.name),
                "status": .string("offline"), "reconnect_after": .integer(Self.reconnectAfterSeconds),
            ]))
    }

    /// Its token is void before anything else happens; its workloads keep running on its host.
    func delete(_ agent: AgentRecord) async throws -> Response {
        _ = try Self.changed(try await store.deleteAgent(agent.id, now: Timestamp.now()))
        await gateway.disconnect(agent.id, .init(code: .deleted, reason: "deleted by its owner"))
        return .json(
            .object([
                "message": .string("agent deleted"), "id": .string("agent:\(agent.id)"),
                "db_id": .string(agent.id.text),
                "name": .string(agent.name),
            ]))
    }

    private static func changed(_ change: Store.AgentChange) throws -> AgentRecord {
        switch change {
        case .changed(let agent): return agent
        case .notFound: throw APIError.agentNotFound
        case .locked: throw APIError.locked("agent")
        case .containerLocked: throw APIError.locked("a container on the agent")
        }
    }

    private func id(_ context: APIContext) throws -> AgentID {
        let text = try ContainerRoutes.id(context, orElse: .agentNotFound)
        guard let id = ContainerRoutes.agentID(text) ?? AgentID(text) else { throw APIError.agentNotFound }
        return id
    }
}
