package import ServiceRuntime

/// Carries events to the clients of their owners. Each client has a bounded queue: a slow one is told how many it missed
/// and gets a fresh list, and never slows anybody.
package actor EventHub {
    package struct Event: Hashable, Sendable {
        package var sequence: Int
        package var user: String
        package var type: String
        /// JSON, made once for all who hear it.
        package var data: String
        package var time: Double
    }

    /// What a client is to be sent next.
    package enum Delivery: Hashable, Sendable {
        case event(Event)
        /// Events were lost, this many: a list must follow.
        case lagged(missed: Int)
        /// Events may have been lost on their way here: a list must follow.
        case refreshed
    }

    private struct Subscriber {
        var user: String
        var queue: [Event] = []
        var missed = 0
        var isRefreshed = false
        let doorbell = Doorbell()
    }

    private static let queueLimit = 256
    private static let historyLimit = 2000
    /// Each is as good as the next of its kind, and most of what there is: who comes back hears the next.
    private static let passing: Set = ["agent_stats"]

    private var subscribers: [Int: Subscriber] = [:]
    private var subscribersByUser: [String: Set<Int>] = [:]
    private var nextSubscriber = 0
    /// Starts at the time of this process, so that a number of an earlier one is never taken for one of ours.
    private var sequence: Int
    private var history: [Event] = []
    /// All events after this one are in the history.
    private var knownSince: Int

    package init() {
        let now = Int(Timestamp.now() * 1_000_000)
        (sequence, knownSince) = (now, now)
    }

    /// Number and time of an event.
    package struct Stamp: Hashable, Sendable {
        /// Where several control planes count together; nil counts here.
        package var number: Int?
        package var time: Double

        package init(number: Int? = nil, time: Double = Timestamp.now()) {
            self.number = number
            self.time = time
        }
    }

    package func publish(_ type: String, to user: String, _ data: JSONValue, _ stamp: Stamp = Stamp()) {
        if let number = stamp.number {
            // Of before the list that everybody gets or has got.
            guard number > sequence else { return }
            sequence = number
        } else {
            sequence += 1
        }
        let event = Event(sequence: sequence, user: user, type: type, data: data.jsonText, time: stamp.time)
        if !Self.passing.contains(type) { history.append(event) }
        if history.count > 2 * Self.historyLimit {
            knownSince = history[Self.historyLimit - 1].sequence
            history.removeFirst(Self.historyLimit)
        }
        for id in subscribersByUser[user] ?? [] {
            guard let subscriber = subscribers[id] else { continue }
            if subscriber.queue.count >= Self.queueLimit {
                subscribers[id]?.missed += 1
            } else {
                subscribers[id]?.queue.append(event)
            }
            subscriber.doorbell.ring()
        }
    }

    /// A number that all control planes count with was used, for an event or something else.
    package func heard(_ number: Int) { sequence = max(sequence, number) }

    /// Numbers come from elsewhere, and those up to `number` may have been missed: nothing can be replayed from before it.
    package func begin(at number: Int) {
        history = []
        sequence = number
        knownSince = number
    }

    /// Everybody gets a new list; who was not there gets one too when they come back.
    package func refresh() {
        history = []
        knownSince = sequence + 1
        for id in subscribers.keys {
            subscribers[id]?.isRefreshed = true
            subscribers[id]?.doorbell.ring()
        }
    }

    /// - Parameter after: replays what came after this event; nil, or an event that is no longer known, starts from now.
    /// - Returns: the subscription, and true where everything since `after` is in its queue.
    package func subscribe(user: String, after: Int?) -> (id: Int, doorbell: Doorbell, isReplayed: Bool) {
        let id = nextSubscriber
        nextSubscriber += 1
        var subscriber = Subscriber(user: user)
        var isReplayed = false
        if let after, after > 0, (knownSince...max(knownSince, sequence)).contains(after) {
            let missed = history.filter { $0.sequence > after && $0.user == user }
            isReplayed = missed.count <= Self.queueLimit
            // All of it or none: older events after a fresh list would undo it.
            if isReplayed { subscriber.queue = missed }
        }
        subscribers[id] = subscriber
        subscribersByUser[user, default: []].insert(id)
        subscriber.doorbell.ring()
        return (id, subscriber.doorbell, isReplayed)
    }

    package func unsubscribe(_ id: Int) {
        guard let user = subscribers.removeValue(forKey: id)?.user else { return }
        subscribersByUser[user]?.remove(id)
        if subscribersByUser[user]?.isEmpty == true { subscribersByUser[user] = nil }
    }

    /// Of clients that listen for `user` now.
    package func count(of user: String) -> Int { subscribersByUser[user]?.count ?? 0 }

    package func drain(_ id: Int) -> [Delivery] {
        guard let subscriber = subscribers[id] else { return [] }
        subscribers[id]?.queue = []
        subscribers[id]?.missed = 0
        subscribers[id]?.isRefreshed = false
        var deliveries = subscriber.queue.map(Delivery.event)
        if subscriber.missed > 0 {
            deliveries.append(.lagged(missed: subscriber.missed))
        } else if subscriber.isRefreshed {
            deliveries.append(.refreshed)
        }
        return deliveries
    }

    package var lastSequence: Int { sequence }
}
