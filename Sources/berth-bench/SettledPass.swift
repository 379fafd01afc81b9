import AgentCore
import BerthModel
import FakeEngine
import Foundation
import HostAgent
import NIOCore
import ServiceRuntime
import Simulation

/// What a look costs where nothing changed: an agent with 500 workloads on an Engine that is a value, so that all that is
/// measured is the agent's own work.
struct SettledPass {
    let binaries: String
    let group: any EventLoopGroup
    private let workloads = 500

    /// CPU milliseconds of the agent for one pass (sampling and all else that it does meanwhile included), and the calls
    /// that inspected a container.
    func run() async throws -> (cpuPerPass: Double, inspects: Int, passes: Int) {
        let folder = NSTemporaryDirectory() + "berth-pass-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder + "/state", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let agent = AgentID(validated: "agent")
        let desired = (0..<workloads).map { number in
            let id = WorkloadID(validated: "workload-\(number)")
            let spec = WorkloadSpec(
                name: "w\(number)", image: "alpine:latest", runtime: .init(name: "runc"),
                volumes: [VolumeMount(volume: VolumeMount.name(for: id), path: "/root")])
            return DesiredWorkload(id: id, generation: 1, wish: .running, spec: spec)
        }
        let state = DesiredState(revision: Revision(1), workloads: desired)
        try DesiredStateStore(directory: folder + "/state", agent: agent)
            .save(HeldDesiredState(state: state, digest: state.digest))
        let engine = try await FakeEngine(path: folder + "/docker.sock", group: group, host: Self.host(desired))
        try "token".write(toFile: folder + "/token", atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: folder + "/token")
        let settings =
            #"{"agent":{"server":"http://127.0.0.1:1","agent_id":"agent","token_file":"\#(folder)/token","engine":"unix://\#(folder)/docker.sock","state_directory":"\#(folder)/state","relist_seconds":5,"sample_seconds":300}}"#
        try settings.write(toFile: folder + "/agent.json", atomically: true, encoding: .utf8)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "\(binaries)/berth-agent")
        process.arguments = ["run", "--config", folder + "/agent.json"]
        // The other agent's settings are in ours.
        process.environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("BERTH_") }
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        defer { kill(process.processIdentifier, SIGTERM) }

        func lists() -> Int { engine.calls.filter { $0.contains("/containers/json") }.count }
        // Not those that ask for the size of a writable layer, which are no part of a pass.
        func inspects() -> Int {
            engine.calls.filter { $0.hasSuffix("/json") && !$0.hasSuffix("containers/json") }.count
        }
        // Everything is inspected once after the start; then nothing for eight seconds is settled.
        var known = (count: -1, since: ContinuousClock.now)
        for _ in 0..<1200 where known.count < workloads || known.since.duration(to: .now) < .seconds(8) {
            let count = inspects()
            if count != known.count { known = (count, .now) }
            try await Task.sleep(for: .milliseconds(100))
        }
        let before = (
            cpu: try ProcessTimes.cpuSeconds(of: process.processIdentifier) * 1000, lists: lists(), inspects: inspects()
        )
        for _ in 0..<1200 where lists() < before.lists + 12 { try await Task.sleep(for: .milliseconds(100)) }
        try await Task.sleep(for: .milliseconds(500))
        let passes = lists() - before.lists
        let used = try ProcessTimes.cpuSeconds(of: process.processIdentifier) * 1000 - before.cpu
        let inspected = inspects() - before.inspects
        try await engine.stop()
        return (used / Double(max(1, passes)), inspected, passes)
    }

    private static func host(_ desired: [DesiredWorkload]) throws -> SimulatedHost {
        var host = SimulatedHost()
        host.images = host.registry
        for workload in desired {
            let order = ContainerOrder(
                name: ContainerOrder.name(spec: workload.spec, workload: workload.id, generation: 1, attempt: 1),
                workload: workload.id, generation: 1, attempt: 1, spec: workload.spec, imageID: "",
                engineRuntime: "runc", fellBackTo: nil, volumes: workload.spec.volumes, existingVolumes: [],
                limits: EngineLimits(workload.spec.resources, cpus: 2))
            try host.start(try host.create(.init(order)))
        }
        return host
    }
}
