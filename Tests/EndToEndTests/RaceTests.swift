import BerthModel
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Testing
import WebSocketTransport

/// Requests that race, a hundred times each; where nothing else is said, against a control plane without any host.
@Suite struct Races {
    private static let rounds = 100

    @Test(.timeLimit(.minutes(6)))
    func `parallel creates never exceed the limit, and of one name there is one`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let most = 25
        for _ in 0..<(most - 3) { _ = try await client.call(.POST, "/api/containers", #"{"image":"alpine"}"#) }
        for round in 0..<Self.rounds {
            let statuses = try await together(6) { _ in
                try await client.call(.POST, "/api/containers", #"{"image":"alpine"}"#).status
            }
            #expect(statuses.sorted() == [202, 202, 202, 403, 403, 403], "round \(round): \(statuses)")
            let entries = try await client.entries()
            #expect(entries.count == most)
            for entry in entries.prefix(3) {
                let id = try #require(entry["db_id"]?.text)
                #expect(try await client.call(.DELETE, "/api/containers/\(id)").status == 200)
            }
            let named = try await together(3) { _ in
                try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"one"}"#)
            }
            #expect(named.map(\.status).sorted() == [202, 409, 409], "round \(round)")
            let id = try #require(named.first { $0.status == 202 }?.text("db_id"))
            #expect(try await client.call(.DELETE, "/api/containers/\(id)").status == 200)
        }
        try await controlPlane.stop()
    }

    @Test(.timeLimit(.minutes(6)))
    func `a change that races a deletion is made before it or not at all`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        for round in 0..<Self.rounds {
            let made = try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"a"}"#)
            let id = try #require(made.text("db_id"), "\(made)")
            let statuses = try await together(2) { which in
                which == 0
                    ? try await client.call(.PATCH, "/api/containers/\(id)", #"{"name":"b\#(round)"}"#).status
                    : try await client.call(.DELETE, "/api/containers/\(id)").status
            }
            #expect([202, 404].contains(statuses[0]) && statuses[1] == 200, "round \(round): \(statuses)")
            #expect(try await client.container(id).status == 404)
        }
        #expect(try await client.entries().isEmpty)
        try await controlPlane.stop()
    }

    @Test(.timeLimit(.minutes(6)))
    func `what is deleted on a host stays so, whatever was asked for at the same time`() async throws {
        let controlPlane = try await TestControlPlane { _ in ["BERTH_CONFIRM_SECONDS": "5"] }
        let client = await controlPlane.client()
        let agent = try await ScriptedAgent(of: client)
        try await agent.connect()
        for round in 0..<Self.rounds {
            let id = try await client.create("a\(round)")
            try await client.untilStatus("running", id)
            let path = "/api/containers/\(id)"
            let statuses = try await together(3) { which in
                switch which {
                case 0: try await client.call(.PATCH, path, #"{"memory_mb":512}"#).status
                case 1: try await client.call(.POST, path + "/stop").status
                default: try await client.call(.DELETE, path).status
                }
            }
            // Done before it, overtaken by it on the host, or too late.
            #expect(statuses.prefix(2).allSatisfy { [200, 202, 404].contains($0) }, "round \(round): \(statuses)")
            #expect([200, 202].contains(statuses[2]), "round \(round): \(statuses)")
            #expect(try await client.container(id).status == 404)
            try await untilTrue("its host is told", within: 10) { agent.wanted(id)?.wish == .removed }
        }
        try await controlPlane.stop()
    }

    @Test(.timeLimit(.minutes(6)))
    func `what a token does after its revocation was answered fails`() async throws {
        let controlPlane = try await TestControlPlane()
        let admin = await controlPlane.client()
        for round in 0..<Self.rounds {
            let made = try await admin.call(.POST, "/api/tokens", #"{"name":"t","scopes":["read","write"]}"#)
            let (id, text) = (try #require(made.text("id")), try #require(made.text("token")))
            let user = APIClient(port: admin.port, token: text)
            let statuses = try await together(4) { which in
                which == 0
                    ? try await admin.call(.DELETE, "/api/tokens/\(id)").status
                    : try await user.call(.GET, "/api/containers").status
            }
            #expect(statuses[0] == 200 && statuses.dropFirst().allSatisfy { $0 == 200 || $0 == 401 }, "\(statuses)")
            #expect(try await user.call(.GET, "/api/containers").status == 401, "round \(round)")
        }
        try await controlPlane.stop()
    }

    @Test(.timeLimit(.minutes(6)))
    func `a thousand clients hear of a change, and one that does not read holds up none`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let url = try #require(RemoteURL("ws://127.0.0.1:\(client.port)/ws/events"))
        let heard = Tally()
        let listening = Tally()
        let all = 1000
        func connect() async throws -> WebSocketConnection {
            try await WebSocketClient.connect(
                to: url, headers: ["Authorization": "Bearer \(client.token)"], group: TestEnvironment.group)
        }
        // One that is open and never reads.
        let deaf = try await connect()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for batch in 0..<20 {
                for _ in 0..<(all / 20) {
                    group.addTask {
                        let connection = try await connect()
                        _ = try await connection.run { messages, writer in
                            for try await message in messages {
                                guard case .text(let text) = message else { continue }
                                if text.contains(#""type":"list""#) { await listening.count() }
                                if text.contains(#""type":"container_created""#) {
                                    await heard.count()
                                    return
                                }
                            }
                        }
                    }
                }
                try await untilTrue("batch \(batch) listens", within: 30) {
                    await listening.value == (batch + 1) * (all / 20)
                }
            }
            let start = ContinuousClock.now
            #expect(try await client.call(.POST, "/api/containers", #"{"image":"alpine"}"#).status == 202)
            #expect(start.duration(to: .now) < .seconds(5), "a create does not wait for its listeners")
            try await untilTrue("all have heard", within: 60) { await heard.value == all }
            try await group.waitForAll()
        }
        _ = try await deaf.run { _, writer in await writer.close() }
        try await controlPlane.stop()
    }

    /// Started at once; the results in the order of their numbers.
    private func together<Result: Sendable>(
        _ count: Int, _ body: @escaping @Sendable (Int) async throws -> Result
    ) async throws -> [Result] {
        try await withThrowingTaskGroup(of: (Int, Result).self) { group in
            for number in 0..<count { group.addTask { (number, try await body(number)) } }
            var results: [Int: Result] = [:]
            for try await (number, result) in group { results[number] = result }
            return (0..<count).compactMap { results[$0] }
        }
    }
}

private actor Tally {
    private(set) var value = 0
    func count() { value += 1 }
}
