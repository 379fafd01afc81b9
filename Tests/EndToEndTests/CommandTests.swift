import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// What the programs say to people and scripts.
@Suite struct Commands {
    private func agent(_ arguments: [String], _ environment: [String: String] = [:]) async throws -> (
        status: Int32, output: String
    ) {
        try await RunningProgram.run(try TestEnvironment.binary("berth-agent"), arguments, environment: environment)
    }

    private func server(_ arguments: [String], _ environment: [String: String] = [:]) async throws -> (
        status: Int32, output: String
    ) {
        try await RunningProgram.run(try TestEnvironment.binary("berth-server"), arguments, environment: environment)
    }

    @Test func `help says every command and every exit code`() async throws {
        let agentHelp = try await agent(["--help"])
        #expect(agentHelp.status == 0)
        for word in [
            "register", "run", "status", "plan", "explain", "history", "check-config", "BERTH_STATE_DIRECTORY", "78",
            "75",
        ] {
            #expect(agentHelp.output.contains(word), "\(word)")
        }
        let serverHelp = try await server(["--help"])
        #expect(serverHelp.status == 0)
        for word in ["serve", "user", "token", "BERTH_DATABASE", "78"] {
            #expect(serverHelp.output.contains(word), "\(word)")
        }
        for flag in ["--config", "--listen", "--database", "--admin-token-file"] {
            #expect(try await server(["serve", "--help"]).output.contains(flag))
        }
        for flag in ["--server", "--token-file", "--name", "--tags", "--config"] {
            #expect(try await agent(["register", "--help"]).output.contains(flag))
        }
    }

    @Test func `a wrong flag is a usage error`() async throws {
        #expect(try await agent(["run", "--nonsense"]).status == 2)
        #expect(try await server(["user", "create", "--name", "x", "--tier", "gold"]).status == 2)
    }

    @Test func `an unusable configuration is refused as a whole, naming key, value and what is expected`() async throws
    {
        let folder = try TemporaryFolder()
        let path = folder.file("agent.json")
        try #"{"agent":{"server":"ftp://x","agnet_id":"a","relist_seconds":1,"engine":"tcp://1"}}"#
            .write(toFile: path, atomically: true, encoding: .utf8)
        let result = try await agent(["run", "--config", path])
        #expect(result.status == 78)
        for part in [
            "server: found \"ftp://x\"", "agnet_id: found an unknown key, expected perhaps \"agent_id\"",
            "relist_seconds: found 1, expected a whole number from 5 to 3600", "engine: found \"tcp://1\"",
            "token_file",
        ] {
            #expect(result.output.contains(part), "\(part) in \(result.output)")
        }
        #expect(try await agent(["run", "--config", folder.file("none.json")]).status == 78)
        try "not json".write(toFile: path, atomically: true, encoding: .utf8)
        #expect(try await agent(["check-config", "--config", path]).status == 78)
        let listen = try await server(["serve", "--listen", "nowhere", "--database", "mysql://x"])
        #expect(listen.status == 78)
        #expect(listen.output.contains("--listen") && listen.output.contains("--database"), "\(listen.output)")
    }

    @Test func `status without an agent says what to do`() async throws {
        let folder = try TemporaryFolder()
        let result = try await agent(["status", "--json"], ["BERTH_STATE_DIRECTORY": folder.path])
        #expect(result.status == 69)
        #expect(result.output.contains("berth-agent run"), "\(result.output)")
    }

    @Test func `a second agent on the same state directory exits with 75 and the first goes on`() async throws {
        let folder = try TemporaryFolder()
        let environment = [
            "BERTH_STATE_DIRECTORY": folder.file("state"), "BERTH_SERVER": "http://127.0.0.1:1", "BERTH_AGENT_ID": "a",
            "BERTH_TOKEN_FILE": "/none", "BERTH_ENGINE": "unix:///none.sock",
        ]
        let first = try RunningProgram(
            try TestEnvironment.binary("berth-agent"), ["run"], environment: environment, output: folder.file("log"))
        try await untilTrue("the first answers") { try await agent(["status", "--json"], environment).status == 0 }
        let second = try await agent(["run"], environment)
        #expect(second.status == 75)
        #expect(second.output.contains("pid \(first.pid)"), "\(second.output)")
        let report = try await agent(["status"], environment)
        #expect(report.status == 0 && report.output.contains("not reachable"), "\(report.output)")
        #expect(try await first.terminate() == 0)
    }

    @Test func `the service manager hears of readiness, life and end`() async throws {
        let folder = try TemporaryFolder()
        let inbox = try NotifySocket(folder.file("notify"))
        let environment = [
            "BERTH_STATE_DIRECTORY": folder.file("state"), "BERTH_SERVER": "http://127.0.0.1:1", "BERTH_AGENT_ID": "a",
            "BERTH_TOKEN_FILE": "/none", "BERTH_ENGINE": "unix:///none.sock", "NOTIFY_SOCKET": inbox.path,
            "WATCHDOG_USEC": "200000",
        ]
        let program = try RunningProgram(
            try TestEnvironment.binary("berth-agent"), ["run"], environment: environment, output: folder.file("log"))
        // Neither Engine nor control plane answers: the agent is ready and alive all the same.
        try await untilTrue("ready") { inbox.heard("READY=1") }
        try await untilTrue("alive, several times") { inbox.count("WATCHDOG=1") >= 3 }
        #expect(try await program.terminate() == 0)
        #expect(inbox.heard("STOPPING=1"))
    }

    @Test func `users and tokens can be made while the server runs`() async throws {
        let controlPlane = try await TestControlPlane()
        let user = try await server(
            ["user", "create", "--name", "ann", "--tier", "pro", "--json"] + controlPlane.databaseFlag)
        #expect(user.status == 0, "\(user.output)")
        #expect(try JSONCoding.decode(JSONValue.self, from: user.output)["tier"]?.text == "pro")
        #expect(try await server(["user", "create", "--name", "ann"] + controlPlane.databaseFlag).status == 1)
        let token = try await server(
            ["token", "create", "--user", "ann", "--scopes", "read,write", "--json"] + controlPlane.databaseFlag)
        #expect(token.status == 0, "\(token.output)")
        let text = try #require(try JSONCoding.decode(JSONValue.self, from: token.output)["token"]?.text)
        let client = APIClient(port: await controlPlane.port, token: text)
        let validated = try await client.call(.GET, "/api/tokens/validate")
        #expect(validated.text("username") == "ann" && validated.text("tier") == "pro", "\(validated)")
        #expect(try await client.call(.POST, "/api/agents/register", #"{"name":"x"}"#).status == 403)
        try await controlPlane.stop()
    }

    @Test func `a backup of a server that runs is a database to go on with`() async throws {
        let controlPlane = try await TestControlPlane()
        let client = await controlPlane.client()
        let server = try TestEnvironment.binary("berth-server")
        let copy = controlPlane.folder.file("copy.sqlite")
        func run(_ arguments: [String], database: String? = nil) async throws -> (status: Int32, output: String) {
            let flag = database.map { ["--database", "sqlite:\($0)"] } ?? controlPlane.databaseFlag
            return try await RunningProgram.run(server, arguments + flag)
        }
        _ = try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"before"}"#)
        let made = try await run(["backup", copy])
        #expect(made.status == 0, "\(made.output)")
        #expect(try FileManager.default.attributesOfItem(atPath: copy)[.posixPermissions] as? Int == 0o600)
        _ = try await client.call(.POST, "/api/containers", #"{"image":"alpine","name":"after"}"#)
        #expect(try await run(["backup", copy]).status == 1, "nothing is overwritten")
        #expect(try await run(["backup", controlPlane.folder.file("no/folder")]).status == 1)
        #expect(try await run(["backup", copy + "2"], database: copy + ".none").status == 1)
        let migrated = try await run(["migrate"], database: copy)
        #expect(migrated.status == 0 && migrated.output.contains("up to date"), "\(migrated.output)")

        // The token of before is one of the copy's, and so is what there was before.
        let restored = try RunningProgram(
            server, ["serve", "--listen", "127.0.0.1:0", "--database", "sqlite:" + copy],
            output: controlPlane.folder.file("restored.log"))
        let port = try await eventually("it listens", within: 20) { () -> Int? in
            let line = restored.output.split(separator: "\n").first { $0.contains("control plane listening") }
            return line.flatMap { $0.split(separator: ":").last }.flatMap { Int($0.prefix { $0.isNumber }) }
        }
        let names = try await APIClient(port: port, token: client.token).entries().compactMap { $0["name"]?.text }
        #expect(names == ["before"])
        #expect(try await restored.terminate() == 0)
        try await controlPlane.stop()
    }

    @Test func `a command makes no database, and brings none up to date under a server`() async throws {
        let folder = try TemporaryFolder()
        let nowhere = folder.file("typo")
        for arguments in [["user", "create", "--name", "x"], ["user", "list"], ["token", "list", "--user", "x"]] {
            let result = try await server(arguments + ["--database", "sqlite:\(nowhere)"])
            #expect(result.status == 1 && result.output.contains("there is no database \(nowhere)"), "\(result)")
        }
        #expect(!FileManager.default.fileExists(atPath: nowhere))
        // A database of before all steps.
        let old = folder.file("old")
        #expect(FileManager.default.createFile(atPath: old, contents: nil))
        let list = try await server(["user", "list", "--database", "sqlite:\(old)"])
        #expect(list.status == 1 && list.output.contains("berth-server migrate"), "\(list)")
        let migrated = try await server(["migrate", "--json", "--database", "sqlite:\(old)"])
        let fields = try JSONCoding.decode(JSONValue.self, from: migrated.output)
        #expect(migrated.status == 0 && fields["steps"] != nil, "\(migrated)")
        #expect(try await server(["user", "list", "--database", "sqlite:\(old)"]).status == 0)
    }

    @Test func `check-config finds what serve would end with`() async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("server.json")
        func check(_ settings: String) async throws -> (status: Int32, output: String) {
            try settings.write(toFile: path, atomically: true, encoding: .utf8)
            return try await server(["check-config", "--config", path])
        }
        let database = #""database":"sqlite:\#(folder.file("db"))""#
        #expect(try await check(#"{"server":{\#(database)}}"#).status == 0)
        let missing = try await check(
            #"{"server":{\#(database),"tls_certificate":"/none.crt","tls_key":"/none.key"}}"#)
        #expect(missing.status == 78 && missing.output.contains("/none.crt"), "\(missing)")
        #expect(try await check(#"{"server":{"listne":"x"}}"#).status == 78)
        #expect(!FileManager.default.fileExists(atPath: folder.file("db")), "it only looks")
    }

    @Test func `tokens and tiers are changed while the server runs`() async throws {
        let controlPlane = try await TestControlPlane()
        let server = try TestEnvironment.binary("berth-server")
        func run(_ arguments: String...) async throws -> (status: Int32, output: String) {
            try await RunningProgram.run(server, arguments + controlPlane.databaseFlag)
        }
        #expect(try await run("user", "create", "--name", "ada").status == 0)
        let made = try await run("token", "create", "--user", "ada", "--json")
        let fields = try JSONCoding.decode(JSONValue.self, from: made.output)
        let ada = APIClient(port: await controlPlane.port, token: try #require(fields["token"]?.text))
        #expect(try await ada.call(.GET, "/api/containers").body["limit"] == .integer(5))
        #expect(try await run("user", "set-tier", "--name", "ada", "--tier", "pro").status == 0)
        #expect(try await ada.call(.GET, "/api/containers").body["limit"] == .integer(10))
        #expect(try await run("user", "set-tier", "--name", "ada", "--tier", "gold").status == 2)
        #expect(try await run("user", "set-tier", "--name", "bob", "--tier", "pro").status == 1)
        #expect(try await run("user", "list").output.contains("ada"))
        #expect(try await run("user", "reset-mfa", "--name", "ada").status == 0)
        #expect(try await run("user", "reset-mfa", "--name", "bob").status == 1)
        let id = try #require(fields["id"]?.text)
        #expect(try await run("token", "list", "--user", "ada").output.contains(id))
        #expect(try await run("token", "revoke", "--user", "admin", id).status == 1, "not theirs")
        #expect(try await run("token", "revoke", "--user", "ada", id).status == 0)
        #expect(try await ada.call(.GET, "/api/containers").status == 401)
        #expect(try await run("token", "revoke", "--user", "ada", id).status == 1, "void already")
        try await controlPlane.stop()
    }

    @Test func `a token file that cannot be written leaves nothing half done`() async throws {
        let folder = try TemporaryFolder()
        let arguments = [
            "serve", "--listen", "127.0.0.1:0", "--database", "sqlite:\(folder.file("db"))", "--admin-token-file",
        ]
        let result = try await server(arguments + ["/proc/nowhere/token"])
        #expect(result.status == 77 && result.output.contains("/proc/nowhere/token"), "\(result)")
        let again = try RunningProgram(
            try TestEnvironment.binary("berth-server"), arguments + [folder.file("token")], output: folder.file("log"))
        try await untilTrue("the token is there") { folder.text("token").hasPrefix("berth_") }
        #expect(try await again.terminate() == 0)
    }

    @Test func `the first admin token is written once, readable by its owner alone`() async throws {
        let controlPlane = try await TestControlPlane()
        let file = controlPlane.folder.file("admin-token")
        let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        let first = controlPlane.folder.text("admin-token")
        try await controlPlane.stop()
        try await controlPlane.start()
        #expect(controlPlane.folder.text("admin-token") == first)
        #expect(try await controlPlane.client().call(.GET, "/api/profile").status == 200)
        let agent = try await TestAgent(controlPlane, name: "x", engine: "unix:///none.sock")
        for path in [agent.configPath, agent.configPath + ".token"] {
            #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        }
        try await controlPlane.stop()
    }
}

/// What systemd would hear.
private final class NotifySocket {
    let path: String
    private let handle: Int32
    private var messages: [String] = []

    init(_ path: String) throws {
        self.path = path
        handle = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(handle, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0)
    }

    deinit { close(handle) }

    func count(_ word: String) -> Int {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let size = recv(handle, &buffer, buffer.count, 0)
            guard size > 0 else { break }
            messages.append(String(decoding: buffer[0..<size], as: UTF8.self))
        }
        return messages.count { $0.contains(word) }
    }

    func heard(_ word: String) -> Bool { count(word) > 0 }
}
