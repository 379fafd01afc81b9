import DockerEngine

/// Measures what containers wrote outside their volumes, so that a person can be told before a replacement leaves it
/// behind. The Engine walks through the files for it, so it is done one by one and seldom.
struct WritableLayerWatch: Sendable {
    let link: EngineLink
    let observer: HostObserver

    /// A container is measured when it has been seen for the first time, and then this often.
    private static let round = Duration.seconds(600)
    private static let look = Duration.seconds(15)

    func run() async throws {
        var measured: [String: ContinuousClock.Instant] = [:]
        while true {
            try await Task.sleep(for: Self.look, tolerance: .seconds(2))
            let running = await observer.runningContainers()
            measured = measured.filter { running.contains($0.key) }
            for id in running where measured[id].map({ .now - $0 >= Self.round }) ?? true {
                measured[id] = .now
                do {
                    let bytes = try await link.engine().writableLayerSize(id)
                    await observer.measured(id, writableLayerMB: (bytes + 1_048_575) / 1_048_576)
                } catch is EngineError {
                    // Not known is a fair answer; the next round asks again.
                }
            }
        }
    }
}
