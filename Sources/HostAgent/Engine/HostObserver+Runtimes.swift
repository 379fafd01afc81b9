import AgentCore
import BerthModel
import Logging
import ServiceRuntime

/// What the runtimes of this host can do: probed at the start, after the Engine was away, and again while one of them does
/// not work.
extension HostObserver {
    /// Beside everything else: what runs, and what was found before, is not touched by it.
    func beginProbe(of offered: [String: String]) {
        let isNew = offered.contains { name, engineName in
            !findings.contains { $0.name == name && $0.engineRuntime == engineName }
        }
        let isIncomplete = isNew || !suspects.isEmpty || findings.contains { !$0.works }
        let isDue = probedAt.map { isIncomplete && time.now - $0 >= Self.probeAgainAfter } ?? true
        guard !isProbing, isDue || (isNew && offered != probed) else { return }
        probed = offered
        isProbing = true
        findings.removeAll { offered[$0.name] != $0.engineRuntime }
        probedAt = time.now
        Task {
            self.probeFailure = nil
            do {
                try await probe.run(for: offered) { finding in await self.found(finding) }
            } catch {
                log.warning("runtimes cannot be probed", metadata: ["error": "\(error)"])
                self.probeFailure = String("\(error)".prefix(300))
            }
            self.isProbing = false
            doorbell.ring()
        }
    }

    private func found(_ finding: RuntimeFinding) {
        let before = findings.first { $0.name == finding.name }
        if finding.works {
            brokenTwice.remove(finding.name)
        } else if before?.works == true {
            // Once is no proof: a host that is busy with a start of everything is slow. What was found before stands
            // until the next probe.
            if suspects.insert(finding.name).inserted {
                probedAt = time.now + Milliseconds(5000 - Self.probeAgainAfter.count)
                return
            }
            brokenTwice.insert(finding.name)
        } else if before != nil {
            brokenTwice.insert(finding.name)
        }
        suspects.remove(finding.name)
        guard before != finding else { return }
        log.info(
            "runtime",
            metadata: [
                "name": "\(finding.name)", "engine": "\(finding.engineRuntime)", "works": "\(finding.works)",
                "live_limits": "\(finding.changesLimitsLive)", "disk_limits": "\(finding.enforcesDisk)",
                "problem": "\(finding.problem ?? finding.diskProblem ?? "-")",
            ])
        findings = (findings.filter { $0.name != finding.name } + [finding]).sorted { $0.name < $1.name }
        infoChanged = true
        doorbell.ring()
    }

    func troubles(among offered: [String: String]) -> [String: RuntimeTrouble] {
        var result: [String: RuntimeTrouble] = [:]
        for name in offered.keys {
            let finding = findings.first { $0.name == name }
            if finding?.works == true { continue }
            if let finding {
                let problem = finding.problem ?? "it did not start"
                result[name] = brokenTwice.contains(name) && !isProbing ? .broken(problem) : .notTried(problem)
            } else {
                // Where nothing could be tried at all, that is the reason.
                result[name] = probeFailure.map { .notTried($0) } ?? .underProbe
            }
        }
        return result
    }
}
