package import BerthModel

/// The clock that decides. It goes on while the machine sleeps and cannot be set.
package struct MonotonicTime: Sendable {
    private let start = ContinuousClock.now
    package init() {}

    package var now: MonotonicInstant {
        let passed = start.duration(to: .now).components
        return MonotonicInstant(
            milliseconds: Int(passed.seconds) * 1000 + Int(passed.attoseconds / 1_000_000_000_000_000))
    }
}

extension Duration {
    package init(_ span: Milliseconds) { self = .milliseconds(max(0, span.count)) }
}
