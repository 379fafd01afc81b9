import DockerEngine
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// Limits of what volumes hold: measured, told, and acted on where the host's owner wants it.
extension RealParts {
    @Suite(.serialized) struct VolumeLimits {
        @Test(.timeLimit(.minutes(3)))
        func `a volume over its limit is told, and with stop_overfull its container is stopped and its data kept`()
            async throws
        {
            let house = try await House("volume", settings: ["BERTH_VOLUME_SECONDS": "5"])
            let id = try await house.client.create("full", more: #","volume_mb":64"#)
            let container = try #require(try await house.client.untilStatus("running", id)["id"]?.text)
            func resources() async throws -> JSONValue? { try await house.client.container(id).body["resources"] }
            #expect(try await resources()?["volume_mb"] == .integer(64))
            try await untilTrue("it is measured", within: 20) { try await resources()?["volume_used_mb"] != nil }
            let reason = try await resources()?["unenforced"]?["volume_mb"]?.text
            #expect(reason?.contains("goes through") == true, "\(String(describing: reason))")

            _ = try await house.engine.run("head -c 100000000 /dev/urandom > /root/much && sync", in: container)
            try await untilTrue("it is told", within: 20) {
                let entry = try await house.client.container(id).body
                guard case .array(let warnings)? = entry["warnings"] else { return false }
                return warnings.contains { $0.text?.contains("of the 64 allowed") == true }
            }
            #expect(try await house.client.container(id).text("status") == "running")

            // The owner of the host wants it stopped.
            try await house.agent.stop()
            try await house.agent.start(["BERTH_VOLUME_SECONDS": "5", "BERTH_POLICY_STOP_OVERFULL": "true"])
            try await untilTrue("it is stopped", within: 40) {
                let entry = try await house.client.container(id)
                return entry.text("status") == "error" && entry.text("message")?.contains("volume_full") == true
            }
            #expect(try await house.engine.inspectContainer(container).state.status == "exited")

            // More room, and it runs again on what it has.
            let raised = try await house.client.call(.PATCH, "/api/containers/\(id)", #"{"volume_mb":200}"#)
            #expect(raised.status < 300, "\(raised)")
            let next = try #require(try await house.client.untilStatus("running", id)["id"]?.text)
            #expect(next == container)
            #expect(try await house.engine.run("wc -c < /root/much", in: next).contains("100000000"))
            try await house.end()
        }
    }
}
