package import DockerEngine
package import Logging
package import NIOCore

/// The one place that knows whether the Engine answers. Negotiates when it is needed, and says a change once.
package actor EngineLink {
    private let endpoint: EngineEndpoint
    private let group: any EventLoopGroup
    private let deadlines: DockerEngine.Deadlines
    private let log: Logger
    private var negotiated: DockerEngine?
    private var wasReachable: Bool?

    package init(
        endpoint: EngineEndpoint, group: any EventLoopGroup, deadlines: DockerEngine.Deadlines = .init(), log: Logger
    ) {
        self.endpoint = endpoint
        self.group = group
        self.deadlines = deadlines
        self.log = log
    }

    /// True after a call that was answered, false after one that was not, nil before the first.
    package var isReachable: Bool? { wasReachable }

    /// - Throws: `EngineError`, or `CancellationError`.
    package func engine() async throws -> DockerEngine {
        if let negotiated { return negotiated }
        do {
            let engine = try await DockerEngine.negotiate(endpoint, group: group, deadlines: deadlines)
            negotiated = engine
            if wasReachable != true {
                log.info("engine reachable", metadata: ["engine": "\(endpoint)", "api": "\(engine.version)"])
            }
            wasReachable = true
            return engine
        } catch let error as EngineError {
            failed(error)
            throw error
        }
    }

    /// After a call that failed as only a missing Engine fails: the next call negotiates anew, for it may be another one.
    package func failed(_ error: any Error) {
        guard let error = error as? EngineError else { return }
        switch error.kind {
        case .unreachable, .incompatible:
            negotiated = nil
            if wasReachable != false { log.warning("engine not reachable", metadata: ["error": "\(error)"]) }
            wasReachable = false
        case .timedOut, .refused, .cutOff, .malformed, .tooLarge, .pullFailed: break
        }
    }

    /// The event stream was cut: the Engine may have been restarted or replaced.
    package func renegotiate() {
        negotiated = nil
    }
}
