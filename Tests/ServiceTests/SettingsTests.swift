import AgentCore
import BerthModel
import ControlPlane
import ControlPlaneCore
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
        refusal { _ = try AgentConfiguration.load(file: ("f", text), environment: environment) }
    }

    /// - Parameter settings: of the section `server`, without the braces.
    private func serverProblems(_ settings: String, _ environment: [String: String] = [:]) -> [String] {
        refusal {
            _ = try ServerConfiguration.load(file: ("f", #"{"server":{\#(settings)}}"#), environment: environment)
        }
    }

    private func refusal(_ load: () throws -> Void) -> [String] {
        do {
            try load()
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

    // MARK: images and tiers

    @Test func `images and tiers are the documented ones where nothing is set, and in the example`() throws {
        let usual = try ServerConfiguration.load(file: nil, environment: [:])
        #expect(usual.images == .default && usual.tiers == .default)
        let text = try String(contentsOf: Self.root.appendingPathComponent("config.example.json"), encoding: .utf8)
        let example = try ServerConfiguration.load(file: ("config.example.json", text), environment: [:])
        #expect(example.tiers == .default)
        // What stands in a file has no order.
        #expect(example.images.entries == ImageCatalogue.default.entries.sorted { $0.name < $1.name })
    }

    @Test func `images that are set take the place of the documented ones`() throws {
        let images =
            #"{"base:1":{"description":"Our base","aliases":["b","base"],"reference":"registry.example.com/base:1","architectures":["amd64","aarch64"]},"Alp":{"reference":"alpine"}}"#
        let file = (name: "f", text: #"{"server":{"images":\#(images)}}"#)
        for configuration in [
            try ServerConfiguration.load(file: file, environment: [:]),
            try ServerConfiguration.load(file: nil, environment: ["BERTH_IMAGES": images]),
            try ServerConfiguration.load(
                file: ("f", #"{"server":{"images":{"other":{}}}}"#), environment: ["BERTH_IMAGES": images]),
        ] {
            let catalogue = configuration.images
            #expect(catalogue.supported == ["Alp", "base:1", "custom"])
            #expect(
                catalogue.resolve("b", customImage: nil)
                    == .image(
                        name: "base:1", reference: "registry.example.com/base:1", architectures: ["x86_64", "aarch64"]))
            #expect(
                catalogue.resolve("Alp", customImage: nil)
                    == .image(name: "Alp", reference: "alpine", architectures: []))
            #expect(catalogue.resolve("ubuntu", customImage: nil) == .unsupported)
            #expect(catalogue.entries.map(\.description) == ["", "Our base"])
        }
        let none = try ServerConfiguration.load(file: ("f", #"{"server":{"images":{}}}"#), environment: [:])
        #expect(none.images.supported == ["custom"])
    }

    @Test func `of tiers what is left out is as documented`() throws {
        let configuration = try ServerConfiguration.load(
            file: ("f", #"{"server":{"tiers":{"guest":{"containers":0,"memory_mb":1024},"pro":{}}}}"#),
            environment: ["BERTH_TIERS_GUEST_CPU_MILLICORES": "250", "BERTH_TIERS_FREE_DISK_MB": "16777216"])
        var limits = TierLimits.default
        limits[.guest].containers = 0
        limits[.guest].memoryMB = 1024
        limits[.guest].cpuMillicores = 250
        limits[.free].diskMB = 16_777_216
        #expect(configuration.tiers == limits)
    }

    @Test func `images and tiers that cannot be are refused by key, with value and what is expected`() {
        let wrong: [(String, String)] = [
            (#""images":{"a":{"aliases":["x"]},"b":{"aliases":["x"]}}"#, #"images.b.aliases: found "x""#),
            (#""images":{"a":{"aliases":["x","x"]}}"#, #"images.a.aliases: found "x""#),
            (#""images":{"a":{"aliases":["b"]},"b":{}}"#, #"images.a.aliases: found "b""#),
            (#""images":{"a":{"aliases":["macos"]}}"#, #"images.a.aliases: found "macos""#),
            (#""images":{"a":{"aliases":["a b"]}}"#, #"images.a.aliases: found "a b""#),
            (#""images":{"a":{"aliases":[1]}}"#, "f: images.a.aliases: found 1, expected a list of text"),
            (#""images":{"custom":{}}"#, #"images: found "custom""#),
            (#""images":{"a b":{"reference":"a"}}"#, #"images: found "a b""#),
            (#""images":{"a":{"reference":"../etc"}}"#, #"images.a.reference: found "../etc""#),
            (#""images":{"a":{"reference":""}}"#, "f: images.a.reference: found"),
            (#""images":{"a":{"reference":["a"]}}"#, "f: images.a.reference: found a list"),
            (#""images":{"Big":{}}"#, #"images.Big.reference: found "Big""#),
            (#""images":{"a":{"description":7}}"#, "f: images.a.description: found 7, expected text"),
            (#""images":{"a":{"architectures":"amd64"}}"#, #"f: images.a.architectures: found "amd64""#),
            (#""images":{"a":{"architectures":["x 1"]}}"#, #"f: images.a.architectures: found "x 1""#),
            (
                #""images":{"a":{"referense":"b"}}"#,
                #"f: images.a.referense: found an unknown key, expected perhaps "reference""#
            ),
            (#""images":{"a":"b"}"#, #"f: images.a: found "b", expected an object"#),
            (#""images":["a"]"#, "f: images: found a list, expected an object of objects"),
            (#""images":"{}""#, #"f: images: found "{}", expected an object of objects"#),
            (
                #""tiers":{"guest":{"cpu_millicores":249}}"#,
                "f: tiers.guest.cpu_millicores: found 249, expected a whole number from 250 to 1024000"
            ),
            (
                #""tiers":{"free":{"memory_mb":-1}}"#,
                "f: tiers.free.memory_mb: found -1, expected a whole number from 256 to 1048576"
            ),
            (
                #""tiers":{"pro":{"disk_mb":16777217}}"#,
                "f: tiers.pro.disk_mb: found 16777217, expected a whole number from 1024 to 16777216"
            ),
            (
                #""tiers":{"enterprise":{"containers":100001}}"#,
                "f: tiers.enterprise.containers: found 100001, expected a whole number from 0 to 100000"
            ),
            (#""tiers":{"free":{"containers":1.5}}"#, "f: tiers.free.containers: found 1.5"),
            (#""tiers":{"free":{"containers":"5"}}"#, #"f: tiers.free.containers: found "5""#),
            (#""tiers":{"free":{"containers":99999999999999999999}}"#, "f: tiers.free.containers: found"),
            (#""tiers":{"free":{"memory":512}}"#, "f: tiers.free.memory: found an unknown key"),
            (#""tiers":{"guests":{}}"#, #"f: tiers.guests: found an unknown key, expected perhaps "guest""#),
            (#""tiers":{"free":7}"#, "f: tiers.free: found 7, expected an object"),
            (#""tiers":[]"#, "f: tiers: found a list, expected an object"),
        ]
        for (settings, problem) in wrong {
            let found = serverProblems(settings)
            #expect(found.count == 1 && found.first?.hasPrefix(problem) == true, "\(settings): \(found)")
        }
        let all = wrong.prefix(3).map { $0.1 } + ["images: found \"custom\"", "f: tiers.free.memory_mb: found -1"]
        let found = serverProblems(
            #""images":{"a":{"aliases":["x","x","b"]},"b":{"aliases":["x"]},"custom":{}},"tiers":{"free":{"memory_mb":-1}}"#
        )
        #expect(found.count == 5, "\(found)")
        for problem in all { #expect(found.contains { $0.hasPrefix(problem) }, "\(problem) in \(found)") }
    }

    @Test func `images in the environment are JSON, and named by their variable where they are wrong`() {
        #expect(
            serverProblems("", ["BERTH_IMAGES": "ubuntu=base"])
                == [#"BERTH_IMAGES: found "ubuntu=base", expected an object of objects as JSON text"#])
        #expect(
            serverProblems("", ["BERTH_IMAGES": #"{"a":{"alias":["b"]}}"#])
                == [#"BERTH_IMAGES: a.alias: found an unknown key, expected perhaps "aliases""#])
        #expect(
            serverProblems("", ["BERTH_IMAGES": #"{"a":[]}"#]) == ["BERTH_IMAGES: a: found a list, expected an object"])
        #expect(
            serverProblems("", ["BERTH_TIERS_GUEST_MEMORY_MB": "1"])
                == ["BERTH_TIERS_GUEST_MEMORY_MB: found \"1\", expected a whole number from 256 to 1048576"])
    }

    @Test func `published ports are allowed by number and by range, none unless the owner says so`() throws {
        func ports(_ policy: String, _ environment: [String: String] = [:]) throws -> [ClosedRange<Int>] {
            try AgentConfiguration.load(
                file: ("f", #"{"agent":{\#(good),"policy":\#(policy)}}"#), environment: environment
            ).policy.ports
        }
        #expect(try ports("{}") == [])
        #expect(try ports(#"{"ports":[]}"#) == [])
        #expect(try ports(#"{"ports":["8080","20000-20999"]}"#) == [8080...8080, 20_000...20_999])
        #expect(try ports("{}", ["BERTH_POLICY_PORTS": "53,8080-8081"]) == [53...53, 8080...8081])
        for (value, found) in [
            (#"["8080","0"]"#, #""0""#), (#"["65536"]"#, #""65536""#), (#"["90-80"]"#, #""90-80""#),
            (#"["80-"]"#, #""80-""#), (#"["*"]"#, #""*""#), (#"[""]"#, "\"\""), ("[8080]", "8080"), ("8080", "8080"),
            (#""8080""#, #""8080""#), ("true", "true"), (#"[["80"]]"#, "a list"),
        ] {
            let all = problems(#"{"agent":{\#(good),"policy":{"ports":\#(value)}}}"#)
            #expect(all.count == 1, "\(value): \(all)")
            #expect(
                all.first?.hasPrefix("f: policy.ports: found \(found), expected a list of text, each a port") == true)
        }
        let all = problems(#"{"agent":{\#(good)}}"#, ["BERTH_POLICY_PORTS": "8080,http"])
        #expect(all.first?.hasPrefix(#"BERTH_POLICY_PORTS: found "http", expected"#) == true, "\(all)")
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
