import AgentCore
import BerthModel
import DockerEngine
import ServiceRuntime

/// What the Engine's answers mean.
extension ObservedContainer {
    /// - Parameters:
    ///   - details: nil where it could not be inspected: its state is then unknown, never gone.
    ///   - upFor: since this run of its main process was first seen, by the clock that decides.
    init(
        _ summary: ContainerSummary, _ identity: ContainerLabels.Identity, details: ContainerDetails?,
        upFor: Milliseconds
    ) {
        self.init(
            id: EngineContainerID(validated: summary.id),
            name: String((summary.names.first ?? summary.id).drop { $0 == "/" }),
            workload: identity.workload, generation: identity.generation, fingerprint: identity.fingerprint,
            attempt: identity.attempt, state: details.map { ContainerState($0.state, upFor: upFor) } ?? .unknown,
            imageID: details?.image ?? summary.imageID, mounts: summary.mounts.compactMap(ObservedMount.init),
            settings: details.map(ObservedSettings.init), address: details?.address, volumeKept: identity.volumeKept,
            fellBackTo: identity.fellBackTo)
    }
}

extension ObservedMount {
    fileprivate init?(_ mount: ContainerSummary.Mount) {
        guard mount.type == "volume", let volume = mount.name else { return nil }
        self.init(volume: volume, path: mount.destination, access: mount.isWritable ? .readWrite : .readOnly)
    }
}

extension ObservedSettings {
    fileprivate init(_ details: ContainerDetails) {
        let host = details.hostConfiguration
        let policy = host.restartPolicy?.name ?? ""
        // "default" is the name that the Engine gives to its own bridge in this place.
        let network = host.networkMode.flatMap { $0 == "default" ? nil : $0 } ?? "bridge"
        let isAttachable = network != "none" && network != "host" && !network.hasPrefix("container:")
        self.init(
            runtime: host.runtime ?? "", image: details.configuration.image ?? "",
            limits: EngineLimits(memory: host.memory ?? 0, nanoCPUs: host.nanoCPUs ?? 0, pids: host.pidsLimit ?? 0),
            isRestartedByEngine: !policy.isEmpty && policy != "no",
            isConnected: !isAttachable || details.networkSettings.networks?[network] != nil,
            diskMB: host.storageOptions?["size"].flatMap { $0.hasSuffix("m") ? Int($0.dropLast()) : nil },
            hostPorts: Self.hostPorts(of: host.portBindings ?? [:]))
    }

    private static func hostPorts(
        of bindings: [String: [ContainerDetails.HostConfiguration.PortBinding]?]
    ) -> Set<HostPort> {
        var ports: Set<HostPort> = []
        for (port, places) in bindings {
            guard
                let transport = port.split(separator: "/").last.flatMap({
                    PublishedPort.Transport(rawValue: String($0))
                })
            else { continue }
            for place in places ?? [] {
                guard let number = place.hostPort.flatMap({ Int($0) }) else { continue }
                ports.insert(HostPort(number: number, transport: transport))
            }
        }
        return ports
    }
}

extension ContainerState {
    fileprivate init(_ state: ContainerDetails.State, upFor: Milliseconds) {
        switch state.status {
        case "created": self = .created
        case "running":
            let health = state.health.flatMap { Health(rawValue: $0.status) } ?? .unchecked
            self = .running(startedAt: Timestamp.seconds(state.startedAt) ?? 0, upFor: upFor, health: health)
        case "paused": self = .paused
        case "restarting": self = .restarting
        case "removing": self = .removing
        case "dead": self = .dead
        case "exited":
            self = .exited(
                .init(
                    code: state.exitCode, outOfMemory: state.isOutOfMemory, error: state.error,
                    startedAt: max(0, Timestamp.seconds(state.startedAt) ?? 0),
                    finishedAt: max(0, Timestamp.seconds(state.finishedAt) ?? 0)))
        default: self = .unknown
        }
    }
}
