/// How often one user may ask. Windows of a minute, counted from their first request.
package struct RateLimit: Hashable, Sendable {
    /// The documented classes, and one for whoever is not known.
    package enum Class: String, Hashable, Sendable, CaseIterable {
        case create, operation, list, unknown
    }

    package static let windowSeconds = 60.0

    /// Requests in a window by class; what is not here has no limit.
    package var limits: [Class: Int]

    package init(_ limits: [Class: Int] = [.create: 10, .operation: 60, .list: 120, .unknown: 60]) {
        self.limits = limits.filter { $0.value > 0 }
    }

    /// - Parameter path: without the query.
    package static func `class`(method: String, path: String) -> Class {
        if method == "GET" || method == "HEAD" { return .list }
        guard method == "POST" else { return .operation }
        // As it is written nearly always, and as the router reads it else.
        let isCreation = path == "/api/containers" || path.split(separator: "/") == ["api", "containers"]
        return isCreation ? .create : .operation
    }

    package struct Window: Hashable, Sendable {
        package var start: Double
        /// Requests so far; above the limit by one where some were refused.
        package var count: Int

        package init(start: Double, count: Int) {
            self.start = start
            self.count = count
        }
    }

    package struct Verdict: Hashable, Sendable {
        package var isAllowed: Bool
        package var limit: Int
        package var remaining: Int
        /// Seconds since 1970 UTC.
        package var resetAt: Double
        /// Whole seconds until then, at least 1.
        package var retryAfter: Int
    }

    /// Counts one more request.
    ///
    /// - Returns: nil where the class has no limit.
    package func counting(_ class: Class, in window: inout Window?, at now: Double) -> Verdict? {
        guard let limit = limits[`class`] else { return nil }
        var current = window ?? Window(start: now, count: 0)
        // A clock that was set back must not lock anybody out.
        if now >= current.start + Self.windowSeconds || now < current.start { current = Window(start: now, count: 0) }
        current.count = min(current.count, limit) + 1
        window = current
        return Self.verdict(on: current, limit: limit, at: now)
    }

    /// - Parameter window: with the request in it that is judged.
    package static func verdict(on window: Window, limit: Int, at now: Double) -> Verdict {
        let resetAt = window.start + windowSeconds
        return Verdict(
            isAllowed: window.count <= limit, limit: limit, remaining: max(0, limit - window.count), resetAt: resetAt,
            retryAfter: max(1, Int((resetAt - now).rounded(.up))))
    }
}
