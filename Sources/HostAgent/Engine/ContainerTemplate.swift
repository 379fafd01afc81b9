import AgentCore
import BerthModel
import DockerEngine

/// What every engine container gets, whatever its spec says: no more rights than package managers need, limits on
/// memory, processes and logs, an init process.
enum ContainerTemplate {
    static let capabilities = [
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "KILL", "NET_BIND_SERVICE",
    ]

    static func specification(_ order: ContainerOrder, agent: AgentID) -> ContainerSpecification {
        let spec = order.spec
        var host = ContainerSpecification.HostConfiguration()
        host.runtime = order.engineRuntime
        host.memory = order.limits.memory
        // Equal to the memory limit: no swap.
        host.memorySwap = order.limits.memory
        host.nanoCPUs = order.limits.nanoCPUs
        host.pidsLimit = order.limits.pids
        host.capDrop = ["ALL"]
        host.capAdd = capabilities
        host.securityOptions = ["no-new-privileges"]
        host.usesInit = true
        host.logConfiguration = .init(type: "json-file", options: ["max-size": "10m", "max-file": "3"])
        host.mounts = order.volumes.map { volume in
            .init(
                volume: volume.volume, target: volume.path, isReadOnly: volume.access == .readOnly,
                // Content of the image goes into a new volume only, never over data that is there.
                noCopy: order.existingVolumes.contains(volume.volume),
                labels: [ContainerLabels.agent: agent.text, ContainerLabels.workload: order.workload.text])
        }
        return ContainerSpecification(
            image: spec.image, hostname: spec.name, command: spec.command,
            environment: spec.environment.keys.sorted().map { "\($0)=\(spec.environment[$0] ?? "")" },
            labels: ContainerLabels.labels(for: order, agent: agent),
            // The main process of most base images is a shell: with its input open it waits instead of ending.
            opensStandardInput: true, host: host)
    }

    /// Limits that no call above enforces, each with the reason.
    static func unenforced(_ spec: WorkloadSpec) -> [String: String] {
        ["disk_mb": "no disk quota is set on this host yet"]
    }
}
