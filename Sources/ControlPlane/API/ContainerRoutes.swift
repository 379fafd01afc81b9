import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import ServiceRuntime

/// `/api/containers`, as the reference documents it.
struct ContainerRoutes: Sendable {
    let service: ContainerService
    let store: Store
    let gateway: AgentGateway
    let agents: AgentRoutes
    private let listings = ListingCache()

    init(service: ContainerService, store: Store, gateway: AgentGateway, agents: AgentRoutes) {
        self.service = service
        self.store = store
        self.gateway = gateway
        self.agents = agents
    }

    func add(to group: RouterGroup<APIContext>) {
        group.post("containers", use: create)
        group.get("containers", use: list)
        group.get("containers/:id", use: get)
        group.get("containers/:id/explain", use: explain)
        group.get("containers/:id/history", use: history)
        group.post("containers/:id/start", use: start)
        group.post("containers/:id/stop", use: stop)
        group.patch("containers/:id", use: update)
        group.patch("containers/:id/settings", use: update)
        group.delete("containers/:id", use: delete)
        group.post("containers/:id/restore", use: restore)
        group.post("containers/:id/keepalive", use: keepAlive)
    }

    // MARK: create and read

    private func image(_ body: inout BodyReader) throws -> String {
        do {
            if let image = try body.text("image"), !image.isEmpty { return image }
            throw APIError.badField(
                "image", "nothing",
                expected: "one of \(service.configuration.images.supported.joined(separator: ", "))")
        } catch var error as APIError {
            error.fields["supported_images"] = service.supportedImages
            throw error
        }
    }

    private static let idempotencyKey = HTTPField.Name("Idempotency-Key")!

    @Sendable func create(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        var body = try await BodyReader(request)
        let image = try self.image(&body)
        var order = ContainerService.CreateOrder(
            name: try body.text("name").flatMap { $0.isEmpty ? nil : $0 }, image: image,
            customImage: try body.text("custom_image"), role: try body.text("role") ?? "",
            resources: try Self.resources(&body), environment: try Self.environment(&body),
            labels: try Self.labels(&body), command: try body.texts("command"), runtime: try body.text("runtime"),
            idempotencyKey: try body.text("idempotency_key"))
        if let runtime = order.runtime, ![RuntimeChoice.gvisor, RuntimeChoice.runc].contains(runtime) {
            throw APIError.badField("runtime", "\"\(runtime.prefix(80))\"", expected: "gvisor or runc")
        }
        try Self.checkLength(order)
        if let text = try body.text("agent") { order.hosts = try Self.hosts(text) }
        order.idempotencyKey = order.idempotencyKey ?? request.headers[Self.idempotencyKey]
        if let key = order.idempotencyKey, !(1...255).contains(key.utf8.count) {
            throw APIError.badField("idempotency_key", "\(key.utf8.count) bytes", expected: "1 to 255 bytes")
        }
        if let text = try body.text("pull") {
            guard let pull = PullPolicy(rawValue: text) else {
                let all = PullPolicy.allCases.map(\.rawValue).joined(separator: ", ")
                throw APIError.badField("pull", "\"\(text.prefix(80))\"", expected: all)
            }
            order.pull = pull
        }
        order.idleTimeout = try Self.idleTimeout(&body)
        order.shell = try body.object("shell", read: Self.shell)
        order.ports = try Self.ports(&body)
        let warnings = body.warnings

        let container = try await service.create(order, for: caller.user)
        var answer = JSONObjectText()
        answer.add("id", container.presentedID)
        answer.add("db_id", container.id.text)
        answer.add("user_id", container.userID)
        answer.add("name", container.spec.name)
        answer.add("image", container.image)
        answer.add("role", container.role)
        answer.add("status", container.status.rawValue)
        answer.add("created_at", Timestamp.text(seconds: container.createdAt))
        answer.add("async", true)
        answer.add("message", Self.message(container))
        answer.add("resources", Presentation.resources(container))
        if let end = container.spec.expiresAt {
            answer.add("expires_at", Timestamp.text(seconds: end))
            answer.add("session_limit_seconds", Int((end - container.createdAt).rounded()))
        }
        answer.add("warnings", warnings.isEmpty ? nil : warnings)
        return .json(ByteBuffer(string: answer.text), status: .accepted)
    }

    /// - Parameter container: a new one, or the one of before that an idempotency key stands for.
    private static func message(_ container: ContainerRecord) -> String {
        if let reason = container.placement { return "Container will be created once there is a host: \(reason)" }
        guard container.status == .creating else { return "Container was created before, by the same idempotency key." }
        return "Container is being created. This may take a moment if the image needs to be pulled."
    }

    @Sendable func list(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        if request.uri.queryParameters.get("deleted") == "true" {
            var entries: [JSONValue] = []
            for container in try await store.deletedContainers(of: caller.user.id) {
                entries.append(Presentation.deleted(container, keptFor: service.configuration.retentionDays))
            }
            return .json(.object(["containers": .array(entries), "count": .integer(entries.count)]))
        }
        let user = caller.user
        let stamp = (caller.version ?? store.version()).map { version in
            ListingCache.Stamp(
                version: version.all, changes: gateway.changes.count, tier: user.tier, second: Int(Timestamp.now()))
        }
        return .json(
            try await listings.list(of: user.id, stamp) {
                ByteBuffer(bytes: try await listing(of: user).json)
            })
    }

    /// Containers and agents of a user, newest first; also the first frame of every event stream.
    func listing(of user: UserRecord) async throws -> JSONValue {
        var entries: [(created: Double, value: JSONValue)] = []
        let containers = try await store.containers(of: user.id)
        for (container, live) in zip(containers, try await gateway.live(containers)) {
            entries.append((container.createdAt, present(container, live)))
        }
        for agent in try await store.agents(of: user.id) {
            entries.append((agent.createdAt, await agents.present(agent)))
        }
        entries.sort { $0.created > $1.created }
        return .object([
            "containers": .array(entries.map(\.value)), "count": .integer(entries.count),
            "limit": .integer(service.configuration.tiers[user.tier].containers),
        ])
    }

    private func present(_ container: ContainerRecord, _ live: AgentGateway.Live) -> JSONValue {
        Presentation.container(
            container, activity: live.host == .online ? live.activity : nil, progress: live.progress, host: live.host)
    }

    private func present(_ container: ContainerRecord) async throws -> JSONValue {
        present(container, try await gateway.live([container])[0])
    }

    /// Tells its owner's listeners what it is now.
    func announce(_ id: WorkloadID) async throws {
        guard let container = try await store.container(id) else { return }
        service.announce("container_updated", to: container.userID, try await present(container))
    }

    @Sendable func get(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.read)
        if let agent = try Self.agentID(context) {
            return .json(await agents.present(try await agents.owned(agent, by: caller)))
        }
        return .json(try await present(try await find(context, caller)))
    }

    // MARK: change

    @Sendable func start(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        if let agent = try Self.agentID(context) {
            return try await agents.start(try await agents.owned(agent, by: caller))
        }
        let container = try await changeable(context, caller)
        let tier = caller.user.tier
        if tier.hasSessions, let end = container.spec.expiresAt, Timestamp.now() >= end {
            throw APIError(.forbidden, "guest session expired")
        }
        return try await started(try await service.start(container, tier: tier))
    }

    @Sendable func restore(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        let outcome = try await service.restore(try Self.id(context), for: caller.user)
        guard outcome.container.wish == .running else {
            return .json(
                .object([
                    "message": .string("container restored"), "id": .string(outcome.container.presentedID),
                    "name": .string(outcome.container.spec.name), "status": .string("stopped"),
                ]))
        }
        return try await started(outcome)
    }

    private func started(_ outcome: ContainerService.Outcome) async throws -> Response {
        let now = outcome.container
        guard outcome.isConfirmed else { return try await pending(now, "container will be started") }
        guard now.isUp else {
            throw APIError(
                .internalServerError, "failed to start container",
                ["message": .string(Presentation.message(now, host: .online) ?? now.status.rawValue)])
        }
        var fields: [String: JSONValue] = [
            "message": .string("container started"), "id": .string(now.presentedID), "name": .string(now.spec.name),
            "status": .string("running"),
        ]
        if let old = outcome.before.observed?.engineContainer, let new = now.observed?.engineContainer, old != new {
            fields["message"] = .string("container recreated and started")
            fields["old_id"] = .string(old.text)
            fields["recreated"] = .bool(true)
            fields["volume_kept"] = .bool(now.observed?.volumeKept ?? false)
        }
        return .json(.object(fields))
    }

    @Sendable func stop(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        if let agent = try Self.agentID(context) {
            return try await agents.stop(try await agents.owned(agent, by: caller))
        }
        let outcome = try await service.stop(try await changeable(context, caller))
        guard outcome.isConfirmed else { return try await pending(outcome.container, "container will be stopped") }
        guard outcome.container.status == .stopped else {
            throw APIError(
                .internalServerError, "failed to stop container",
                ["message": .string(Presentation.message(outcome.container, host: .online) ?? "")])
        }
        return .json(
            .object([
                "message": .string("container stopped"), "id": .string(outcome.container.presentedID),
                "name": .string(outcome.container.spec.name), "status": .string("stopped"),
            ]))
    }

    @Sendable func delete(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        if let agent = try Self.agentID(context) {
            return try await agents.delete(try await agents.owned(agent, by: caller))
        }
        let container = try await unlocked(context, caller)
        let outcome = try await service.delete(container)
        var fields: [String: JSONValue] = [
            "message": .string("container deleted"), "id": .string(container.presentedID),
            "db_id": .string(container.id.text), "name": .string(container.spec.name),
        ]
        guard !outcome.isConfirmed else { return .json(.object(fields)) }
        let stillToDo: String
        switch try await gateway.state(of: container.agent) {
        case .online: stillToDo = "its host is still at it"
        case .offline: stillToDo = "its host will remove it when it reconnects"
        case .gone:
            // All that can be done is done.
            fields["warnings"] = .array([.string("its host was deleted: what is on it stays there")])
            return .json(.object(fields))
        }
        fields["message"] = .string("container deleted; \(stillToDo)")
        return .json(.object(fields), status: .accepted)
    }

    @Sendable func update(_ request: Request, _ context: APIContext) async throws -> Response {
        let caller = try context.caller
        try caller.require(.write)
        guard try Self.agentID(context) == nil else {
            throw APIError(.badRequest, "agents are changed at /api/agents/{id}")
        }
        let container = try await changeable(context, caller)
        var body = try await BodyReader(request)
        let name = try body.text("name")
        let resources = try Self.resources(&body)
        let outcome = try await service.update(
            container, name: name, resources: resources, idleTimeout: try Self.idleTimeout(&body),
            tier: caller.user.tier)
        let now = outcome.container
        let (before, after) = (outcome.before.observed, now.observed)
        let restarted =
            before?.startedAt != nil && after?.startedAt != nil
            && (before?.engineContainer != after?.engineContainer || before?.startedAt != after?.startedAt)
        var fields: [String: JSONValue] = [
            "message": .string("settings updated"), "restarted": .bool(restarted), "container": try await present(now),
        ]
        let warnings = body.warnings + leftBehind(outcome)
        if !warnings.isEmpty { fields["warnings"] = .array(warnings.map { .string($0) }) }
        guard outcome.isConfirmed else {
            let isOnline = await gateway.isOnline(now.agent)
            let when = now.agent == nil ? " once there is a host" : isOnline ? "" : " when the host reconnects"
            fields["message"] = .string("settings will be applied" + when)
            return .json(.object(fields), status: .accepted)
        }
        // The old container runs again, as it was.
        let isRolledBack = after?.reason == "rolled_back" && (after?.observedGeneration ?? 0) < now.generation
        if after?.phase == .failed || isRolledBack {
            throw APIError(
                .internalServerError, "failed to update settings",
                [
                    "message": .string(Presentation.message(now, host: .online) ?? ""),
                    "container": try await present(now),
                ])
        }
        return .json(.object(fields))
    }

    /// A change that needs another container leaves behind what the old one wrote outside its volumes.
    private func leftBehind(_ outcome: ContainerService.Outcome) -> [String] {
        guard outcome.before.spec.fingerprint != outcome.container.spec.fingerprint,
            let written = outcome.before.observed?.writableLayerMB, written > 0
        else { return [] }
        return [
            "\(written) MiB written outside \(outcome.container.spec.volumes.map(\.path).joined(separator: ", "))"
                + " do not come along: this change needs another container"
        ]
    }

    private func pending(_ container: ContainerRecord, _ what: String) async throws -> Response {
        let host = try await gateway.state(of: container.agent)
        let isOnline = host == .online
        let why =
            container.placement ?? Presentation.message(container, host: host)
            ?? "this will be applied when the host has answered"
        return .json(
            .object([
                "message": .string(
                    "\(what); \(isOnline || container.agent == nil ? why : "this will be applied when the host reconnects")"
                ),
                "id": .string(container.presentedID), "name": .string(container.spec.name),
                "status": .string(container.status.rawValue),
            ]), status: .accepted)
    }

    // MARK: parts

    /// Nil where the id is not one of an agent; 404 where it is a malformed one.
    static func agentID(_ context: APIContext) throws -> AgentID? {
        let text = try Self.id(context)
        guard text.hasPrefix("agent:") else { return nil }
        guard let id = agentID(text) else { throw APIError.containerNotFound }
        return id
    }

    static func agentID(_ text: String) -> AgentID? {
        text.hasPrefix("agent:") ? AgentID(String(text.dropFirst("agent:".count))) : nil
    }

    /// - Parameter missing: what to say of one that nothing can have.
    static func id(_ context: APIContext, orElse missing: APIError = .containerNotFound) throws -> String {
        let raw = try context.parameters.require("id")
        guard let text = raw.removingPercentEncoding, text.utf8.count <= 200, !text.utf8.contains(0) else {
            throw missing
        }
        return text
    }

    /// - Throws: 423 where it is locked; 409 where its agent was deleted, for nobody would carry out the change.
    private func changeable(_ context: APIContext, _ caller: Caller) async throws -> ContainerRecord {
        let container = try await unlocked(context, caller)
        if try await gateway.state(of: container.agent) == .gone { throw APIError.hostIsGone }
        return container
    }

    /// - Throws: 423 where it is locked.
    private func unlocked(_ context: APIContext, _ caller: Caller) async throws -> ContainerRecord {
        let container = try await find(context, caller)
        if container.isLocked { throw APIError.locked("container") }
        return container
    }

    func find(_ context: APIContext, _ caller: Caller) async throws -> ContainerRecord {
        switch try await store.find(try Self.id(context), of: caller.user.id) {
        case .found(let container): return container
        case .notFound: throw APIError.containerNotFound
        case .ambiguous: throw APIError.ambiguousID
        }
    }
}
