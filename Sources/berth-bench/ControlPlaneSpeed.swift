import BerthModel
import ControlPlane
import ControlPlaneCore
import ControlPlaneStore
import Foundation
import GRDB
import NIOCore
import ServiceRuntime

/// What the control plane costs by itself: lists beside a constant of the same size, creates beside a bare commit.
struct ControlPlaneSpeed {
    let binaries: String
    let group: any EventLoopGroup
    let report: (String, String) -> Void

    private static let containers = 100
    private static let rounds = 3
    private static let roundLength = Duration.seconds(5)

    func run() async throws {
        let folder = NSTemporaryDirectory() + "berth-bench-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let server = try await Self.server(binaries, folder)
        defer { server.stop() }
        let token = try DurableFile.readSecret("\(folder)/token")
        let store = try await Store.open(.sqlite(path: "\(folder)/db"), migrates: false)
        guard let admin = try await store.user(named: "admin") else {
            throw ProgramFailure(.failure, "no administrator")
        }

        try await creates(server.port, token, folder)
        try await fill(store, admin)
        try await lists(server.port, token, folder)
    }

    static func server(_ binaries: String, _ folder: String, port: Int = 0) async throws -> PeerProcess {
        try await PeerProcess(
            "\(binaries)/berth-server",
            ["serve", "--listen", "127.0.0.1:\(port)", "--admin-token-file", "\(folder)/token"],
            environment: [
                "BERTH_DATABASE": "sqlite:\(folder)/db", "BERTH_CREATES_PER_MINUTE": "0",
                "BERTH_OPERATIONS_PER_MINUTE": "0", "BERTH_LISTS_PER_MINUTE": "0",
                "BERTH_TIERS_ENTERPRISE_CONTAINERS": "1000",
            ], log: "\(folder)/server-\(UUID().uuidString.prefix(4)).log")
    }

    /// As a host with as many containers would have left it.
    private func fill(_ store: Store, _ admin: UserRecord) async throws {
        let agent = AgentRecord(
            id: AgentID(validated: "bench-agent"), userID: admin.id, name: "bench", details: "", tags: [],
            isShared: false,
            host: HostDescription(
                hostname: "bench", os: "linux", arch: "x86_64",
                capacity: HostCapacity(memoryMB: 1_000_000, cpuMillicores: 1_000_000),
                engine: EngineDescription(runtimes: ["runc", "gvisor"])), createdAt: Timestamp.now(),
            lastSeenAt: Timestamp.now())
        try await store.register(
            agent,
            token: TokenRecord(
                id: Secrets.newUUID(), userID: admin.id, name: "", prefix: "", scopes: [.agent], agent: agent.id,
                createdAt: Timestamp.now()), hash: Secrets.hash("bench"))
        for number in 0..<Self.containers {
            let id = WorkloadID(validated: Secrets.newUUID())
            let now = Timestamp.now()
            let record = ContainerRecord(
                id: id, userID: admin.id, image: "ubuntu:24.04", role: "node",
                spec: WorkloadSpec(
                    name: "container-\(number)", image: "ubuntu:24.04", runtime: .init(name: "gvisor"),
                    environment: ["LANG": "C.UTF-8"],
                    volumes: [VolumeMount(volume: VolumeMount.name(for: id), path: "/root")]), createdAt: now,
                lastUsedAt: now)
            _ = try await store.create(
                record, limit: 1000, idempotencyKey: nil, online: [agent.id])
            let engine = EngineContainerID(validated: (0..<4).map { _ in Secrets.newUUID().prefix(16) }.joined())
            _ = try await store.record(
                [
                    WorkloadStatus(
                        workload: id, generation: 1, phase: .running, engineContainer: engine,
                        address: "172.17.0.\(number)",
                        startedAt: now)
                ], from: agent.id, now: now)
        }
    }

    private func lists(_ port: Int, _ token: String, _ folder: String) async throws {
        let ours = HTTPLoad(port: port, group: group)
        let connection = try await KeptConnection(port: port, group: group)
        let answer = try await connection.ask(HTTPLoad.request("GET", "/api/containers", token: token))
        try await connection.close()
        let body = "\(folder)/body"
        try Data(answer.body.readableBytesView).write(to: URL(fileURLWithPath: body))
        let peer = try await PeerProcess(
            CommandLine.arguments[0], environment: ["BERTH_BENCH_PEER": "constant", "BERTH_BENCH_BODY": body],
            log: "\(folder)/constant.log")
        defer { peer.stop() }
        let constant = HTTPLoad(port: peer.port, group: group)
        var measured: [(ours: HTTPLoad.Result, constant: HTTPLoad.Result)] = []
        for _ in 0..<Self.rounds {
            measured.append(
                (
                    try await ours.run("/api/containers", token: token, connections: 64, for: Self.roundLength),
                    try await constant.run("/constant", token: token, connections: 64, for: Self.roundLength)
                ))
        }
        let best = measured.sorted { $0.ours.requestsPerSecond < $1.ours.requestsPerSecond }[Self.rounds / 2]
        report(
            "list of \(Self.containers) containers (\(answer.bytes / 1024) KiB), requests/s at 64",
            Self.text(best.ours.requestsPerSecond))
        report("  a constant of that size, same framework, requests/s", Self.text(best.constant.requestsPerSecond))
        report(
            "  of the constant (goal: at least 0.5)",
            String(format: "%.2f", best.ours.requestsPerSecond / best.constant.requestsPerSecond))
        report(
            "  median and p99, ms", "\(Self.text(best.ours.median)) and \(Self.text(best.ours.slowestOfHundred))")
        report(
            "  p99 of the median (goal: under 10)",
            String(format: "%.1f", best.ours.slowestOfHundred / best.ours.median))
    }

    /// Milliseconds from a creation to its 202, median of so many.
    static func creation(
        _ port: Int, _ folder: String, _ prefix: String, count: Int
    ) throws -> Double {
        let token = try DurableFile.readSecret("\(folder)/token")
        let connection = try DirectConnection(port: port)
        var passed: [Double] = []
        for number in 0..<count {
            let order = #"{"image":"ubuntu","name":"\#(prefix)\#(number)","memory_mb":512}"#
            let (answer, time) = try connection.ask(
                HTTPLoad.request("POST", "/api/containers", token: token, body: order))
            passed.append(time.milliseconds)
            guard answer.status == 202 else {
                throw ProgramFailure(.failure, "create: \(String(buffer: answer.body))")
            }
        }
        return passed.sorted()[count / 2]
    }

    /// One of each in turn, on the same disk. Both begin with as many as fill their logs once: a log that grows waits for the
    /// file system, too.
    private func creates(_ port: Int, _ token: String, _ folder: String) async throws {
        let bare = try BareCommits(path: "\(folder)/bare")
        let connection = try DirectConnection(port: port)
        var (commits, accepted): ([Double], [Double]) = ([], [])
        for _ in 0..<600 { _ = try await bare.next() }
        for block in 0..<35 {
            var made: [String] = []
            for number in 0..<20 {
                let commit = try await bare.next()
                let order = #"{"image":"ubuntu","name":"c\#(number)","memory_mb":512}"#
                let request = HTTPLoad.request("POST", "/api/containers", token: token, body: order)
                let (answer, passed) = try connection.ask(request)
                guard answer.status == 202,
                    let id = try JSONCoding.decode(JSONValue.self, from: answer.body)["db_id"]?.text
                else { throw ProgramFailure(.failure, "create: \(String(buffer: answer.body))") }
                made.append(id)
                guard block >= 10 else { continue }
                commits.append(commit)
                accepted.append(passed.milliseconds)
            }
            // As many as one user may have; what a deletion leaves to be done is not measured with the next creation.
            for id in made {
                _ = try connection.ask(HTTPLoad.request("DELETE", "/api/containers/\(id)", token: token))
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        let (commit, create) = (commits.sorted()[commits.count / 2], accepted.sorted()[accepted.count / 2])
        report("create to 202, ms, median of \(accepted.count)", String(format: "%.2f", create))
        report("  one bare SQLite commit with fsync, ms", String(format: "%.2f", commit))
        report("  of the bare commit (goal: at most 2)", String(format: "%.2f", create / commit))
    }

    private static func text(_ value: Double) -> String { String(format: "%.1f", value) }
}

/// Commits of one row each, by the library that the store uses.
private struct BareCommits {
    private let pool: DatabasePool
    private let text = String(repeating: "x", count: 600)

    init(path: String) throws {
        pool = try DatabasePool(path: path)
        try pool.write { try $0.execute(sql: "CREATE TABLE row (id TEXT PRIMARY KEY, body TEXT NOT NULL)") }
        // The pool sets NORMAL on its writer.
        try pool.barrierWriteWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
    }

    /// Milliseconds of one.
    func next() async throws -> Double {
        let id = UUID().uuidString
        let start = ContinuousClock.now
        try await pool.write { try $0.execute(sql: "INSERT INTO row VALUES (?, ?)", arguments: [id, text]) }
        return start.duration(to: .now).milliseconds
    }
}
