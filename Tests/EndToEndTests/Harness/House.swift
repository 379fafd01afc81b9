import DockerEngine
import Foundation
import ServiceRuntime
import Testing

/// A control plane and an agent on a real Engine, for containers that are made and looked into.
struct House: Sendable {
    let engine: DockerEngine
    let controlPlane: TestControlPlane
    let agent: TestAgent
    let client: APIClient

    init(
        _ name: String, engine other: DockerEngine? = nil, endpoint: String? = nil, settings: [String: String] = [:]
    ) async throws {
        if let other { engine = other } else { engine = try await TestEnvironment.engine() }
        controlPlane = try await TestControlPlane()
        client = await controlPlane.client()
        agent = try await TestAgent(controlPlane, name: name, engine: endpoint)
        try await agent.start(settings)
        try await agentIsOnline(client, agent)
    }

    /// Its id on the Engine, once it runs.
    func container(_ name: String, runtime: String, image: String = "alpine") async throws -> String {
        let id = try await client.create(name, runtime: runtime, image: image)
        return try #require(try await client.untilStatus("running", id)["id"]?.text)
    }

    func end() async throws {
        try await agent.cleanUp(engine)
        try await controlPlane.stop()
    }

    /// Of the cgroup in which a process is.
    static func processes(of pid: Int) -> Int? { number(pid, "pids", "pids.current") }

    static func cpuSeconds(of pid: Int) -> Double? {
        if let nanoseconds = number(pid, "cpuacct", "cpuacct.usage") { return Double(nanoseconds) / 1e9 }
        guard let text = file(pid, "", "cpu.stat"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("usage_usec ") })
        else { return nil }
        return line.split(separator: " ").last.flatMap { Double($0) }.map { $0 / 1e6 }
    }

    private static func number(_ pid: Int, _ controller: String, _ name: String) -> Int? {
        (file(pid, controller, name) ?? file(pid, "", name)).flatMap { Int($0.prefix { $0.isNumber }) }
    }

    private static func file(_ pid: Int, _ controller: String, _ name: String) -> String? {
        guard let lines = try? String(contentsOfFile: "/proc/\(pid)/cgroup", encoding: .utf8) else { return nil }
        for line in lines.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3,
                fields[1].split(separator: ",").map(String.init).contains(controller)
                    || (controller.isEmpty && fields[1].isEmpty)
            else { continue }
            let folder = controller.isEmpty ? "" : "/\(fields[1])"
            return try? String(contentsOfFile: "/sys/fs/cgroup\(folder)\(fields[2])/\(name)", encoding: .utf8)
        }
        return nil
    }
}
