import BerthModel
import ControlPlane
import Foundation
import HostAgent
import ServiceRuntime
import Testing

@Suite struct Settings {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    @Test func `config.example.json is complete and usable by both programs`() throws {
        let text = try String(contentsOf: Self.root.appendingPathComponent("config.example.json"), encoding: .utf8)
        let agent = try AgentConfiguration.load(file: ("config.example.json", text), environment: [:])
        #expect(agent.stateDirectory == AgentConfiguration.defaultStateDirectory)
        let server = try ServerConfiguration.load(file: ("config.example.json", text), environment: [:])
        #expect(server.port == 8080)
        // Complete: every setting that docs/configuration.md lists is in it, and the other way round.
        let page = try String(contentsOf: Self.root.appendingPathComponent("docs/configuration.md"), encoding: .utf8)
        guard case .object(let sections) = try JSONCoding.decode(JSONValue.self, from: text) else {
            Issue.record("not an object")
            return
        }
        for section in ["agent", "server"] {
            guard case .object(let fields)? = sections[section] else {
                Issue.record("\(section) is missing")
                continue
            }
            let start = try #require(page.range(of: "## `\(section)`"))
            let rest = page[start.upperBound...]
            let part = rest.range(of: "\n## ").map { String(rest[..<$0.lowerBound]) } ?? String(rest)
            let documented = Set(
                part.split(separator: "\n").filter { $0.hasPrefix("| `") }.compactMap {
                    $0.split(separator: "`").dropFirst().first
                }.map(String.init))
            #expect(documented == Set(fields.keys), "\(section)")
        }
    }

    @Test func `flags go before the environment, the environment before the file, the file before defaults`() throws {
        let file = (name: "f", text: #"{"server":{"listen":"127.0.0.1:1","heartbeat_seconds":7}}"#)
        func port(_ environment: [String: String], _ flags: [String: String]) throws -> Int {
            try ServerConfiguration.load(file: file, environment: environment, flags: flags).port
        }
        #expect(try port([:], [:]) == 1)
        #expect(try port(["BERTH_LISTEN": "127.0.0.1:2"], [:]) == 2)
        #expect(try port(["BERTH_LISTEN": "127.0.0.1:2"], ["listen": "127.0.0.1:3"]) == 3)
        #expect(try ServerConfiguration.load(file: nil, environment: [:]).port == 8080)
        #expect(
            try ServerConfiguration.load(file: file, environment: ["BERTH_HEARTBEAT_SECONDS": ""]).heartbeatSeconds == 7
        )
    }

    private func problems(_ text: String, _ environment: [String: String] = [:]) -> [String] {
        do {
            _ = try AgentConfiguration.load(file: ("f", text), environment: environment)
            return []
        } catch let refusal as SettingsReader.Refusal {
            return refusal.problems.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }

    private let good = #""server":"https://h","agent_id":"a","token_file":"/t""#

    @Test func `everything that is wrong is said at once`() {
        #expect(problems(#"{"agent":{\#(good)}}"#).isEmpty)
        let all = problems(
            #"{"agent":{"server":5,"agent_id":"A!","token_file":"","relist_seconds":1.5,"tags":"x","runtimes":{"a":1},"log_level":"loud"},"x":1}"#
        )
        #expect(all.count == 8, "\(all)")
        #expect(problems("[]").first?.contains("JSON object") == true)
        #expect(problems("{").first?.contains("not JSON") == true)
        #expect(problems(#"{"agent":7}"#).contains { $0.contains("found 7, expected an object") })
    }

    @Test func `a token does not travel in the clear to another machine`() {
        #expect(
            problems(#"{"agent":{\#(good)}}"#, ["BERTH_SERVER": "http://berth.example.com"]).first?.contains("https://")
                == true)
        #expect(
            problems(#"{"agent":{\#(good),"allow_plaintext":true}}"#, ["BERTH_SERVER": "http://berth.example.com"])
                .isEmpty)
        #expect(problems(#"{"agent":{\#(good)}}"#, ["BERTH_SERVER": "http://127.0.0.1:8080"]).isEmpty)
    }

    @Test func `the units verify`() throws {
        for unit in ["berth-agent.service", "berth-server.service"] {
            let text = try String(contentsOf: Self.root.appendingPathComponent("systemd/\(unit)"), encoding: .utf8)
            for line in [
                "Type=notify", "WatchdogSec=", "Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict",
                "StateDirectory=",
            ] {
                #expect(text.contains("\n\(line)"), "\(unit): \(line)")
            }
        }
    }
}
