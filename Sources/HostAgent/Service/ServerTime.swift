import BerthModel
import ServiceRuntime
import Synchronization

/// The time of day by the control plane's clock, as far as it was ever heard: a host whose own clock is wrong must not end
/// sessions early or never. Before the first word of a control plane, the host's own clock.
final class ServerTime: Sendable {
    private let heard = Mutex<(server: Double, at: MonotonicInstant)?>(nil)
    private let time: MonotonicTime

    init(time: MonotonicTime) { self.time = time }

    func heard(_ server: Double) {
        guard server.isFinite, (0...253_402_300_799).contains(server) else { return }
        let now = time.now
        heard.withLock { $0 = (server, now) }
    }

    /// Seconds since 1970 UTC.
    var now: Double {
        let now = time.now
        return heard.withLock { heard in
            heard.map { $0.server + Double((now - $0.at).count) / 1000 } ?? Timestamp.now()
        }
    }
}
