import FakeEngine
import Foundation
import ServiceRuntime
import Simulation
import Testing

/// The agent as a process against an Engine that does what a real one does only when nobody looks. The fake refuses what an
/// Engine refuses, and remembers every call that must never be made.
@Suite(.serialized) struct FakeEngineFaults {
    private struct Stage {
        let folder: TemporaryFolder
        let engine: FakeEngine
        let controlPlane: TestControlPlane
        let client: APIClient
        let agent: TestAgent

        init(_ name: String) async throws {
            folder = try TemporaryFolder()
            engine = try await FakeEngine(path: folder.file("docker.sock"), group: TestEnvironment.group)
            controlPlane = try await TestControlPlane()
            client = await controlPlane.client()
            agent = try await TestAgent(controlPlane, name: name, engine: "unix://\(engine.path)")
            try await agent.start(["BERTH_START_TIMEOUT_SECONDS": "5"])
            try await agentIsOnline(client, agent)
        }

        /// Exactly one container of the workload is up, and nothing was done that must not be.
        func isWell(_ id: String, after what: String, within seconds: Double = 40) async throws {
            try await client.untilStatus("running", id, within: seconds)
            try await untilTrue("one container, as wanted, after \(what)", within: seconds) {
                let own = engine.host.containers.values.filter { $0.workload == id }
                let answer = try await client.container(id)
                return own.filter(\.isUp).count == 1 && answer.body["generation"] == answer.body["observed_generation"]
            }
            #expect(engine.host.violations.isEmpty, "\(what): \(engine.host.violations)")
        }

        func end() async throws {
            try await agent.stop()
            try await controlPlane.stop()
            try await engine.stop()
        }
    }

    @Test(.timeLimit(.minutes(3)))
    func `calls that fail, are done and then fail, are cut or come late end in exactly one container`() async throws {
        let stage = try await Stage("unlucky")
        var number = 0
        for call in ["/containers/create", "/start", "/images/create", "GET /v1.41/containers/json", "/json"] {
            for fault: FakeEngine.Fault in [
                .fail(status: 500), .doThenFail(status: 500), .doThenCut, .cutAnswer, .delay(milliseconds: 700),
            ] {
                number += 1
                stage.engine.inject(fault, into: call)
                let id = try await stage.client.create("c-\(number)")
                try await stage.isWell(id, after: "\(fault) of \(call)")
            }
        }
        // What a lost answer made twice is tidied away.
        try await untilTrue("one container for each", within: 30) { stage.engine.host.containers.count == number }
        #expect(!stage.engine.calls.contains { $0.contains("v=1") })
        try await stage.end()
    }

    @Test(.timeLimit(.minutes(2)))
    func `a container that stays created for ever is started no more often than the backoff says`() async throws {
        let stage = try await Stage("stuck")
        stage.engine.change { $0.broken["alpine:latest"] = .staysCreated }
        let id = try await stage.client.create("stuck")
        try await untilTrue("it was tried three times", within: 30) {
            stage.engine.calls.filter { $0.hasSuffix("/start") }.count >= 3
        }
        let failed = try await stage.client.untilStatus("error", id, within: 20)
        #expect(failed["message"]?.text?.contains("start_without_effect") == true, "\(failed)")
        #expect(stage.engine.calls.filter { $0.hasSuffix("/start") }.count <= 6)
        stage.engine.change { $0.broken = [:] }
        try await stage.isWell(id, after: "it stayed created")
        try await stage.end()
    }

    @Test(.timeLimit(.minutes(2)), arguments: [FakeEngine.EventMode.dropped, .repeated, .reordered])
    func `events that are dropped, repeated or out of order change nothing but the time`(
        mode: FakeEngine.EventMode
    ) async throws {
        let stage = try await Stage("deaf")
        stage.engine.events(mode)
        let id = try await stage.client.create("heard")
        try await stage.isWell(id, after: "\(mode)")
        stage.engine.change { host in
            for id in host.containers.keys { host.exit(id, code: 1) }
        }
        try await stage.isWell(id, after: "a death, events \(mode)")
        try await stage.end()
    }

    @Test(.timeLimit(.minutes(2)))
    func `an Engine that restarts and forgets its names is taken up again, with nothing made twice`() async throws {
        let stage = try await Stage("forgetful")
        let id = try await stage.client.create("kept")
        try await stage.isWell(id, after: "the first start")
        stage.engine.change { $0.forgetNames() }
        try await stage.engine.restart()
        try await stage.isWell(id, after: "a restart without names")
        #expect(stage.engine.host.containers.count == 1)
        try await stage.end()
    }

    @Test(.timeLimit(.minutes(2)))
    func `a call that hangs for ever holds up its own workload only`() async throws {
        let stage = try await Stage("hanging")
        stage.engine.inject(.hang, into: "/start")
        let first = try await stage.client.create("first")
        try await untilTrue("its start hangs") {
            // Not that of a probe before.
            stage.engine.calls.contains { $0.hasSuffix("/start") && !$0.contains("/probe/") }
        }
        let second = try await stage.client.create("second")
        try await stage.isWell(second, after: "a hanging start beside it", within: 4)
        try await stage.isWell(first, after: "its own hanging start")
        try await stage.end()
    }
}
