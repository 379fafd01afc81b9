import BerthModel
import ControlPlaneStore
import Logging
import ServiceRuntime
import Synchronization

/// Does what is due by time alone: ends sessions, lets go of deleted data, forgets old records. Sleeps until the next moment
/// that the store names; a new container with an end rings.
final class Housekeeper: Sendable {
    let store: Store
    let gateway: AgentGateway
    let configuration: ServerConfiguration
    let doorbell: Doorbell
    let log: Logger

    /// Looked again at least this often: clocks are corrected, rows are changed by hand.
    private static let longest = 3600.0
    private static let day = 86_400.0

    /// Wall clock and steady clock at the last round: between two rounds they go on alike.
    private let lastRound = Mutex<(wall: Double, steady: ContinuousClock.Instant)?>(nil)
    private static let mostJump = 3600.0

    /// Old records are looked for now and then: rounds come with every deletion.
    private let forgottenAt = Mutex<ContinuousClock.Instant?>(nil)

    private func forget(_ now: Double) async throws {
        if gateway.board.isShared { try await store.forgetRequestWindows() }
        let moment = now - Double(configuration.auditDays) * Self.day
        let forgotten = try await store.forgetAudit(before: moment, now: now)
        if forgotten > 0 { log.info("old audit records removed", metadata: ["records": "\(forgotten)"]) }
        let containers = try await store.forgetContainers(purgedBefore: moment)
        if containers > 0 { log.info("rows of purged containers removed", metadata: ["containers": "\(containers)"]) }
    }

    private static func isDue(_ last: inout ContinuousClock.Instant?) -> Bool {
        if let last, last.duration(to: .now) < .seconds(600) { return false }
        last = .now
        return true
    }

    init(
        store: Store, gateway: AgentGateway, configuration: ServerConfiguration, doorbell: Doorbell, log: Logger
    ) {
        self.store = store
        self.gateway = gateway
        self.configuration = configuration
        self.doorbell = doorbell
        self.log = log
    }

    /// True where the clock has jumped ahead: nothing is lost for ever by what it says then.
    private func hasJumped(_ now: Double) -> Bool {
        lastRound.withLock { last in
            let before = last
            guard let before else {
                last = (now, .now)
                return false
            }
            let passed = before.steady.duration(to: .now) / .seconds(1)
            let hasJumped = now - before.wall > passed + Self.mostJump
            // The last moment that was believed stays what later ones are measured by.
            if !hasJumped { last = (now, .now) }
            return hasJumped
        }
    }

    func run() async throws {
        var alarm: Task<Void, any Error>?
        defer { alarm?.cancel() }
        doorbell.ring()
        for await _ in doorbell.rings {
            alarm?.cancel()
            try Task.checkCancellation()
            var next = Self.longest
            do {
                next = try await work()
            } catch {
                log.error("housekeeping failed", metadata: ["error": "\(error)"])
                next = 10
            }
            alarm = Task { [next] in
                try await Task.sleep(for: .seconds(next))
                doorbell.ring()
            }
        }
    }

    /// - Returns: seconds until there is something to do again.
    func work() async throws -> Double {
        let now = Timestamp.now()
        let over = try await store.expired(at: now)
        for container in over {
            guard
                case .changed(let changed) = try await store.change(
                    container.id, now: now, respectsLock: false,
                    { record in if (record.spec.expiresAt ?? .infinity) <= now { record.wish = .stopped } })
            else { continue }
            log.info("session over", metadata: ["container": "\(container.id)", "user": "\(container.userID)"])
            await gateway.desiredStateChanged(changed.agent)
            // Where there is a host, it says so itself.
            guard changed.agent == nil else { continue }
            await gateway.board.post(
                .event(
                    user: changed.userID, type: "container_stopped",
                    data: Presentation.container(changed, activity: nil, host: .offline)))
        }
        guard !hasJumped(now) else {
            log.error("the clock has jumped ahead by more than an hour; nothing is let go of before a restart")
            return Self.longest
        }
        let retention = Double(configuration.retentionDays) * Self.day
        let purges = try await store.beginPurges(deletedBefore: now - retention, now: now)
        for agent in purges.agents { await gateway.desiredStateChanged(agent) }
        if forgottenAt.withLock({ Self.isDue(&$0) }) { try await forget(now) }
        if over.count == Store.roundOfHousekeeping { return 0.05 }
        // The rest when hosts are done with these.
        if purges.hasMore { return 5 }
        let next = try await store.nextMoment(after: now, retention: retention)
        return min(max((next ?? .infinity) - Timestamp.now(), 0.05), Self.longest)
    }
}
