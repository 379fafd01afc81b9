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
        func missedSomething() async
    }

    /// Of this process.
    nonisolated let server: String
    nonisolated let isShared: Bool
    private let channel: (any NoticeChannel)?
    private let log: Logger
    private var reader: (any Reader)?
    private var outbox: [String] = []
    private var isSending = false
    private let doorbell = Doorbell()

    /// While the database does not answer; beyond it everything is found out anew anyway.
    private static let mostWaiting = 10_000
    private static let mostAtOnce = 200

    init(server: String, channel: (any NoticeChannel)?, log: Logger) {
        self.server = server
        self.channel = channel
        self.log = log
        isShared = channel != nil
    }

    /// Before anything is posted.
    func connect(_ reader: any Reader) { self.reader = reader }

    func post(_ notice: Notice) async {
        let envelope = NoticeEnvelope(from: server, at: Timestamp.now(), notice: notice)
        guard isShared else {
            await reader?.heard(envelope, number: nil)
            return
        }
        guard outbox.count < Self.mostWaiting, let text = try? JSONCoding.encodeText(envelope) else { return }
        outbox.append(text)
        doorbell.ring()
    }

    /// Sends and hears until the task is cancelled.
    func run() async throws {
        guard let channel else { return }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.send(through: channel) }
            group.addTask { try await self.hear(channel) }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Waits until all that was posted is sent, but not for long.
    func flush() async {
        for _ in 0..<100 where !outbox.isEmpty || isSending { try? await Task.sleep(for: .milliseconds(20)) }
    }

    private func send(through channel: any NoticeChannel) async throws {
        for await _ in doorbell.rings {
            while !outbox.isEmpty {
                let texts = Array(outbox.prefix(Self.mostAtOnce))
                outbox.removeFirst(texts.count)
                isSending = true
                defer { isSending = false }
                try await send(texts, through: channel)
            }
        }
    }

    /// In their order, so one that cannot be sent holds up the others.
    private func send(_ texts: [String], through channel: any NoticeChannel) async throws {
        var pause = 0.1
        while true {
            do {
                return try await channel.send(texts)
            } catch let failure as StoreFailure {
                log.error("notices cannot be sent", metadata: ["error": "\(failure)", "waiting": "\(outbox.count)"])
                try await Task.sleep(for: .seconds(pause))
                pause = min(pause * 2, 2)
            } catch {
                // Of no use to anybody, and in the way of the rest.
                log.error("notices are dropped", metadata: ["error": "\(error)", "count": "\(texts.count)"])
                return
            }
        }
    }

    private func hear(_ channel: any NoticeChannel) async throws {
        for await signal in channel.signals() {
            switch signal {
            case .opened:
                log.info("notices of other control planes are heard", metadata: ["server": "\(server)"])
                await reader?.missedSomething()
            case .lost(let reason): log.error("notices are not heard", metadata: ["error": "\(reason)"])
            case .notice(let number, let text):
                guard let envelope = try? JSONCoding.decode(NoticeEnvelope.self, from: text) else {
                    log.debug("a notice of another version", metadata: ["bytes": "\(text.utf8.count)"])
                    continue
                }
                await reader?.heard(envelope, number: number)
            }
        }
    }
}
