import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// A container that nobody uses, on a real Engine of its own: two minutes are the least that it may be idle.
@Suite struct Idle {
    @Test(.timeLimit(.minutes(6)))
    func `a container that does nothing is stopped with its data kept, one that works or is held is not`() async throws
    {
        let host = try await PrivateEngine()
        let engine = try await host.engine()
        let house = try await House(
            "idle", engine: engine, endpoint: host.endpoint, settings: ["BERTH_SAMPLE_SECONDS": "1"])
        try await engine.pullQuietly("alpine:latest")
        let client = house.client
        let timeout = #","idle_timeout_seconds":120"#
        let idle = try await client.create("idle", more: timeout)
        let held = try await client.create("held", more: timeout)
        let busy = try await client.create(
            "busy",
            more: timeout
                + #","command":["sh","-c","while :; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done"]"#)
        for id in [idle, held, busy] { try await client.untilStatus("running", id) }
        #expect(try await client.call(.POST, "/api/containers/\(held)/keepalive", #"{"ttl":3600}"#).status == 200)
        let container = try #require(try await client.container(idle).text("id"))
        let volume = try #require(
            try await engine.inspectContainer(container).mounts.first { $0.name == "berth-\(idle)" }?.destination)
        _ = try await engine.run("echo kept > \(volume)/word", in: container)
        try await untilTrue("it is known how idle they are", within: 60) {
            let (first, second) = (try await client.container(idle), try await client.container(held))
            return first.seconds("idle_seconds") > 3 && second.body["stats"]?["cpu_percent"] != .null
        }
        #expect(try await client.container(held).seconds("idle_seconds") == 0, "it counts as used")

        let seen = try await client.events(within: 260, opened: {}, until: { $0["type"]?.text == "container_stopped" })
        let told = seen.filter { $0["type"]?.text == "container_idle_pending" }
        #expect(told.compactMap { $0["data"]?["db_id"]?.text } == [idle], "\(told)")
        #expect(seen.last?["data"]?["db_id"]?.text == idle)
        #expect(try await client.container(idle).text("status") == "stopped")
        #expect(try await engine.inspectContainer(container).state.status == "exited")
        for id in [held, busy] { #expect(try await client.container(id).text("status") == "running") }

        let started = try await client.call(.POST, "/api/containers/\(idle)/start")
        #expect(started.status == 200, "\(started)")
        let now = try #require(try await client.container(idle).text("id"))
        let word = try await engine.run("cat \(volume)/word", in: now)
        #expect(word == "kept\n")
        try await house.end()
        try await host.down()
    }
}

extension APIClient.Answer {
    /// -1 where it is no number.
    fileprivate func seconds(_ field: String) -> Double {
        switch body[field] {
        case .integer(let number)?: Double(number)
        case .number(let number)?: number
        default: -1
        }
    }
}
