package import BerthModel

extension ReconcileMemory {
    /// Learns from a look at the Engine: counts each death of a container that was seen running under this generation,
    /// once; forgets the failures of a container that has been up for long.
    ///
    /// - Parameter random: uniform in 0 ..< 1.
    package func noticing(
        _ observed: ObservedHost, desired: DesiredState, now: MonotonicInstant, random: Double
    ) -> ReconcileMemory {
        var next = self
        for container in observed.managed {
            guard let workload = desired.workloads[container.workload], workload.wish == .running,
                container.fingerprint == workload.spec.fingerprint
            else { continue }
            switch container.state {
            case .running(_, let upFor):
                next = next.seenRunning(workload, container: container.id, upFor: upFor)
            case .exited(let exit) where next.memory(of: workload).seenRunning == container.id:
                next = next.countingDeath(of: workload, exit: exit, now: now, random: random)
            default: break
            }
        }
        return next
    }
}
