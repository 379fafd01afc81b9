import ServiceRuntime

/// Work that whoever asks for it does not wait for: its parent is the service. Each runs beside the others.
final class Errands: Sendable {
    private let queue: AsyncStream<@Sendable () async -> Void>
    private let waiting: AsyncStream<@Sendable () async -> Void>.Continuation

    init() { (queue, waiting) = AsyncStream.makeStream(of: (@Sendable () async -> Void).self) }

    func add(_ errand: @escaping @Sendable () async -> Void) { waiting.yield(errand) }

    /// Until the task is cancelled; what is under way then ends first.
    func run() async {
        await withDiscardingTaskGroup { group in
            for await errand in queue { group.addTask { await errand() } }
        }
    }
}
