import AgentCore
import BerthModel
import ServiceRuntime

/// Limits of bandwidth: not steps, for they are calls to the kernel that neither wait nor fail halfway.
extension ReconcileLoop {
    /// After every look: the kernel forgets a limit with the container's interface.
    func limitTraffic(_ desired: DesiredState) async {
        let anythingIsLimited = desired.workloads.values.contains {
            $0.wish != .removed && $0.spec.resources.bandwidth != nil
        }
        guard await parts.shaper.isNeeded(anythingIsLimited: anythingIsLimited) else { return }
        var targets: Set<TrafficShaper.Target> = []
        var workloads: [String: DesiredWorkload] = [:]
        // Whatever may run keeps what it has, unless it is somebody's wish: also what is paused, or not inspected yet.
        var untouched = await parts.observer.mayRun
        for process in await parts.observer.runningProcesses() {
            guard let workload = desired.workloads[process.workload], workload.wish != .removed else { continue }
            untouched.remove(process.container)
            workloads[process.container] = workload
            targets.insert(
                .init(
                    container: process.container, pid: process.pid,
                    wanted: workload.spec.resources.bandwidth ?? Bandwidth()))
        }
        for changed in await parts.shaper.converge(targets, untouched: untouched) {
            guard let workload = workloads[changed.container] else { continue }
            let limits = [("out", changed.wanted.egressKbps), ("in", changed.wanted.ingressKbps)].map { way, rate in
                "\(way): \(rate.map { "\($0) kbit/s" } ?? "unlimited")"
            }
            let record = ActionRecord(
                number: 0, at: Timestamp.now(), workload: workload.id, generation: workload.generation,
                action: "limit traffic \(changed.container.prefix(12))", reason: limits.joined(separator: ", "),
                result: .succeeded)
            await parts.mailbox.happened(history.add(record))
        }
    }
}
