import AgentCore
import ArgumentParser
import BerthModel
import HostAgent
import NIOPosix
import ProgramEntry
import ServiceRuntime

/// Asks the agent that runs here.
struct LocalQuestion {
    let config: ConfigOption

    func ask<Answer: Decodable>(_ request: String, as type: Answer.Type) async throws -> Answer {
        let directory = AgentConfiguration.stateDirectory(
            file: try config.read(), environment: ProgramEnvironment.variables())
        let answer = try await LocalSocket.ask(
            request, path: LocalSocket.path(stateDirectory: directory), group: .singletonMultiThreadedEventLoopGroup)
        if let refusal = try? JSONCoding.decode(LocalRefusal.self, from: answer) {
            throw ProgramFailure(.failure, refusal.error)
        }
        return try JSONCoding.decode(type, from: answer)
    }
}

struct PlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Shows what the agent would do now, and what it waits for. Changes nothing.")

    @OptionGroup var config: ConfigOption
    @Flag(help: "Print the plan as JSON.")
    var json = false

    func run() async throws {
        let plan = try await LocalQuestion(config: config).ask("plan", as: PlanReport.self)
        ProgramEnvironment.printLine(json ? try JSONCoding.encodePretty(plan) : plan.text)
    }
}

struct Explain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says why a workload is as it is, and what happens next and when.",
        discussion: "WORKLOAD is its id, the beginning of its id, or its name, as `berth-agent status` shows them.")

    @Argument(help: "The workload.")
    var workload: String
    @OptionGroup var config: ConfigOption
    @Flag(help: "Print the answer as JSON.")
    var json = false

    func run() async throws {
        let found = try await LocalQuestion(config: config).ask("explain \(workload)", as: WorkloadExplanation.self)
        ProgramEnvironment.printLine(json ? try JSONCoding.encodePretty(found) : found.text)
    }
}

struct History: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what was done on this host and why, newest first.")

    @Argument(help: "Only of this workload: its id, the beginning of its id, or its name.")
    var workload: String?
    @OptionGroup var config: ConfigOption
    @Flag(help: "Print the records as JSON.")
    var json = false

    func run() async throws {
        let records = try await LocalQuestion(config: config)
            .ask(["history", workload].compactMap { $0 }.joined(separator: " "), as: [ActionRecord].self)
        ProgramEnvironment.printLine(
            json ? try JSONCoding.encodePretty(records) : records.map(\.line).joined(separator: "\n"))
    }
}

extension ActionRecord {
    var line: String {
        let outcome = result == .succeeded || result == .observed ? "" : "  \(result.rawValue)"
        let time = milliseconds > 0 ? "  \(milliseconds) ms" : ""
        return "\(Timestamp.text(seconds: at))  \(workload.text.prefix(13))  \(action)  (\(reason))\(time)\(outcome)"
            + (error.map { "\n    \($0)" } ?? "")
    }
}

extension WorkloadExplanation {
    /// For people.
    var text: String {
        var lines = [
            "\(name) (\(workload))",
            "wanted     \(wanted), \(image), generation \(generation); carried out: \(observedGeneration)",
            "state      \(phase)\([reason, message].compactMap { $0 }.reduce("") { "\($0), \($1)" })",
        ]
        for container in containers {
            let layer = container.writableLayerMB.map { ", \($0) MiB outside volumes" } ?? ""
            lines.append(
                "container  \(container.name)  \(container.state)  generation \(container.generation)"
                    + "\(container.isWanted ? "" : ", of another spec")\(layer)  \(container.id.prefix(12))")
        }
        for drift in drifts { lines.append("differs    \(drift.what): wanted \(drift.wanted), found \(drift.found)") }
        if let underWay { lines.append("now        \(underWay.action)  (\(underWay.reason))") }
        if let next { lines.append("next       \(next.action)  (\(next.reason))") }
        if let retryInMilliseconds { lines.append("next       tried again in \(Self.span(retryInMilliseconds))") }
        if underWay == nil, next == nil, retryInMilliseconds == nil {
            lines.append("next       \(nextLookInMilliseconds.map { "a look in \(Self.span($0))" } ?? "nothing")")
        }
        if failuresInARow > 0 {
            lines.append("failures   \(failuresInARow) in a row; \(lastFailure ?? "its main process ended")")
        }
        lines += history.map { "did        \($0.line)" }
        return lines.joined(separator: "\n")
    }

    private static func span(_ milliseconds: Int) -> String {
        milliseconds < 10_000 ? "\(milliseconds / 1000).\(milliseconds % 1000 / 100) s" : "\(milliseconds / 1000) s"
    }
}

struct CollectImages: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc",
        abstract: "Removes images that the agent pulled and nothing uses any more.",
        discussion: """
            Never what a container is made of, what is wanted, or what somebody else pulled. The agent does the same by \
            itself where the Engine's disk is fuller than collect_images_above_percent.
            """)

    @Flag(help: "Only show what would be removed.")
    var dryRun = false
    @OptionGroup var config: ConfigOption
    @Flag(help: "Print the answer as JSON.")
    var json = false

    func run() async throws {
        let report = try await LocalQuestion(config: config).ask(
            dryRun ? "gc dry-run" : "gc", as: CollectionReport.self)
        ProgramEnvironment.printLine(json ? try JSONCoding.encodePretty(report) : report.text)
    }
}
