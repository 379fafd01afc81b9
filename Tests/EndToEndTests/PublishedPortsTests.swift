import NIOHTTP1
import ServiceRuntime
import Testing

/// Ports of the host that lead to a container, asked from the host's own network.
extension RealParts {
    @Suite(.serialized) struct PublishedPorts {
        /// A web server that says `says`.
        private func server(_ says: String, at port: Int) -> String {
            let script = "mkdir /tmp/web; echo \(says) > /tmp/web/index.html; exec httpd -f -p \(port) -h /tmp/web"
            return #","command":["sh","-c","\#(script)"]"#
        }

        @Test(.timeLimit(.minutes(5)), arguments: ["runc", "gvisor"])
        func `a published port has one holder, answers after a replacement too, and goes with its container`(
            runtime: String
        ) async throws {
            let network = try HostNetwork()
            let house = try await House("ports-\(runtime)", settings: ["BERTH_POLICY_PORTS": "18080-18089"])
            let ports = #","ports":[{"container":80,"host":18080},{"container":53,"host":18081,"protocol":"udp"}]"#
            #expect(try await network.isListening(at: 18080) == false)
            let first = try await house.client.create(
                "first", runtime: runtime, more: ports + server("first", at: 80))
            let entry = try await house.client.untilStatus("running", first)
            func shown(_ container: Int, _ host: Int, _ transport: String) -> JSONValue {
                .object([
                    "container": .integer(container), "host": .integer(host), "protocol": .string(transport),
                ])
            }
            #expect(entry["ports"] == .array([shown(80, 18080, "tcp"), shown(53, 18081, "udp")]), "\(entry)")
            try await untilTrue("the port leads to it", within: 30) {
                try await network.page(at: 18080) == "first\n"
            }
            #expect(try await network.isListening(at: 18081, "udp"))
            #expect(try await network.isListening(at: 18081, "tcp") == false)

            // Another container on the same port: the one before has given it back.
            let before = try await house.client.container(first).text("id")
            let patched = try await house.client.call(.PATCH, "/api/containers/\(first)", #"{"disk_mb":2048}"#)
            #expect(patched.status == 200 && patched.body["restarted"] == .bool(true), "\(patched)")
            let after = try await house.client.container(first)
            #expect(after.text("id") != before && after.body["ports"] == entry["ports"], "\(after)")
            try await untilTrue("the port leads to the new one", within: 30) {
                try await network.page(at: 18080) == "first\n"
            }

            // A port has one holder; whoever comes second is told, and has it when it is free.
            let second = try await house.client.create(
                "second", runtime: runtime,
                more: #","ports":[{"container":8080,"host":18080}]"# + server("second", at: 8080))
            let refused = try await eventually("the second is told that its port is taken", within: 60) {
                () -> APIClient.Answer? in
                let answer = try await house.client.container(second)
                let isTold = answer.text("message")?.hasPrefix("port_taken: port 18080 of this host is taken") == true
                return isTold ? answer : nil
            }
            #expect(refused.text("status") == "error", "\(refused)")
            #expect(try await network.page(at: 18080) == "first\n")

            // What the owner does not allow is not there.
            let outside = try await house.client.create("outside", runtime: runtime, more: #","ports":[18090]"#)
            let denied = try await house.client.untilStatus("error", outside)
            #expect(
                denied["message"]?.text
                    == "refused_by_host: policy.ports of this host: port 18090 may not be published; allowed: 18080-18089",
                "\(denied)")
            #expect(try await network.isListening(at: 18090) == false)

            let deleted = try await house.client.call(.DELETE, "/api/containers/\(first)")
            #expect(deleted.status == 200, "\(deleted)")
            // A start does not wait for the time of the next try.
            let started = try await house.client.call(.POST, "/api/containers/\(second)/start")
            #expect(started.status == 200, "\(started)")
            try await untilTrue("the port leads to the second", within: 30) {
                try await network.page(at: 18080) == "second\n"
            }
            #expect(try await house.client.call(.DELETE, "/api/containers/\(second)").status == 200)
            for transport in ["tcp", "udp"] {
                for port in [18080, 18081] {
                    #expect(try await network.isListening(at: port, transport) == false, "\(port)/\(transport)")
                }
            }
            try await house.end()
        }
    }
}
