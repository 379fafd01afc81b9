import BerthModel
import DockerEngine
import Logging
import ServiceRuntime

/// Listens to the Engine's events and rings: an event says that something changed, never what is so now.
struct EngineEventWatch: Sendable {
    let link: EngineLink
    let observer: HostObserver
    let doorbell: Doorbell
    let log: Logger

    private static let filters = [
        "type": ["container", "image", "volume", "network", "daemon"],
        "event": [
            "create", "start", "restart", "die", "stop", "kill", "oom", "destroy", "pause", "unpause", "rename",
            "update",
            "health_status", "pull", "import", "load", "tag", "untag", "delete", "connect", "disconnect", "reload",
        ],
    ]

    func run() async throws {
        var delay = Duration.milliseconds(250)
        while true {
            do {
                let engine = try await link.engine()
                try await engine.events(filters: Self.filters) {
                    // Subscribed: only now a look misses nothing.
                    await observer.everythingMayHaveChanged()
                    doorbell.ring()
                } take: { event in
                    await note(event)
                }
                delay = .milliseconds(250)
            } catch let error as EngineError {
                await link.failed(error)
            }
            try Task.checkCancellation()
            log.debug("event stream ended; opening it again")
            await link.renegotiate()
            await observer.engineWasAway()
            doorbell.ring()
            try await Task.sleep(for: delay)
            delay = min(delay * 2, .seconds(15))
        }
    }

    private func note(_ event: EngineEvent) async {
        switch event.type {
        case "container": if let id = event.actor.id { await observer.containerChanged(id) }
        case "network": if let id = event.actor.attributes?["container"] { await observer.containerChanged(id) }
        case "image": await observer.imagesChanged()
        case "volume": await observer.volumesChanged()
        case "daemon": await observer.runtimesMayHaveChanged()
        default: break
        }
        doorbell.ring()
    }
}
