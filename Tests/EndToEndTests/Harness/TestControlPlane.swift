import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Testing
import WebSocketTransport

/// A control plane as a process of its own, with its database in a folder.
actor TestControlPlane {
    let folder: TemporaryFolder
    private(set) var program: RunningProgram?
    private(set) var port = 0
    private(set) var token = ""

    private let settings: [String: String]
    /// Of its own, or shared with others.
    nonisolated let database: String

    /// - Parameter settings: more of them, as environment variables; called with the folder.
    init(settings: (TemporaryFolder) async throws -> [String: String] = { _ in [:] }) async throws {
        folder = try TemporaryFolder()
        self.settings = try await settings(folder)
        // `scripts/test` runs what the API promises on both databases.
        database =
            ProcessInfo.processInfo.environment["BERTH_TEST_DATABASE"] == "postgres"
            ? try await TestEnvironment.newPostgresDatabase() : "sqlite:" + folder.file("berth.sqlite")
        try await start()
    }

    /// One more on the database of others, whose administrator is there already.
    init(on database: String, token: String? = nil, settings: [String: String] = [:]) async throws {
        folder = try TemporaryFolder()
        self.settings = settings
        self.database = database
        if let token { try token.write(toFile: folder.file("admin-token"), atomically: true, encoding: .utf8) }
        try await start()
    }

    nonisolated var databaseFlag: [String] { ["--database", database] }

    /// Tests ask more often than people do; what of this a test is about it sets itself.
    private static let common = [
        "BERTH_HEARTBEAT_SECONDS": "2", "BERTH_CREATES_PER_MINUTE": "0", "BERTH_OPERATIONS_PER_MINUTE": "0",
        "BERTH_LISTS_PER_MINUTE": "0", "BERTH_UNKNOWN_PER_MINUTE": "0",
    ]

    /// - Parameter more: settings beside those that it was made with.
    func start(_ more: [String: String] = [:]) async throws {
        let program = try RunningProgram(
            try TestEnvironment.binary("berth-server"),
            ["serve", "--listen", "127.0.0.1:\(port)", "--admin-token-file", folder.file("admin-token")] + databaseFlag,
            environment: Self.common.merging(settings) { $1 }.merging(more) { $1 },
            output: folder.file("server-\(UUID().uuidString).log"))
        self.program = program
        port = try await eventually("the control plane listens", within: 20) {
            #expect(program.isRunning, "\(program.output)")
            let line = program.output.split(separator: "\n").first { $0.contains("control plane listening") }
            return line.flatMap { $0.split(separator: ":").last }.flatMap { Int($0.prefix { $0.isNumber }) }
        }
        token = folder.text("admin-token").trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(token.hasPrefix("berth_"))
    }

    func stop() async throws { #expect(try await program?.terminate() == 0) }
    func killHard() async throws { try await program?.killHard() }

    nonisolated func client() async -> APIClient { APIClient(port: await port, token: await token) }
}

/// Calls the API as any client would.
struct APIClient: Sendable {
    let port: Int
    let token: String

    struct Answer: Sendable {
        var status: Int
        var body: JSONValue

        func text(_ key: String) -> String? {
            if case .string(let text)? = body[key] { return text }
            return nil
        }
    }

    func call(_ method: HTTPMethod, _ path: String, _ body: String? = nil) async throws -> Answer {
        let url = try #require(RemoteURL("http://127.0.0.1:\(port)\(path)"))
        let answer = try await HTTPExchange.send(
            method, url, headers: ["Authorization": "Bearer \(token)", "Content-Type": "application/json"],
            body: body.map { ByteBuffer(string: $0) }, options: .init(timeout: .seconds(60)),
            group: TestEnvironment.group)
        let value =
            (try? JSONCoding.decode(JSONValue.self, from: answer.body))
            ?? .string(String(decoding: answer.body.readableBytesView, as: UTF8.self))
        for problem in OpenAPICheck.problems(
            method: method.rawValue, path: path, status: answer.status, body: value)
        {
            Issue.record("not as GET /openapi.json says: \(problem)")
        }
        return Answer(status: answer.status, body: value)
    }

    func entries() async throws -> [JSONValue] {
        guard case .array(let list)? = try await call(.GET, "/api/containers").body["containers"] else { return [] }
        return list
    }

    func container(_ id: String) async throws -> Answer { try await call(.GET, "/api/containers/\(id)") }

    /// Creates a container that runs under `runtime`; gives its database id.
    func create(
        _ name: String, runtime: String = "runc", image: String = "alpine", cpu: Int = 500, more: String = ""
    ) async throws -> String {
        let answer = try await call(
            .POST, "/api/containers",
            #"{"image":"\#(image)","name":"\#(name)","memory_mb":256,"cpu_shares":\#(cpu),"runtime":"\#(runtime)"\#(more)}"#
        )
        #expect(answer.status == 202, "\(answer)")
        return try #require(answer.text("db_id"))
    }

    @discardableResult
    func untilStatus(_ status: String, _ id: String, within seconds: Double = 90) async throws -> JSONValue {
        var last: Answer?
        do {
            return try await eventually("\(id) is \(status)", within: seconds, every: 100) {
                let answer = try await container(id)
                last = answer
                return answer.text("status") == status ? answer.body : nil
            }
        } catch {
            Issue.record("last seen: \(String(describing: last))")
            throw error
        }
    }

    /// Collects events until `isLast` says so.
    func events(
        within seconds: Double = 120, after: String? = nil, opened: @escaping @Sendable () async throws -> Void,
        until isLast: @escaping @Sendable (JSONValue) -> Bool
    ) async throws -> [JSONValue] {
        let url = try #require(
            RemoteURL("ws://127.0.0.1:\(port)/ws/events?token=\(token)\(after.map { "&after=\($0)" } ?? "")"))
        let connection = try await WebSocketClient.connect(to: url, group: TestEnvironment.group)
        let collected = Collected()
        _ = try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                _ = try await connection.run { messages, _ in
                    var isFirst = true
                    for try await message in messages {
                        guard case .text(let text) = message else { continue }
                        let event = try JSONCoding.decode(JSONValue.self, from: text)
                        await collected.add(event)
                        if isFirst {
                            isFirst = false
                            try await opened()
                        }
                        if isLast(event) { return }
                    }
                }
            }
            group.addTask {
                try await Task.sleep(for: .seconds(seconds))
                throw TestEnvironment.Missing(description: "the last event did not come; seen: \(await collected.all)")
            }
            defer { group.cancelAll() }
            try await group.next()
        }
        return await collected.all
    }
}

actor Collected {
    private(set) var all: [JSONValue] = []
    func add(_ value: JSONValue) { all.append(value) }
}

extension JSONValue {
    var number: Int? {
        if case .integer(let number) = self { return number }
        return nil
    }
}
