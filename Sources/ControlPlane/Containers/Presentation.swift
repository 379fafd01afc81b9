import BerthModel
import ControlPlaneCore
import ControlPlaneStore
import ServiceRuntime

/// The JSON of the documented objects.
enum Presentation {
    static func container(
        _ record: ContainerRecord, activity: ActivitySample?, progress: ProgressScale.Shown? = nil, host: HostState
    ) -> JSONValue {
        var fields: [String: JSONValue] = [
            "id": .string(record.presentedID),
            "db_id": .string(record.id.text),
            "user_id": .string(record.userID),
            "name": .string(record.spec.name),
            "image": .string(record.image),
            "role": .string(record.role),
            "status": .string(record.status.rawValue),
            "created_at": .string(Timestamp.text(seconds: record.createdAt)),
            "last_used_at": .string(Timestamp.text(seconds: record.lastUsedAt)),
            "idle_seconds": .number(0),
            "mfa_locked": .bool(record.isLocked),
            "resources": resources(record),
            "generation": .integer(record.generation),
            "accepted_generation": .integer(record.observed?.generation ?? 0),
            "observed_generation": .integer(record.observed?.observedGeneration ?? 0),
        ]
        if let message = message(record, host: host) { fields["message"] = .string(message) }
        if let written = record.observed?.writableLayerMB { fields["writable_layer_mb"] = .integer(written) }
        let warnings = record.observed?.warnings ?? []
        if !warnings.isEmpty { fields["warnings"] = .array(warnings.map { .string($0) }) }
        let ports = record.spec.publishedPorts
        if !ports.isEmpty { fields["ports"] = .array(ports.map(port)) }
        if let agent = record.agent { fields["agent"] = .string("agent:\(agent)") }
        if let progress, record.status == .creating || record.status == .configuring {
            fields["progress"] = .object([
                "stage": .string(progress.stage), "message": .string(progress.message),
                "progress": .integer(progress.percent),
            ])
        }
        if let observed = record.observed {
            if let code = observed.exitCode { fields["exit_code"] = .integer(code) }
            if let error = observed.roleError { fields["role_error"] = .string(error) }
            if observed.outOfMemory { fields["oom_killed"] = .bool(true) }
        }
        if let end = record.spec.expiresAt {
            fields["expires_at"] = .string(Timestamp.text(seconds: end))
            fields["session_limit_seconds"] = .integer(max(0, Int(end - Timestamp.now())))
        }
        if let timeout = record.spec.idleTimeoutSeconds { fields["idle_timeout_seconds"] = .integer(timeout) }
        if let until = record.spec.heldUntil, until > Timestamp.now() {
            fields["keepalive_until"] = .string(Timestamp.text(seconds: until))
        }
        guard record.status == .running || record.observed?.phase == .configuring else { return .object(fields) }
        if let address = record.observed?.address { fields["ip_address"] = .string(address) }
        if let idle = activity?.idleSeconds { fields["idle_seconds"] = .number(idle) }
        if let activity {
            fields["stats"] = .object([
                "cpu_percent": activity.cpuPercent.map { .number($0) } ?? .null,
                "memory_bytes": .integer(activity.memoryBytes),
                "network_received_bytes": .integer(activity.networkReceivedBytes),
                "network_sent_bytes": .integer(activity.networkSentBytes),
            ])
        }
        return .object(fields)
    }

    private static func port(_ port: PublishedPort) -> JSONValue {
        .object([
            "container": .integer(port.container), "host": .integer(port.host),
            "protocol": .string(port.transport.rawValue),
        ])
    }

    /// An entry of the list of what was deleted and can be restored.
    static func deleted(_ record: ContainerRecord, keptFor days: Int) -> JSONValue {
        let deletedAt = record.deletedAt ?? record.lastUsedAt
        return .object([
            "id": .string(record.presentedID), "db_id": .string(record.id.text), "name": .string(record.spec.name),
            "image": .string(record.image), "role": .string(record.role), "status": .string("deleted"),
            "created_at": .string(Timestamp.text(seconds: record.createdAt)),
            "deleted_at": .string(Timestamp.text(seconds: deletedAt)),
            "kept_until": .string(Timestamp.text(seconds: deletedAt + Double(days) * 86_400)),
        ])
    }

    static func resources(_ record: ContainerRecord) -> JSONValue {
        var fields: [String: JSONValue] = [
            "memory_mb": .integer(record.spec.resources.memoryMB),
            "cpu_shares": .integer(record.spec.resources.cpuMillicores),
            "disk_mb": .integer(record.spec.resources.diskMB),
        ]
        if let rate = record.spec.resources.bandwidth?.egressKbps { fields["egress_kbps"] = .integer(rate) }
        if let rate = record.spec.resources.bandwidth?.ingressKbps { fields["ingress_kbps"] = .integer(rate) }
        if let size = record.spec.resources.volumeMB { fields["volume_mb"] = .integer(size) }
        if let size = record.observed?.volumeUsedMB { fields["volume_used_mb"] = .integer(size) }
        if let unenforced = record.observed?.unenforced, !unenforced.isEmpty {
            fields["unenforced"] = .object(unenforced.mapValues { .string($0) })
        }
        return .object(fields)
    }

    /// What a person should know about it now; nil where all is well.
    static func message(_ record: ContainerRecord, host: HostState) -> String? {
        if let placement = record.placement { return "waiting for a host: \(placement)" }
        switch host {
        case .online: break
        case .offline: return "its host is offline; what is shown is the last that was known"
        case .gone: return "its host was deleted; what is shown is the last that was known"
        }
        guard let observed = record.observed, observed.reason != nil || observed.message != nil else { return nil }
        return [observed.reason, observed.message].compactMap { $0 }.joined(separator: ": ")
    }

    private static func finding(_ finding: RuntimeFinding) -> JSONValue {
        var fields: [String: JSONValue] = [
            "runtime": .string(finding.name), "engine_runtime": .string(finding.engineRuntime),
            "works": .bool(finding.works), "live_limits": .bool(finding.changesLimitsLive),
            "disk_limits": .bool(finding.enforcesDisk),
        ]
        if let problem = finding.problem { fields["problem"] = .string(problem) }
        if let problem = finding.diskProblem { fields["disk_problem"] = .string(problem) }
        return .object(fields)
    }

    /// Of the event that says how far a container is.
    static func progress(_ shown: ProgressScale.Shown, of workload: WorkloadID) -> JSONValue {
        .object([
            "id": .string(workload.text), "stage": .string(shown.stage), "message": .string(shown.message),
            "progress": .integer(shown.percent),
        ])
    }

    /// Of the event that says that a container will be stopped for its idleness.
    static func idlePending(_ record: ContainerRecord, idleSeconds: Double, stopsInSeconds: Double) -> JSONValue {
        .object([
            "id": .string(record.presentedID), "db_id": .string(record.id.text), "name": .string(record.spec.name),
            "status": .string(record.status.rawValue), "idle_seconds": .number(idleSeconds),
            "stops_in_seconds": .number(stopsInSeconds),
            "message": .string("container will be stopped: idle for \(Int(idleSeconds)) s"),
        ])
    }

    /// Of the event that says how busy a host is.
    static func stats(_ stats: HostStats, of agent: AgentID) -> JSONValue {
        .object([
            "id": .string("agent:\(agent)"), "cpu_percent": .number(stats.cpuPercent),
            "memory": .integer(stats.memoryBytes), "memory_limit": .integer(stats.memoryLimitBytes),
            "disk_usage": .integer(stats.diskBytes), "disk_limit": .integer(stats.diskLimitBytes),
            "uptime": .integer(stats.uptimeSeconds),
        ])
    }

    /// Of the event that says that an agent is gone.
    static func offline(_ presence: AgentPresence) -> JSONValue {
        .object([
            "id": .string("agent:\(presence.agent)"), "name": .string(presence.name), "status": .string("offline"),
        ])
    }

    static func agent(_ record: AgentRecord, isOnline: Bool, stats: HostStats?) -> JSONValue {
        var fields: [String: JSONValue] = [
            "id": .string("agent:\(record.id)"),
            "db_id": .string(record.id.text),
            "user_id": .string(record.userID),
            "name": .string(record.name),
            "image": .string("\(record.host.os)/\(record.host.arch)"),
            "status": .string(isOnline ? "online" : record.frozenAt == nil ? "offline" : "duplicate"),
            "session_type": .string("agent"),
            "role": .string(""),
            "created_at": .string(Timestamp.text(seconds: record.createdAt)),
            "last_used_at": .string(Timestamp.text(seconds: isOnline ? Timestamp.now() : record.lastSeenAt)),
            "idle_seconds": .number(0),
            "os": .string(record.host.os),
            "arch": .string(record.host.arch),
            "distro": .string(record.host.distro),
            "hostname": .string(record.host.hostname),
            "description": .string(record.details),
            "tags": .array(record.tags.map { .string($0) }),
            "mfa_locked": .bool(record.isLocked),
            "resources": .object([
                "memory_mb": .integer(record.host.capacity.memoryMB),
                "cpu_shares": .integer(record.host.capacity.cpuMillicores),
                "disk_mb": .integer(record.host.capacity.diskMB),
            ]),
        ]
        if let engine = record.host.engine {
            fields["engine"] = .object([
                "version": .string(engine.version), "api_version": .string(engine.apiVersion),
                "storage_driver": .string(engine.storageDriver), "cgroup_version": .string(engine.cgroupVersion),
                "runtimes": .array(engine.runtimes.map { .string($0) }),
                "findings": .array((engine.findings ?? []).map(finding)),
            ])
        }
        if record.frozenAt != nil {
            fields["message"] = .string(
                "two programs use this agent's identity; its host has a copy somewhere: register one of them anew, then"
                    + " start this entry")
        }
        if isOnline, let stats {
            fields["stats"] = .object([
                "cpu_percent": .number(stats.cpuPercent), "memory": .integer(stats.memoryBytes),
                "memory_limit": .integer(stats.memoryLimitBytes), "disk_usage": .integer(stats.diskBytes),
                "disk_limit": .integer(stats.diskLimitBytes), "uptime": .integer(stats.uptimeSeconds),
            ])
        }
        return .object(fields)
    }
}
