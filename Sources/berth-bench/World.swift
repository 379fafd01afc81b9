import DockerEngine
import Foundation
import NIOCore
import NIOHTTP1
import ServiceRuntime
import WebSocketTransport

/// A control plane and an agent as processes, for one benchmark.
final class World: Sendable {
    private let folder: String
    private let binaries: String
    private let group: any EventLoopGroup
    private let server: Int32
    private let agent: Int32
    private let port: Int
    private let token: String

    /// - Parameter runtimes: as the setting of that name.
    init(
        binaries: String, engine: EngineEndpoint, group: any EventLoopGroup, runtimes: String = "runc=runc,gvisor=runsc"
    ) async throws {
        self.binaries = binaries
        self.group = group
        folder = NSTemporaryDirectory() + "berth-bench-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let database = "sqlite:\(folder)/db"
        for kind in ["CREATES", "OPERATIONS", "LISTS"] { setenv("BERTH_\(kind)_PER_MINUTE", "0", 1) }
        server = try Self.start(
            "\(binaries)/berth-server",
            ["serve", "--listen", "127.0.0.1:0", "--database", database, "--admin-token-file", "\(folder)/token"],
            log: "\(folder)/server.log")
        port = try await Self.port(of: "\(folder)/server.log")
        token = try DurableFile.readSecret("\(folder)/token")
        setenv("BERTH_ENGINE", engine.description, 1)
        setenv("BERTH_STATE_DIRECTORY", "\(folder)/agent", 1)
        setenv("BERTH_RUNTIMES", runtimes, 1)
        _ = try Self.output(
            "\(binaries)/berth-agent",
            [
                "register", "--server", "http://127.0.0.1:\(port)", "--token-file", "\(folder)/token", "--config",
                "\(folder)/agent.json",
            ])
        setenv("MALLOC_ARENA_MAX", "1", 1)
        agent = try Self.start(
            "\(binaries)/berth-agent", ["run", "--config", "\(folder)/agent.json"], log: "\(folder)/agent.log")
    }

    func stop() {
        for pid in [agent, server] {
            kill(pid, SIGTERM)
            var status: Int32 = 0
            waitpid(pid, &status, 0)
        }
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// Milliseconds from the 202 to the event `container_started`.
    func createAndWait(_ name: String, runtime: String) async throws -> Double {
        guard let url = RemoteURL("ws://127.0.0.1:\(port)/ws/events?token=\(token)") else { return 0 }
        let connection = try await WebSocketClient.connect(to: url, group: group)
        let (times, continuation) = AsyncStream.makeStream(of: Double.self)
        _ = try await connection.run { [self] messages, _ in
            var iterator = messages.makeAsyncIterator()
            _ = try await iterator.next()
            let created = try await call(.POST, "/api/containers", Self.order(name, runtime: runtime))
            let accepted = ContinuousClock.now
            while let message = try await iterator.next() {
                guard case .text(let text) = message, text.contains(#""type":"container_started""#) else { continue }
                continuation.yield(accepted.duration(to: .now).milliseconds)
                break
            }
            _ = try await call(.DELETE, "/api/containers/\(created["db_id"].flatMap(Self.text) ?? "")")
        }
        for await time in times { return time }
        return 0
    }

    /// - Returns: the workload's id; nothing runs yet.
    func create(_ name: String, runtime: String) async throws -> String {
        let created = try await call(.POST, "/api/containers", Self.order(name, runtime: runtime))
        guard let workload = created["db_id"].flatMap(Self.text) else { throw ProgramFailure(.failure, "\(created)") }
        return workload
    }

    /// For one of the accounts that `empty` clears.
    func create(_ name: String, image: String) async throws {
        try makeAccounts(for: 1)
        let order =
            #"{"image":"custom","custom_image":"\#(image)","name":"\#(name)","memory_mb":256,"runtime":"runc"}"#
        _ = try await call(
            .POST, "/api/containers", order, token: try DurableFile.readSecret("\(folder)/bench-0"))
    }

    /// A workload that runs: its id and its container's.
    func createRunning(_ name: String, _ engine: DockerEngine) async throws -> (workload: String, container: String) {
        let workload = try await create(name, runtime: "runc")
        for _ in 0..<600 {
            let entry = try await call(.GET, "/api/containers/\(workload)")
            if entry["status"].flatMap(Self.text) == "running", let container = entry["id"].flatMap(Self.text) {
                return (workload, container)
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw ProgramFailure(.failure, "\(name) does not run")
    }

    func delete(_ workload: String) async throws { _ = try await call(.DELETE, "/api/containers/\(workload)") }

    /// Accounts for so many containers: one may have 25.
    func makeAccounts(for count: Int) throws {
        for account in 0..<(count + 24) / 25 where (try? DurableFile.readSecret("\(folder)/bench-\(account)")) == nil {
            _ = try user(named: "bench-\(account)")
        }
    }

    /// Asks for so many containers, eight requests at once.
    func fill(_ count: Int) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count {
                if number >= 8 { try await group.next() }
                let owner = try DurableFile.readSecret("\(folder)/bench-\(number / 25)")
                group.addTask {
                    let order = Self.order("fleet-\(number)", runtime: "runc")
                    _ = try await self.call(.POST, "/api/containers", order, token: owner)
                }
            }
            try await group.waitForAll()
        }
    }

    func empty() async throws {
        let users = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("bench-") }
        for user in users {
            let owner = try DurableFile.readSecret("\(folder)/\(user)")
            guard case .array(let entries)? = try await call(.GET, "/api/containers", token: owner)["containers"] else {
                continue
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for entry in entries {
                    guard let id = entry["db_id"].flatMap(Self.text) else { continue }
                    group.addTask { _ = try await self.call(.DELETE, "/api/containers/\(id)", token: owner) }
                }
                try await group.waitForAll()
            }
        }
    }

    /// What the agent's last pass took, in milliseconds.
    func lastPass() throws -> Double {
        let text = try Self.output("\(binaries)/berth-agent", ["status", "--json", "--config", "\(folder)/agent.json"])
        let status = try JSONCoding.decode(JSONValue.self, from: ByteBuffer(string: text))
        guard case .integer(let took)? = status["last_pass_took_us"] else {
            throw ProgramFailure(.failure, "no pass in \(text)")
        }
        return Double(took) / 1000
    }

    /// Resident and private megabytes.
    func agentMemory() throws -> String {
        let text = try String(contentsOfFile: "/proc/\(agent)/smaps_rollup", encoding: .utf8)
        func kilobytes(_ key: String) -> Double {
            text.split(separator: "\n").first { $0.hasPrefix(key + ":") }?
                .split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0
        }
        let own = kilobytes("Private_Dirty")
        return String(format: "%.1f / %.1f", kilobytes("Rss") / 1024, own / 1024)
    }

    func agentCPUSeconds() throws -> Double { try ProcessTimes.cpuSeconds(of: agent) }

    // MARK: parts

    private static func order(_ name: String, runtime: String) -> String {
        #"{"image":"archlinux","name":"\#(name)","memory_mb":256,"cpu_shares":500,"runtime":"\#(runtime)"}"#
    }

    private static func text(_ value: JSONValue) -> String? {
        if case .string(let text) = value { return text }
        return nil
    }

    private func user(named name: String) throws -> String {
        let database = ["--database", "sqlite:\(folder)/db"]
        _ = try Self.output(
            "\(binaries)/berth-server", ["user", "create", "--name", name, "--tier", "enterprise"] + database)
        let token = try Self.output("\(binaries)/berth-server", ["token", "create", "--user", name] + database)
        try token.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
        return try DurableFile.readSecret("\(folder)/\(name)")
    }

    private func call(
        _ method: HTTPMethod, _ path: String, _ body: String? = nil, token: String? = nil
    ) async throws -> JSONValue {
        guard let url = RemoteURL("http://127.0.0.1:\(port)\(path)") else { return .null }
        let answer = try await HTTPExchange.send(
            method, url, headers: ["Authorization": "Bearer \(token ?? self.token)"],
            body: body.map { ByteBuffer(string: $0) }, options: .init(timeout: .seconds(60)), group: group)
        guard answer.status < 400 else {
            throw ProgramFailure(.failure, "\(method) \(path): \(answer.status) \(String(buffer: answer.body))")
        }
        return try JSONCoding.decode(JSONValue.self, from: answer.body)
    }

    private static func start(_ path: String, _ arguments: [String], log: String) throws -> Int32 {
        guard FileManager.default.createFile(atPath: log, contents: nil) else {
            throw ProgramFailure(.failure, "\(log) cannot be written")
        }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.standardOutput = FileHandle(forWritingAtPath: log)
        process.standardError = process.standardOutput
        try process.run()
        return process.processIdentifier
    }

    static func output(_ path: String, _ arguments: [String]) throws -> String {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.standardOutput = pipe
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ProgramFailure(.failure, "\(path) \(arguments): \(process.terminationStatus)")
        }
        return String(decoding: data, as: UTF8.self)
    }

    private static func port(of log: String) async throws -> Int {
        for _ in 0..<200 {
            let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
            if let line = text.split(separator: "\n").first(where: { $0.contains("control plane listening") }),
                let port = line.split(separator: ":").last.flatMap({ Int($0) })
            {
                return port
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw ProgramFailure(.unavailable, "the control plane did not start; see \(log)")
    }
}

enum ProcessTimes {
    /// Of all its threads, those too that have ended; by the scheduler's own clock, not by ticks.
    static func cpuSeconds(of pid: Int32) throws -> Double {
        var clock = clockid_t()
        var time = timespec()
        guard clock_getcpuclockid(pid, &clock) == 0, clock_gettime(clock, &time) == 0 else {
            throw ProgramFailure(.failure, "process \(pid) is gone")
        }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
