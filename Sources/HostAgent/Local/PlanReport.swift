import AgentCore
package import BerthModel

/// What `berth-agent plan` shows: what would be done now. Nothing is done for showing it.
package struct PlanReport: Codable, Hashable, Sendable {
    package struct Step: Codable, Hashable, Sendable {
        package var workload: String
        package var name: String
        package var action: String
        package var reason: String
        package var isUnderWay: Bool

        private enum CodingKeys: String, CodingKey {
            case workload, name, action, reason
            case isUnderWay = "is_under_way"
        }
    }

    package struct Waiting: Codable, Hashable, Sendable {
        package var workload: String
        package var name: String
        package var phase: String
        package var reason: String
    }

    package var steps: [Step]
    /// Workloads that are not as wanted and for which nothing can be done now.
    package var waiting: [Waiting]
    /// Containers with this agent's labels whose workload is not in the desired state: left as they are.
    package var orphans: [String]
    /// How many workloads are as wanted.
    package var settled: Int
    /// Why nothing can be said: the Engine has not answered yet.
    package var problem: String?

    package var text: String {
        if let problem { return problem }
        var lines = steps.map {
            "\($0.isUnderWay ? "now " : "next")  \($0.name)  \($0.action)  (\($0.reason))  \($0.workload)"
        }
        lines += waiting.map { "wait  \($0.name)  \($0.phase)  (\($0.reason))  \($0.workload)" }
        lines += orphans.map { "leave \($0.prefix(12))  its workload is not in the desired state" }
        if steps.isEmpty { lines.append("nothing to do") }
        lines.append("\(settled) workloads are as wanted")
        return lines.joined(separator: "\n")
    }
}

/// A local answer that is none.
package struct LocalRefusal: Codable, Hashable, Sendable {
    package var error: String
}

extension ReconcileLoop {
    package var planReport: PlanReport {
        guard let plan = planned else {
            return PlanReport(
                steps: [], waiting: [], orphans: [], settled: 0,
                problem: "the Engine has not been seen yet\(lastPassFailure.map { ": \($0)" } ?? "")")
        }
        return PlanReport(plan, underWay: memory.inFlight.values.sorted { $0.workload < $1.workload }, held.state)
    }

    package var lastPassMicroseconds: Int { Int(lastPassTook / .microseconds(1)) }

    /// By id, by the beginning of an id of at least four characters, or by name. Nil where none or several fit.
    package func find(_ text: String) -> WorkloadID? {
        let all = held.state.workloads
        if let id = WorkloadID(text), all[id] != nil { return id }
        let named = all.values.filter { $0.spec.name == text }.map(\.id)
        if named.count == 1 { return named[0] }
        guard text.utf8.count >= 4 else { return nil }
        let beginning = all.keys.filter { $0.text.hasPrefix(text) }
        return beginning.count == 1 ? beginning[0] : nil
    }
}

extension PlanReport {
    init(_ plan: Plan, underWay: [AgentCore.Step], _ desired: DesiredState) {
        func shown(_ step: AgentCore.Step, isUnderWay: Bool) -> Step {
            Step(
                workload: step.workload.text, name: desired.workloads[step.workload]?.spec.name ?? "",
                action: step.action.summary, reason: step.reason, isUnderWay: isUnderWay)
        }
        let steps = underWay.map { shown($0, isUnderWay: true) } + plan.steps.map { shown($0, isUnderWay: false) }
        let busy = Set(steps.map(\.workload))
        let unsettled = plan.statuses.filter {
            $0.observedGeneration < $0.generation && !busy.contains($0.workload.text)
        }
        self.init(
            steps: steps,
            waiting: unsettled.map {
                Waiting(
                    workload: $0.workload.text, name: desired.workloads[$0.workload]?.spec.name ?? "",
                    phase: $0.phase.word,
                    reason: [$0.reason, $0.message].compactMap { $0 }.joined(separator: ": "))
            }, orphans: plan.orphans.map(\.text),
            settled: plan.statuses.count(where: {
                $0.observedGeneration == $0.generation && !busy.contains($0.workload.text)
            }))
    }
}
