import AgentProtocol
import BerthModel
import NIOHTTP1
import ServiceRuntime
import Testing

/// The server's own failures as they are documented, brought about by a row that cannot be read, as a hand in the database
/// leaves it behind. `docs/contract.md` has the statements.
@Suite struct DocumentedFailures {
    private static let internalError = JSONValue.object(["error": .string("internal error")])

    @Test func `what nobody foresaw is a 500 that says no more than that, and others are served`() async throws {
        let controlPlane = try await TestControlPlane()
        let ada = try await controlPlane.user("ada", tier: "pro")
        let bob = try await controlPlane.user("bob", tier: "pro")
        let agent = try await ScriptedAgent(of: bob)
        try await agent.connect()
        // Ada has no host, so hers waits.
        let order = #""name":"broken","idempotency_key":"once""#
        let made = try await ada.order(order)
        let id = try #require(made.text("db_id"), "\(made)")
        try await controlPlane.spoil(id)

        let path = "/api/containers"
        let calls: [(HTTPMethod, String, String?)] = [
            (.GET, path, nil), (.POST, path, "{\"image\":\"alpine\",\(order)}"), (.GET, "\(path)/\(id)", nil),
            (.POST, "\(path)/\(id)/start", nil), (.POST, "\(path)/\(id)/stop", nil), (.PATCH, "\(path)/\(id)", "{}"),
            (.DELETE, "\(path)/\(id)", nil),
        ]
        for (method, path, body) in calls {
            let answer = try await ada.call(method, path, body)
            #expect(answer.status == 500 && answer.body == Self.internalError, "\(method) \(path): \(answer)")
            let (again, headers) = try await ada.send(method, path, body)
            #expect(again.status == 500 && again.body == Self.internalError, "\(method) \(path): \(again)")
            #expect(headers["content-type"] == "application/json; charset=utf-8")
        }

        // Others notice nothing, nor does Ada where that row is not needed.
        let (theirs, wanted) = (try await bob.call(.GET, path), try await bob.create("fine"))
        #expect(theirs.status == 200, "\(theirs)")
        try await bob.untilStatus("running", wanted)
        let stopped = try await bob.call(.POST, "\(path)/\(wanted)/stop")
        #expect(stopped.status == 200, "\(stopped)")
        let another = try await ada.order(#""name":"another""#)
        #expect(another.status == 202, "\(another)")
        let anotherID = try #require(another.text("db_id"))
        let deleted = try await ada.call(.DELETE, "\(path)/\(anotherID)")
        #expect(deleted.status == 200, "\(deleted)")

        // What it was is for who runs the server: in the log, and the failed changes in the audit.
        let log = await controlPlane.program?.output ?? ""
        #expect(log.contains("request failed"))
        let audit = try await controlPlane.client().call(.GET, "/api/audit?user=ada")
        let failed = (audit.body["entries"]?.items ?? []).filter { $0["status"]?.number == 500 }
        let changes = calls.filter { $0.0 != .GET }
        #expect(failed.count == 2 * changes.count, "\(audit)")

        try await controlPlane.unspoil(id)
        let mended = try await ada.call(.GET, path)
        #expect(mended.status == 200 && mended.body["count"]?.number == 1, "\(mended)")
        let repeated = try await ada.order(order)
        #expect(repeated.status == 202 && repeated.text("db_id") == id, "\(repeated)")
        try await controlPlane.stop()
    }

    @Test func `an agent that holds something else under the newest revision is told all of it under a newer one`()
        async throws
    {
        let controlPlane = try await TestControlPlane()
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        let id = try await client.create("dev")
        try await client.untilStatus("running", id)
        let held = agent.revision
        #expect(held > .none)
        try await agent.disconnect()
        agent.forget()
        try await agent.connect(holding: held)
        try await agent.untilWanted(id)
        #expect(agent.revision > held)
        try await controlPlane.stop()
    }

    @Test func `an agent that cannot be told what is wanted is cut off, and told when it comes back`() async throws {
        // Its answer is not waited for long: it does not come.
        let controlPlane = try await TestControlPlane { _ in ["BERTH_CONFIRM_SECONDS": "2"] }
        let client = try await controlPlane.user("ada", tier: "pro")
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        let id = try await client.create("dev")
        try await client.untilStatus("running", id)

        // The sender fails and the socket is whole: an agent that is told nothing any more is of no use.
        try await controlPlane.byHand("ALTER TABLE container RENAME TO hidden")
        try await agent.say(.nack(.init(revision: .none, workload: nil, reason: "the disk is full")))
        try await untilTrue("the agent is offline", within: 20) {
            try await client.container("agent:\(agent.id)").text("status") == "offline"
        }
        try await agent.untilCutOff()

        try await controlPlane.byHand("ALTER TABLE hidden RENAME TO container")
        let stopped = try await client.call(.POST, "/api/containers/\(id)/stop")
        #expect(stopped.status == 202, "\(stopped)")
        #expect(agent.wanted(id)?.wish == .running, "it was not told")
        try await agent.connect()
        try await client.untilStatus("stopped", id)
        // And is told again what changes.
        let started = try await client.call(.POST, "/api/containers/\(id)/start")
        #expect([200, 202].contains(started.status), "\(started)")
        try await client.untilStatus("running", id)
        try await controlPlane.stop()
    }
}

extension TestControlPlane {
    /// What is wanted of a container is no JSON any more.
    fileprivate nonisolated func spoil(_ id: String) async throws { try await setSpec("'x' || spec", of: id) }

    /// As it was before.
    fileprivate nonisolated func unspoil(_ id: String) async throws { try await setSpec("SUBSTR(spec, 2)", of: id) }

    private nonisolated func setSpec(_ expression: String, of id: String) async throws {
        try await byHand("UPDATE container SET spec = \(expression) WHERE id = '\(id)'")
    }

    /// By another connection, while the server runs.
    fileprivate nonisolated func byHand(_ statement: String) async throws {
        let result: (status: Int32, output: String)
        if database.hasPrefix("sqlite:") {
            let program = """
                import sqlite3, sys
                connection = sqlite3.connect(sys.argv[1], timeout=10)
                assert connection.execute(sys.argv[2]).rowcount in (1, -1)
                connection.commit()
                """
            let path = String(database.dropFirst("sqlite:".count))
            result = try await RunningProgram.run("/usr/bin/python3", ["-c", program, path, statement])
        } else {
            result = try await RunningProgram.run("/usr/bin/psql", [database, "-qc", statement])
        }
        #expect(result.status == 0, "\(result.output)")
    }
}
