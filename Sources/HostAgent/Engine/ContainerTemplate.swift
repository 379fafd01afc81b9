import AgentCore
import BerthModel
import DockerEngine

/// What every engine container gets, whatever its spec says: no more rights than package managers need, limits on
/// memory, processes and logs, an init process, a network on which it reaches no other container. `docs/sandbox.md` has
/// each of these with the test that tries to get around it.
enum ContainerTemplate {
    static let capabilities = [
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "KILL", "NET_BIND_SERVICE",
    ]

    /// Of memory, at most: what lies there counts as memory of the container.
    private static let mostTemporaryBytes = 1024 * 1024 * 1024

    /// - Parameter resolverFile: a host's file to be seen as `/etc/resolv.conf`; nil for the Engine's own.
    static func specification(
        _ order: ContainerOrder, agent: AgentID, resolverFile: String? = nil
    ) -> ContainerSpecification {
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
        host.networkMode = IsolatedNetwork.name
        if !order.volumes.contains(where: { $0.path == "/tmp" || $0.path.hasPrefix("/tmp/") }) {
            host.tmpfs["/tmp"] =
                "rw,nosuid,nodev,exec,mode=1777,size=\(min(order.limits.memory / 2, mostTemporaryBytes))"
        }
        if !spec.publishedPorts.isEmpty { host.portBindings = bindings(of: spec.publishedPorts) }
        host.storageOptions = order.diskMB.map { ["size": "\($0)m"] }
        host.binds = resolverFile.map { ["\($0):/etc/resolv.conf:ro"] } ?? []
        host.logConfiguration = .init(type: "json-file", options: ["max-size": "10m", "max-file": "3"])
        host.mounts = order.volumes.map { volume in
            .init(
                volume: volume.volume, target: volume.path, isReadOnly: volume.access == .readOnly,
                // Content of the image goes into a new volume only, never over data that is there.
                noCopy: order.existingVolumes.contains(volume.volume),
                labels: [ContainerLabels.agent: agent.text, ContainerLabels.workload: order.workload.text])
        }
        return ContainerSpecification(
            image: order.image, hostname: spec.name, command: spec.command,
            environment: spec.environment.keys.sorted().map { "\($0)=\(spec.environment[$0] ?? "")" },
            labels: ContainerLabels.labels(for: order, agent: agent),
            // The main process of most base images is a shell: with its input open it waits instead of ending.
            opensStandardInput: true, exposedPorts: host.portBindings?.mapValues { _ in [:] }, host: host)
    }

    private static func bindings(
        of ports: [PublishedPort]
    ) -> [String: [ContainerSpecification.PortBinding]] {
        Dictionary(grouping: ports) { "\($0.container)/\($0.transport.rawValue)" }
            .mapValues { ports in ports.map { ContainerSpecification.PortBinding(hostPort: String($0.host)) } }
    }
}
