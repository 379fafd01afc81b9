import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import HTTPTypes
import ServiceRuntime

/// What can be done with containers. A change is durable when a call returns, whatever becomes of the request that asked
/// for it; waiting for the agent is bounded.
struct ContainerService: Sendable {
    let store: Store
    let gateway: AgentGateway
    let board: NoticeBoard
    let desk: ConfirmationDesk
    let configuration: ServerConfiguration
    /// Rung where a session with an end begins.
    let housekeeping: Doorbell
    let announcements: Announcements
    /// For a container that is given no name; a test makes up one that is taken.
    var madeUpName: @Sendable () -> String = {
        var random = SystemRandomNumberGenerator()
        return ContainerName.generated(using: &random)
    }

    struct CreateOrder: Sendable {
        var name: String?
        var image: String
        var customImage: String?
        var role: String
        var shell: SetUp.Shell?
        var pull: PullPolicy?
        var ports: [PublishedPort]?
        /// Seconds; 0 asks for none.
        var idleTimeout: Int?
        var resources: ResourceRequest
        var environment: [String: String]
        var labels: [String: String]
        var command: [String]?
        var runtime: String?
        var hosts = HostWish.any
        var idempotencyKey: String?
    }

    static let roles = SetUp.Role.allCases.map(\.rawValue)
    /// Names for none.
    private static let none = ["", "default", "standard"]

    // MARK: create

    func create(_ order: CreateOrder, for user: UserRecord) async throws -> ContainerRecord {
        let limits = configuration.tiers[user.tier]
        if let name = order.name, !ContainerName.isValid(name) {
            throw APIError.badField("name", "\"\(name.prefix(80))\"", expected: "1 to 64 letters, digits and hyphens")
        }
        let (image, reference, architectures) = try image(order, for: user)
        if !(Self.roles + Self.none).contains(order.role) {
            throw APIError.badField(
                "role", "\"\(order.role.prefix(80))\"", expected: "one of \(Self.roles.joined(separator: ", "))")
        }
        let resources: Resources
        do {
            resources = try order.resources.resolved(for: limits)
        } catch {
            throw APIError.badField(error.field, error.value, expected: error.expected)
        }
        var hosts = order.hosts
        hosts.architectures = architectures
        for attempt in 1...5 {
            let id = WorkloadID(validated: Secrets.newUUID())
            let now = Timestamp.now()
            let spec = WorkloadSpec(
                name: order.name ?? madeUpName(), image: reference,
                runtime: RuntimeChoice(name: order.runtime ?? configuration.defaultRuntime), resources: resources,
                command: order.command, environment: order.environment, labels: order.labels,
                volumes: [VolumeMount(volume: VolumeMount.name(for: id), path: configuration.volumePath)],
                setUp: Self.setUp(order), pull: order.pull,
                expiresAt: configuration.sessionSeconds(of: user.tier).map { now + Double($0) },
                idleTimeoutSeconds: limits.idleTimeout(order.idleTimeout), ports: order.ports)
            if let problem = spec.problem { throw APIError(.badRequest, problem) }
            let record = ContainerRecord(
                id: id, userID: user.id, image: image, role: Self.none.contains(order.role) ? "" : order.role,
                spec: spec, createdAt: now, lastUsedAt: now)
            let rings = gateway.placement.count
            let outcome = try await store.create(
                record, limit: limits.containers, idempotencyKey: order.idempotencyKey, wish: hosts,
                online: await gateway.online)
            switch outcome {
            case .created(let container):
                if container.spec.expiresAt != nil { housekeeping.ring() }
                // It has just been looked at: again only where something may fit by now. What changes at other control
                // planes is not known here.
                let isNew = gateway.placement.count != rings || container.placement == Store.overtaken
                announcements.add { await announceCreation(of: container, isToBePlaced: board.isShared || isNew) }
                return container
            case .repeated(let container): return container
            case .limitReached(let current): throw limitReached(current, user)
            case .nameTaken where order.name == nil && attempt < 5: continue
            case .nameTaken: throw APIError(.conflict, "container name already exists")
            }
        }
        throw APIError(.conflict, "container name already exists")
    }

    private func announceCreation(of container: ContainerRecord, isToBePlaced: Bool) async {
        await board.post(
            .event(
                user: container.userID, type: "container_created",
                data: Presentation.container(container, activity: nil, host: .online)))
        if container.agent == nil, isToBePlaced { await board.post(.placementWanted) }
        await gateway.createRequested(container)
        await gateway.desiredStateChanged(container.agent)
    }

    private func limitReached(_ current: Int, _ user: UserRecord) -> APIError {
        APIError(
            .forbidden, "container limit reached",
            [
                "current": .integer(current), "limit": .integer(configuration.tiers[user.tier].containers),
                "tier": .string(user.tier.rawValue), "message": .string("Upgrade your plan to create more containers"),
            ])
    }

    private static func setUp(_ order: CreateOrder) -> SetUp? {
        let setUp = SetUp(role: SetUp.Role(rawValue: order.role), shell: order.shell)
        // Nothing is installed for barebone: no script need run for it.
        return setUp.isShellWanted || (setUp.role ?? .barebone) != .barebone ? setUp : nil
    }

    private func image(
        _ order: CreateOrder, for user: UserRecord
    ) throws -> (name: String, reference: String, architectures: Set<String>) {
        if ImageCatalogue.macOS.contains(order.image) {
            guard user.tier == .enterprise || user.isAdmin else {
                throw APIError(
                    .forbidden, "insufficient permissions",
                    ["message": .string("\(order.image) needs the tier enterprise or an administrator")])
            }
            // Agents run on Linux, under whose Engine there is no macOS.
            throw APIError(
                .badRequest, "unsupported image type",
                [
                    "message": .string("no host that is connected can run \(order.image)"),
                    "supported_images": supportedImages,
                ])
        }
        switch configuration.images.resolve(order.image, customImage: order.customImage) {
        case .image(let name, let reference, let architectures): return (name, reference, architectures)
        case .unsupported:
            throw APIError(
                .badRequest, "unsupported image type",
                ["supported_images": supportedImages])
        case .badReference(let problem):
            throw APIError(
                .badRequest, problem,
                [
                    "supported_images": supportedImages,
                    "field": .string("custom_image"),
                    "value": .string(order.customImage.map { "\"\($0.prefix(80))\"" } ?? "nothing"),
                    "expected": .string("a reference of an image, such as node:20-alpine"),
                ])
        }
    }

    var supportedImages: JSONValue { .array(configuration.images.supported.map { .string($0) }) }

    // MARK: change

    private func announce(_ type: String, of container: ContainerRecord) {
        announcements.add { [board, gateway] in
            let host: HostState = await gateway.isOnline(container.agent) ? .online : .offline
            let data = Presentation.container(container, activity: nil, host: host)
            await board.post(.event(user: container.userID, type: type, data: data))
        }
    }

    /// - Parameter data: of an event for the streams of `user`.
    func announce(_ type: String, to user: String, _ data: JSONValue) {
        announcements.add { [board] in await board.post(.event(user: user, type: type, data: data)) }
    }

    /// A change, and how far it has come.
    struct Outcome: Sendable {
        var before: ContainerRecord
        var container: ContainerRecord
        /// The agent has answered this change, and has carried it out or failed to.
        var isConfirmed: Bool
    }

    /// - Parameter tier: of its owner by now: one without sessions takes its end away, another gives it one where it has none.
    func start(_ container: ContainerRecord, tier: Tier) async throws -> Outcome {
        let session = configuration.sessionSeconds(of: tier)
        let isAsWanted = container.wish == .running && (container.spec.expiresAt == nil) == (session == nil)
        // What waits for another try of its set-up gets it at once.
        let isUp = container.status == .running || (container.isUp && container.observed?.reason == nil)
        if isAsWanted, isUp, container.observed?.generation == container.generation {
            // What was last known of a host that is away may be long ago.
            let isKnown = await gateway.isOnline(container.agent)
            return Outcome(before: container, container: container, isConfirmed: isKnown)
        }
        return try await change(container) { record in
            record.wish = .running
            // A start is a change even where it is wanted to run already: it ends a backoff.
            record.lastUsedAt = Timestamp.now()
            let now = record.lastUsedAt
            record.spec.expiresAt = session.map { record.spec.expiresAt ?? now + Double($0) }
        }
    }

    func stop(_ container: ContainerRecord) async throws -> Outcome {
        let outcome = try await change(container) { $0.wish = .stopped }
        // Where there is a host, it says so itself.
        if outcome.container.agent == nil, container.status != .stopped {
            announce("container_stopped", of: outcome.container)
        }
        return outcome
    }

    func delete(_ container: ContainerRecord) async throws -> Outcome {
        var outcome = try await change(container) { record in
            record.wish = .removed
            record.deletedAt = Timestamp.now()
        }
        // Where nothing is kept, its data is to go at once.
        housekeeping.ring()
        if outcome.container.agent == nil {
            // Behind its creation, which remembers something of it.
            let (id, generation) = (container.id, outcome.container.generation)
            announcements.add { [board] in await board.post(.settled(id, generation: generation, isRemoved: true)) }
        } else {
            // Only what is gone is gone.
            outcome.isConfirmed = outcome.isConfirmed && outcome.container.observed?.phase == .removed
        }
        announce(
            "container_deleted", to: container.userID,
            .object([
                "id": .string(container.presentedID), "db_id": .string(container.id.text),
                "name": .string(container.spec.name), "status": .string("deleted"),
            ]))
        return outcome
    }

    /// Brings back what was deleted, on the data that was kept.
    func restore(_ id: String, for user: UserRecord) async throws -> Outcome {
        let most = configuration.tiers[user.tier].containers
        switch try await store.restore(id, of: user.id, limit: most, now: Timestamp.now()) {
        case .notFound: throw APIError.containerNotFound
        case .nameTaken: throw APIError(.conflict, "container name already exists")
        case .hostIsGone: throw APIError.hostIsGone
        case .limitReached(let current): throw limitReached(current, user)
        case .restored(let container):
            announce("container_created", of: container)
            // It may fit somewhere by now, and its session may have an end.
            housekeeping.ring()
            if container.agent == nil { announcements.add { [board] in await board.post(.placementWanted) } }
            var before = container
            before.generation -= 1
            return try await settled(container, before: before)
        }
    }

    func update(
        _ container: ContainerRecord, name: String?, resources request: ResourceRequest, idleTimeout: Int?, tier: Tier
    ) async throws -> Outcome {
        if let name, !ContainerName.isValid(name) {
            throw APIError.badField("name", "\"\(name.prefix(80))\"", expected: "1 to 64 letters, digits and hyphens")
        }
        let limits = configuration.tiers[tier]
        do {
            _ = try request.resolved(for: limits, current: container.spec.resources)
        } catch {
            throw APIError.badField(error.field, error.value, expected: error.expected)
        }
        let outcome = try await change(container) { record in
            if let name { record.spec.name = name }
            // Resolved against the row as it is now: a parallel change of another field is kept.
            if let resources = try? request.resolved(for: limits, current: record.spec.resources) {
                record.spec.resources = resources
            }
            if let idleTimeout { record.spec.idleTimeoutSeconds = limits.idleTimeout(idleTimeout) }
        }
        announce("container_updated", of: outcome.container)
        // What waits may fit into what it has left.
        if outcome.container.spec.resources.memoryMB < outcome.before.spec.resources.memoryMB {
            await board.post(.placementWanted)
        }
        return outcome
    }

    /// - Parameter seconds: from now; 0 ends it, and its time begins anew.
    func keepAlive(_ container: ContainerRecord, seconds: Int) async throws -> ContainerRecord {
        let now = Timestamp.now()
        guard let held = try await store.keepAlive(container.id, until: now + Double(seconds), now: now) else {
            throw APIError.containerNotFound
        }
        await gateway.desiredStateChanged(held.agent)
        return held
    }

    private func change(
        _ container: ContainerRecord, _ body: @escaping @Sendable (inout ContainerRecord) -> Void
    ) async throws -> Outcome {
        let changed: ContainerRecord
        switch try await store.change(container.id, now: Timestamp.now(), body) {
        case .changed(let record):
            changed = record
            // It may end before what was the next to end.
            if record.spec.expiresAt != nil { housekeeping.ring() }
        case .notFound: throw APIError.containerNotFound
        case .nameTaken: throw APIError(.conflict, "container name already exists")
        case .locked: throw APIError.locked("container")
        }
        guard changed.generation > container.generation else {
            var isConfirmed = Self.needsNoHost(changed)
            if changed.agent != nil, PresentedStatus.isSettled(changed.observed, at: changed.generation) {
                isConfirmed = await gateway.isOnline(changed.agent)
            }
            return Outcome(before: container, container: changed, isConfirmed: isConfirmed)
        }
        return try await settled(changed, before: container)
    }

    /// Without a host nothing runs: that it should not is done at once.
    private static func needsNoHost(_ container: ContainerRecord) -> Bool {
        container.agent == nil && container.wish != .running
    }

    /// Tells the agent and waits for its answer.
    private func settled(_ changed: ContainerRecord, before container: ContainerRecord) async throws -> Outcome {
        guard let agent = changed.agent else {
            return Outcome(before: container, container: changed, isConfirmed: Self.needsNoHost(changed))
        }
        await gateway.desiredStateChanged(agent)
        guard await gateway.isOnline(agent) else {
            return Outcome(before: container, container: changed, isConfirmed: false)
        }
        let confirmed = await confirmation(of: changed)
        let now = try await store.container(changed.id) ?? changed
        // Waiting for something is an answer, but not the end: the wish is stored and will be carried out.
        return Outcome(before: container, container: now, isConfirmed: confirmed && now.observed?.phase != .waiting)
    }

    private func confirmation(of container: ContainerRecord) async -> Bool {
        let deadline = ContinuousClock.now + .seconds(configuration.confirmSeconds)
        while true {
            async let answer = desk.wait(
                for: container.id, generation: container.generation, atMost: ContinuousClock.now.duration(to: deadline))
            // The answer may have come before the wait began.
            if let now = try? await store.container(container.id),
                PresentedStatus.isSettled(now.observed, at: container.generation)
            {
                await desk.settled(container.id, generation: container.generation)
                return true
            }
            switch await answer {
            case .settled: return true
            case .timeOver: return false
            case .maybe: continue
            }
        }
    }
}
