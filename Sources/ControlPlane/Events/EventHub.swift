package import ServiceRuntime

/// Carries events to the clients of their owners. Each client has a bounded queue: a slow one is told how many it missed
/// and gets a fresh list, and never slows anybody.
package actor EventHub {
    package struct Event: Hashable, Sendable {
        package var sequence: Int
        package var user: String
        package var type: String
        package var data: JSONValue
        package var time: Double
    }

    /// What a client is to be sent next.
    package enum Delivery: Hashable, Sendable {
        case event(Event)
        /// Events were lost, this many: a list must follow.
        case lagged(missed: Int)
    }

    private struct Subscriber {
        var user: String
        var queue: [Event] = []
        var missed = 0
        let doorbell = Doorbell()
    }

    private static let queueLimit = 256
    private static let historyLimit = 2000

    private var subscribers: [Int: Subscriber] = [:]
    private var subscribersByUser: [String: Set<Int>] = [:]
    private var nextSubscriber = 0
    /// Starts at the time of this process, so that a number of an earlier one is never taken for one of ours.
    private var sequence = Int(Timestamp.now() * 1_000_000)
    private var history: [Event] = []

    package init() {}

    package func publish(_ type: String, to user: String, _ data: JSONValue) {
        sequence += 1
        let event = Event(sequence: sequence, user: user, type: type, data: data, time: Timestamp.now())
        history.append(event)
        if history.count > 2 * Self.historyLimit { history.removeFirst(Self.historyLimit) }
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

    /// - Parameter after: replays what came after this event; nil, or an event that is no longer known, starts from now.
    /// - Returns: the subscription, and true where everything since `after` is in its queue.
    package func subscribe(user: String, after: Int?) -> (id: Int, doorbell: Doorbell, isReplayed: Bool) {
        let id = nextSubscriber
        nextSubscriber += 1
        var subscriber = Subscriber(user: user)
        var isReplayed = false
        if let after, after <= sequence, let first = history.first, after >= first.sequence - 1 {
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

    package func drain(_ id: Int) -> [Delivery] {
        guard let subscriber = subscribers[id] else { return [] }
        subscribers[id]?.queue = []
        subscribers[id]?.missed = 0
        var deliveries = subscriber.queue.map(Delivery.event)
        if subscriber.missed > 0 { deliveries.append(.lagged(missed: subscriber.missed)) }
        return deliveries
    }

    package var lastSequence: Int { sequence }
}
