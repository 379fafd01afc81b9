import AgentCore
import BerthModel
import ServiceRuntime

/// Limits of bandwidth: not steps, for they are calls to the kernel that neither wait nor fail halfway.
extension ReconcileLoop {
    /// After every look: the kernel forgets a limit with the container's interface.
    func limitTraffic(_ desired: DesiredState) async {
        let anythingIsLimited = desired.workloads.values.contains { $0.spec.resources.bandwidth != nil }
        guard await parts.shaper.isNeeded(anythingIsLimited: anythingIsLimited) else { return }
        var targets: Set<TrafficShaper.Target> = []
        var workloads: [String: DesiredWorkload] = [:]
        var untouched: Set<String> = []
        for process in await parts.observer.runningProcesses() {
            guard let workload = desired.workloads[process.workload] else {
                untouched.insert(process.container)
                continue
            }
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
