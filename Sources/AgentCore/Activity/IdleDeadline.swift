package import BerthModel

/// How long a workload has been idle once its owner's word is counted in, and when it is stopped for it. Pure.
package struct IdleDeadline: Hashable, Sendable {
    /// Seconds; nil while too little is known.
    package var idleSeconds: Double?
    /// Seconds until it is to be stopped, 0 or less where it is due; nil where it is not, or not known.
    package var stopsInSeconds: Double?

    /// - Parameters:
    ///   - measured: seconds without activity, as far as the samples tell.
    ///   - sinceChange: seconds since its owner last changed it: that is activity too; nil where it was before the agent's time.
    ///   - serverTime: seconds since 1970 UTC by the control plane's clock, as `WorkloadSpec.heldUntil`.
    package init(
        _ workload: DesiredWorkload, measured: Double?, sinceChange: Double?, serverTime: Double
    ) {
        guard let measured else { return }
        let sinceHeld = workload.spec.heldUntil.map { serverTime - $0 }
        let idle = max(0, [measured, sinceChange, sinceHeld].compactMap { $0 }.min() ?? measured)
        idleSeconds = idle
        guard workload.wish == .running, let timeout = workload.spec.idleTimeoutSeconds else { return }
        // As long as it is held there is time beyond the timeout.
        stopsInSeconds = Double(timeout) - idle + max(0, -(sinceHeld ?? 0))
    }
}
