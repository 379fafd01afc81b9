import AgentProtocol
import BerthModel
import ControlPlaneCore
package import ControlPlaneStore
import FoundationEssentials
import HTTPTypes
import Hummingbird
import HummingbirdCore
package import Logging
import NIOCore
import NIOPosix
import NIOSSL
import ServiceLifecycle
package import ServiceRuntime
import WebSocketTransport

/// The control plane as a whole: built once from its configuration, run until it is told to stop.
package struct ControlPlaneService: Service {
    private let configuration: ServerConfiguration
    private let store: Store
    private let manager: ServiceManager
    private let log: Logger
    private let listening: @Sendable (Int) async -> Void

    /// - Parameter listening: called with the port once connections are accepted.
    package init(
        _ configuration: ServerConfiguration, store: Store, manager: ServiceManager, log: Logger,
        listening: @escaping @Sendable (Int) async -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.store = store
        self.manager = manager
        self.log = log
        self.listening = listening
    }

    /// - Throws: `ProgramFailure` where the database cannot be used.
    package static func openStore(_ place: DatabasePlace, migrates: Bool = true) async throws -> Store {
        do {
            if case .sqlite(let path) = place, let end = path.lastIndex(of: "/") {
                try DurableFile.createFolder(String(path[..<end]))
            }
            return try await Store.open(place, migrates: migrates)
        } catch {
            throw ProgramFailure(.unavailable, "the database \(place) cannot be used: \(error)")
        }
    }

    /// Says to control planes on the same database that a token is void. Those that are alone find out by themselves.
    package static func announceRevocation(of token: String, in store: Store) async throws {
        let envelope = NoticeEnvelope(from: "command", at: Timestamp.now(), notice: .revoked(token: token))
        try await store.noticeChannel()?.send([try JSONCoding.encodeText(envelope)])
    }

    package func run() async throws {
        try await createFirstAdmin()
        let hub = EventHub()
        let desk = ConfirmationDesk()
        let board = NoticeBoard(server: Secrets.newUUID(), channel: store.noticeChannel(), log: log)
        let shared = board.isShared ? store : nil
        let errands = Errands()
        let announcements = Announcements()
        let placement = Doorbell()
        let housekeeping = Doorbell()
        let revocations = Revocations()
        let limiter = RateLimiter(configuration.rateLimit, shared: shared)
        let authenticator = Authenticator(
            store: store, issuer: configuration.issuer.map { TokenIssuer($0, log: log) })
        let certificate = try configuration.certificate()
        let gateway = AgentGateway(
            store: store, board: board, errands: errands, placement: placement, log: log)
        let containers = ContainerService(
            store: store, gateway: gateway, board: board, desk: desk, configuration: configuration,
            housekeeping: housekeeping, announcements: announcements)
        let membership = Membership(
            store: store, board: board, gateway: gateway, hub: hub, housekeeping: housekeeping, errands: errands,
            log: log)
        await board.connect(
            NoticeReader(
                gateway: gateway, hub: hub, desk: desk, revocations: revocations, membership: membership,
                errands: errands, placement: placement))
        try await membership.join()
        let agentRoutes = AgentRoutes(store: store, gateway: gateway)
        let containerRoutes = ContainerRoutes(service: containers, store: store, gateway: gateway, agents: agentRoutes)
        let gate = SocketGate(
            store: store, authenticator: authenticator,
            admission: SessionAdmission(perSecond: configuration.sessionsPerSecond),
            limiter: limiter, trustedProxies: configuration.trustedProxies, hub: hub,
            mostStreams: configuration.eventStreamsPerUser)

        let converse: @Sendable (WebSocketConnection, SocketGate.Purpose) async -> Void = {
            [store, log, configuration] socket, purpose in
            switch purpose {
            case .agent(let agent):
                await AgentConversation(
                    agent: agent, gateway: gateway, store: store, heartbeatSeconds: configuration.heartbeatSeconds,
                    log: log
                ).run(socket)
            case .terminalAgent(let agent):
                await TerminalAgentConversation(
                    agent: agent, gateway: gateway, store: store,
                    pingEvery: .seconds(configuration.heartbeatSeconds), log: log
                ).run(socket)
            case .events(let caller, let text, let after):
                await EventStream(
                    caller: caller, text: text, authenticator: authenticator, revocations: revocations, after: after,
                    hub: hub,
                    listing: { try await containerRoutes.listing(of: caller.user) }, log: log
                ).run(socket)
            }
        }
        let application = Application(
            router: router(containerRoutes, agentRoutes, board, authenticator, limiter),
            server: server(gate: gate, certificate: certificate, converse: converse),
            configuration: .init(address: .hostname(configuration.host, port: configuration.port), serverName: nil),
            onServerRunning: { [log, manager, listening] channel in
                let port = channel.localAddress?.port ?? 0
                log.info("control plane listening", metadata: ["address": "\(channel.localAddress?.description ?? "")"])
                manager.ready(status: "listening")
                await listening(port)
            },
            logger: quietLog)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await errands.run() }
            group.addTask {
                await gateway.runPlacement()
                try await Task.sleep(for: .seconds(86_400 * 365))
            }
            group.addTask {
                await board.untilHearing()
                try await application.run()
                await announcements.flush()
                await membership.leave()
            }
            group.addTask {
                try await TokenWatch(store: store, revocations: revocations).run()
                try await Task.sleep(for: .seconds(86_400 * 365))
            }
            group.addTask { try await feedWatchdog(gateway) }
            group.addTask {
                await ServerCertificate.reloadOnHangup(certificate, log: log)
                try await Task.sleep(for: .seconds(86_400 * 365))
            }
            group.addTask {
                try await Housekeeper(
                    store: store, gateway: gateway, configuration: configuration, doorbell: housekeeping, log: log
                ).run()
                try await Task.sleep(for: .seconds(86_400))
            }
            group.addTask {
                try await board.run()
                try await Task.sleep(for: .seconds(86_400 * 365))
            }
            group.addTask {
                try await membership.run()
                try await Task.sleep(for: .seconds(86_400 * 365))
            }
            group.addTask {
                // Agents hear of the end before their sockets close, so that they come back at their own pace.
                try? await gracefulShutdown()
                manager.stopping()
                await gateway.drain()
                try await Task.sleep(for: .seconds(86_400))
            }
            defer { group.cancelAll() }
            do {
                try await group.next()
            } catch let error as IOError {
                throw ProgramFailure(
                    .unavailable, "\(configuration.host):\(configuration.port) cannot be listened on: \(error)")
            }
        }
    }

    private var quietLog: Logger {
        var quiet = log
        quiet.logLevel = max(log.logLevel, .error)
        return quiet
    }

    private func feedWatchdog(_ gateway: AgentGateway) async throws {
        while true {
            // A gateway that hangs does not answer.
            _ = await gateway.isOnline(nil)
            manager.alive()
            try await Task.sleep(for: manager.watchdogInterval ?? .seconds(3600))
        }
    }

    private func router(
        _ containers: ContainerRoutes, _ agents: AgentRoutes, _ board: NoticeBoard,
        _ authenticator: Authenticator, _ limiter: RateLimiter
    ) -> Router<APIContext> {
        let router = Router(context: APIContext.self, options: .autoGenerateHeadEndpoints)
        router.add(middleware: ErrorAnswers<APIContext>())
        router.add(middleware: ClientAddress(trusted: configuration.trustedProxies))
        router.get("health") { _, _ in Response.json(.object(["status": .string("ok")])) }
        let document = OpenAPI(images: configuration.images)
        router.get("openapi.json") { _, _ in document.answer }
        router.get("api/version") { _, _ in
            Response.json(.object(["version": .string(BerthVersion.text), "api": .string("v1")]))
        }
        for path in ["ws/events", "api/containers/events", "ws/agent/:id", "api/agents/:id/ws"] {
            router.get(RouterPath(path)) { _, _ -> Response in
                throw APIError.upgradeRequired
            }
        }
        let api = router.group("api").add(middleware: Authentication(authenticator: authenticator, limiter: limiter))
            .add(middleware: RateLimiting(limiter: limiter)).add(middleware: AuditTrail(store: store))
        containers.add(to: api)
        agents.add(to: api)
        AccountRoutes(store: store, board: board).add(to: api)
        AuditRoutes(store: store).add(to: api)
        CatalogueRoutes(catalogue: configuration.images).add(to: api)
        SecurityRoutes(
            store: store, containers: containers, agents: agents, shared: board.isShared ? store : nil
        ).add(to: api)
        router.refuseOtherMethods()
        return router
    }

    private func server(
        gate: SocketGate, certificate: ServerCertificate?,
        converse: @escaping @Sendable (WebSocketConnection, SocketGate.Purpose) async -> Void
    ) -> HTTPServerBuilder {
        HTTPServerBuilder { responder in
            ServerChannel(responder: responder, gate: gate, certificate: certificate, converse: converse)
        }
    }

    /// The first start makes an admin and a token: written to a file that only its owner reads, or printed once.
    private func createFirstAdmin() async throws {
        guard try await !store.hasUsers() else { return }
        let admin = UserRecord(id: Secrets.newUserID(), name: "admin", tier: .enterprise, isAdmin: true)
        let (token, text) = TokenIssue.token(
            for: admin, name: "first admin token", scopes: Set(Scope.allCases), days: nil)
        // Written before it is stored: a token that nobody could read would lock everybody out. Under a name of its own, for
        // another control plane may come first.
        let pending = configuration.adminTokenFile.map { "\($0).\(token.id)" }
        do {
            if let pending { try DurableFile.write(Data((text + "\n").utf8), to: pending) }
        } catch {
            throw ProgramFailure(.noPermission, "the first admin token cannot be written: \(error)")
        }
        guard try await store.createFirst(admin, token, hash: Secrets.hash(text), now: Timestamp.now()) else {
            if let pending { DurableFile.remove(pending) }
            return
        }
        if let pending, let file = configuration.adminTokenFile {
            try DurableFile.rename(pending, to: file)
            log.notice("first admin token written", metadata: ["file": "\(file)"])
        } else {
            ProgramEnvironment.printLine("first admin token, shown this once: \(text)")
        }
    }
}
