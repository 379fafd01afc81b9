import BerthModel
import DockerEngine

/// One pull per image however many wait for it, and at most three at a time. A pull that nobody waits for any more is
/// cancelled.
actor ImagePuller {
    typealias Listener = @Sendable (_ done: Int, _ total: Int) async -> Void

    private struct Waiter {
        var listener: Listener
        var continuation: CheckedContinuation<Void, any Error>
    }

    private struct Pull {
        var task: Task<Void, Never>
        var waiters: [Int: Waiter] = [:]
        var progress = PullProgress()
    }

    private let link: EngineLink
    private let credentials: RegistryCredentials
    private let ledger: ImageLedger
    /// Bytes of the Engine's disk that a pull must leave free.
    private let reserve: Int
    private var pulls: [String: Pull] = [:]
    private var nextWaiter = 0
    private let slots = Slots(count: 3)

    init(link: EngineLink, credentials: RegistryCredentials, ledger: ImageLedger, reserve: Int) {
        self.link = link
        self.credentials = credentials
        self.ledger = ledger
        self.reserve = reserve
    }

    /// - Throws: `EngineError`, or `CancellationError` as soon as the caller is cancelled, whoever else still waits.
    func pull(_ reference: String, listener: @escaping Listener) async throws {
        let key = nextWaiter
        nextWaiter += 1
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled {
                    continuation.resume(throwing: CancellationError())
                    return
                }
                if pulls[reference] == nil {
                    // The child of all its waiters: the last one to leave cancels it.
                    pulls[reference] = Pull(task: Task { await self.run(reference) })
                }
                pulls[reference]?.waiters[key] = Waiter(listener: listener, continuation: continuation)
            }
        } onCancel: {
            Task { await self.leave(reference, key) }
        }
    }

    private func leave(_ reference: String, _ key: Int) {
        guard let waiter = pulls[reference]?.waiters.removeValue(forKey: key) else { return }
        waiter.continuation.resume(throwing: CancellationError())
        guard let pull = pulls[reference], pull.waiters.isEmpty else { return }
        pull.task.cancel()
        pulls[reference] = nil
    }

    private func run(_ reference: String) async {
        let result: Result<Void, any Error>
        do {
            try await slots.withSlot {
                let engine = try await self.link.engine()
                let login = try self.credentials.header(for: reference)
                let room = try await self.room(for: reference, engine)
                let wasThere = (try? await engine.inspectImage(reference)) != nil
                try await engine.pullImage(reference, credentials: login) { message in
                    try await self.heard(reference, message, room: room)
                }
                // What was there before may be somebody else's.
                if !wasThere { await self.ledger.pulled(reference) }
            }
            result = .success(())
        } catch {
            result = .failure(error)
        }
        // A cancelled pull may have been followed by a new one of the same image, which is not ours to end.
        guard !Task.isCancelled, let pull = pulls.removeValue(forKey: reference) else { return }
        for waiter in pull.waiters.values { waiter.continuation.resume(with: result) }
    }

    /// Bytes that a pull may take: nil where the Engine's disk is not to be seen from here.
    private func room(for reference: String, _ engine: DockerEngine) async throws -> Int? {
        let disk = HostFacts.disk(try await engine.info().dockerRootDir)
        guard disk.total > 0 else { return nil }
        let room = disk.total - disk.used - reserve
        guard room > 0 else { throw Self.lowDisk(reference, needed: nil, room: room) }
        return room
    }

    private static func lowDisk(_ reference: String, needed: Int?, room: Int) -> EngineError {
        let wanted = needed.map { "it needs about \($0 / 1_048_576) MB and " } ?? ""
        return EngineError(
            kind: .pullFailed, call: "image pull", object: reference,
            message: "\(lowDiskWords): \(wanted)\(max(0, room) / 1_048_576) MB are free beyond the reserve")
    }

    /// By which the failure is known again.
    static let lowDiskWords = "the Engine's disk has no room for this image"

    private func heard(_ reference: String, _ message: PullMessage, room: Int?) async throws {
        guard let amount = pulls[reference]?.progress.heard(message) else { return }
        // Downloaded and unpacked, and a tenth more: as far as the sizes of the layers are known yet.
        let needed = amount.total + amount.total / 10
        if let room, needed > room { throw Self.lowDisk(reference, needed: needed, room: room) }
        for waiter in (pulls[reference]?.waiters ?? [:]).values { await waiter.listener(amount.done, amount.total) }
    }
}

/// At most so many at a time; the others wait in order.
actor Slots {
    private var free: Int
    private var waiting: [(id: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    private var nextID = 0

    init(count: Int) { free = count }

    func withSlot<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws -> Result {
        try await take()
        defer { give() }
        return try await body()
    }

    private func take() async throws {
        try Task.checkCancellation()
        if free > 0 {
            free -= 1
            return
        }
        let id = nextID
        nextID += 1
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { waiting.append((id, $0)) }
        } onCancel: {
            Task { await self.giveUp(id) }
        }
    }

    private func giveUp(_ id: Int) {
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return }
        waiting.remove(at: index).continuation.resume(throwing: CancellationError())
    }

    private func give() {
        if waiting.isEmpty { free += 1 } else { waiting.removeFirst().continuation.resume() }
    }
}
