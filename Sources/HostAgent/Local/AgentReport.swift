package import BerthModel

/// What `berth-agent status` shows: the running agent's own view.
package struct AgentReport: Codable, Hashable, Sendable {
    package struct ControlPlane: Codable, Hashable, Sendable {
        package var url: String
        /// `connecting`, `connected` or `waiting`.
        package var state: String
        package var epoch: Int?
        /// Why it waits.
        package var reason: String?
    }

    package struct Engine: Codable, Hashable, Sendable {
        package var endpoint: String
        /// Nil before the first call.
        package var reachable: Bool?
        package var error: String?
        /// What the last probe of each runtime found.
        package var findings: [RuntimeFinding]
    }

    package struct Workload: Codable, Hashable, Sendable {
        package var id: String
        package var name: String
        package var wanted: String
        package var generation: Int
        package var phase: String
        package var reason: String?
        package var message: String?
        package var container: String?
        package var address: String?
        package var restarts: Int
        /// Limits that this host does not keep, each with the reason.
        package var unenforced: [String: String]
    }

    package var agent: String
    package var name: String
    package var version: String
    package var pid: Int
    package var revision: Int
    package var controlPlane: ControlPlane
    package var engine: Engine
    /// Milliseconds since the last complete pass.
    package var lastPassMilliseconds: Int?
    /// Complete passes since the agent started.
    package var passes: Int
    /// How long that pass took.
    package var lastPassTookMicroseconds: Int
    /// Processes of containers that do not run.
    package var orphanSandboxes: [OrphanSandbox]
    package var workloads: [Workload]

    private enum CodingKeys: String, CodingKey {
        case agent, name, version, pid, revision, engine, passes, workloads
        case controlPlane = "control_plane"
        case lastPassMilliseconds = "last_pass_ms"
        case lastPassTookMicroseconds = "last_pass_took_us"
        case orphanSandboxes = "orphan_sandboxes"
    }

    /// For people.
    package var text: String {
        var lines = [
            "agent          \(name) (\(agent)), version \(version), pid \(pid)",
            "control plane  \(controlPlane.url): \(controlPlane.state)\(controlPlane.reason.map { ", \($0)" } ?? "")",
            "engine         \(engine.endpoint): \(Self.word(engine.reachable))\(engine.error.map { ", \($0)" } ?? "")",
            "runtimes       \(engine.findings.map(Self.word).joined(separator: "; "))",
            "desired state  revision \(revision), \(workloads.count) workloads",
        ]
        for orphan in orphanSandboxes {
            let pids = orphan.pids.prefix(10).map(String.init).joined(separator: " ")
            lines.append("  ! processes \(pids) of container \(orphan.container.prefix(12)), which does not run")
        }
        for workload in workloads {
            let detail = [workload.reason, workload.message].compactMap { $0 }.joined(separator: ": ")
            lines.append(
                "  \(workload.name)  \(workload.phase)  \(workload.address ?? "-")  \(workload.id)"
                    + (detail.isEmpty ? "" : "  (\(detail))"))
        }
        return lines.joined(separator: "\n")
    }

    private static func word(_ finding: RuntimeFinding) -> String {
        guard finding.works else { return "\(finding.name) does not work: \(finding.problem ?? "it did not start")" }
        let lacks = [
            finding.changesLimitsLive ? nil : "limits change by a restart",
            finding.enforcesDisk ? nil : "no disk limits (\(finding.diskProblem ?? "not tried"))",
        ].compactMap { $0 }
        return finding.name + (lacks.isEmpty ? "" : ": " + lacks.joined(separator: ", "))
    }

    private static func word(_ reachable: Bool?) -> String {
        switch reachable {
        case true?: "reachable"
        case false?: "not reachable"
        case nil: "not asked yet"
        }
    }
}
