import ControlPlaneStore
import Logging
import ServiceRuntime

/// Where notices are posted. Alone on a database, a control plane hears what it posts before `post` returns; with others,
/// each hears all of it in the one order of the channel.
actor NoticeBoard {
    /// Who acts on notices.
    protocol Reader: Sendable {
        /// - Parameter number: of the channel; nil without one.
        func heard(_ envelope: NoticeEnvelope, number: Int?) async
        /// Something may have been missed: whatever is known by notices alone must be found out anew.
        ///
        /// - Parameter number: of the last notice before; nil where none was counted anew.
        func missedSomething(before number: Int?) async
    }

    /// Of this process.
    nonisolated let server: String
    nonisolated let isShared: Bool
    private let channel: (any NoticeChannel)?
    private let log: Logger
    private var reader: (any Reader)?
    private var outbox: [String] = []
    private var loads = LatestLoads()
    private var loadsSentAt = ContinuousClock.now
    private var isSending = false
    /// Something that was posted will never be sent.
    private var hasDropped = false
    private var isHearing = false
    /// Whose notices this version cannot read.
    private var strangers: Set<String> = []
    private let doorbell = Doorbell()
    private var waiting: [Int: (milestone: Milestone, continuation: CheckedContinuation<Void, Never>)] = [:]
    private var nextWaiter = 0

    /// While the database does not answer.
    private static let mostWaiting = 10_000
    private static let mostAtOnce = 200
    private static let betweenLoads = Duration.seconds(1)

    init(server: String, channel: (any NoticeChannel)?, log: Logger) {
        self.server = server
        self.channel = channel
        self.log = log
        isShared = channel != nil
    }

    /// Before anything is posted.
    func connect(_ reader: any Reader) { self.reader = reader }

    func post(_ notice: Notice) async {
        guard isShared else {
            await reader?.heard(envelope(notice), number: nil)
            return
        }
        switch notice {
        // What is held back must not come after the end.
        case .closed(let agent, _): loads.forget(agent)
        case .settled(let workload, _, isRemoved: true): loads.forget(workload)
        default: break
        }
        if !loads.take(notice) { enqueue(notice) }
        doorbell.ring()
    }

    private func envelope(_ notice: Notice) -> NoticeEnvelope {
        NoticeEnvelope(from: server, at: Timestamp.now(), notice: notice)
    }

    private func enqueue(_ notice: Notice) {
        guard outbox.count < Self.mostWaiting else {
            if !hasDropped { log.error("too many notices wait; all will be found out anew") }
            outbox = []
            hasDropped = true
            return
        }
        if let text = try? JSONCoding.encodeText(envelope(notice)) { outbox.append(text) }
    }

    /// Sends and hears until the task is cancelled.
    func run() async throws {
        guard let channel else { return }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.send(through: channel) }
            group.addTask { try await self.hear(channel) }
            group.addTask {
                // For what was held back.
                while true {
                    try await Task.sleep(for: Self.betweenLoads)
                    await self.ringForLoads()
                }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Waits until others are heard, but not for long: a database that is away is no reason not to say so to clients.
    func untilHearing() async { await reached(.hearing, atMost: .seconds(10)) }

    /// Waits until all that was posted is sent, but not for long.
    func flush() async { await reached(.sent, atMost: .seconds(2)) }

    // MARK: waiting

    private enum Milestone { case hearing, sent }

    private func isReached(_ milestone: Milestone) -> Bool {
        switch milestone {
        case .hearing: !isShared || isHearing
        case .sent: outbox.isEmpty && !isSending
        }
    }

    private func reached(_ milestone: Milestone, atMost limit: Duration) async {
        guard !isReached(milestone) else { return }
        nextWaiter += 1
        let id = nextWaiter
        await withDiscardingTaskGroup { group in
            group.addTask {
                // Also ends with the caller, who then waits no longer.
                try? await Task.sleep(for: limit)
                await self.release(id)
            }
            await withCheckedContinuation { waiting[id] = (milestone, $0) }
            group.cancelAll()
        }
    }

    private func release(_ id: Int) { waiting.removeValue(forKey: id)?.continuation.resume() }

    private func releaseWaiting() { for (id, waiter) in waiting where isReached(waiter.milestone) { release(id) } }

    // MARK: out

    private func ringForLoads() { if !loads.isEmpty { doorbell.ring() } }

    private func send(through channel: any NoticeChannel) async throws {
        for await _ in doorbell.rings {
            if loadsSentAt.duration(to: .now) >= Self.betweenLoads {
                for notice in loads.drain() { enqueue(notice) }
                loadsSentAt = .now
            }
            while !outbox.isEmpty || hasDropped {
                let hadDropped = hasDropped
                let texts =
                    hadDropped ? [try JSONCoding.encodeText(envelope(.missed))] : Array(outbox.prefix(Self.mostAtOnce))
                if hadDropped { hasDropped = false } else { outbox.removeFirst(texts.count) }
                isSending = true
                defer { isSending = false }
                try await send(texts, through: channel)
            }
            releaseWaiting()
        }
    }

    /// In their order, so one that cannot be sent holds up the others.
    private func send(_ texts: [String], through channel: any NoticeChannel) async throws {
        var pause = 0.1
        while true {
            do {
                try await channel.send(texts)
                if pause > 0.1 { log.notice("notices are sent again") }
                return
            } catch let failure as StoreFailure {
                if pause == 0.1 { log.error("notices cannot be sent", metadata: ["error": "\(failure)"]) }
                try await Task.sleep(for: .seconds(pause))
                pause = min(pause * 2, 2)
            } catch is CancellationError {
                throw CancellationError()
            } catch {
                // In the way of the rest, whichever of them it is.
                log.error("notices are dropped", metadata: ["error": "\(error)", "count": "\(texts.count)"])
                hasDropped = true
                return try await Task.sleep(for: .seconds(1))
            }
        }
    }

    // MARK: in

    private func hear(_ channel: any NoticeChannel) async throws {
        for await signal in channel.signals() {
            switch signal {
            case .opened(let number):
                log.info("notices of all control planes are heard", metadata: ["server": "\(server)"])
                await reader?.missedSomething(before: number)
                isHearing = true
                releaseWaiting()
            case .lost(let reason):
                if isHearing { log.error("notices are not heard", metadata: ["error": "\(reason)"]) }
                isHearing = false
            case .uncertain: await post(.missed)
            case .notice(let number, let text): await hear(text, number)
            }
        }
    }

    private func hear(_ text: String, _ number: Int) async {
        do {
            await reader?.heard(try JSONCoding.decode(NoticeEnvelope.self, from: text), number: number)
        } catch {
            let sender = (try? JSONCoding.decode(JSONValue.self, from: text))?["from"]?.text ?? "unknown"
            guard strangers.insert(sender).inserted else { return }
            log.warning(
                "notices of another version cannot be read; bring all control planes to the same one",
                metadata: ["server": "\(sender)", "error": "\(error)"])
        }
    }
}
