import AgentCore
import BerthModel
import Simulation
import Testing

/// When a workload is stopped for its idleness: `docs/control-plane.md` has the rules.
@Suite struct IdleDeadlineRules {
    private func deadline(
        _ measured: Double?, timeout: Int? = 300, heldUntil: Double? = nil, sinceChange: Double? = nil,
        wish: DesiredWorkload.Wish = .running
    ) -> IdleDeadline {
        var spec = WorkloadSpec(name: "x", image: "alpine")
        (spec.idleTimeoutSeconds, spec.heldUntil) = (timeout, heldUntil)
        return IdleDeadline(
            DesiredWorkload(id: Sample.id, generation: 1, wish: wish, spec: spec), measured: measured,
            sinceChange: sinceChange, serverTime: 10_000)
    }

    @Test func `idle is what was measured, since the last change, and since it was held`() {
        #expect(deadline(100).idleSeconds == 100 && deadline(100).stopsInSeconds == 200)
        #expect(deadline(400).stopsInSeconds == -100)
        #expect(
            deadline(400, sinceChange: 30).idleSeconds == 30 && deadline(400, sinceChange: 30).stopsInSeconds == 270)
        #expect(deadline(400, heldUntil: 9_990).idleSeconds == 10)
        #expect(deadline(20, heldUntil: 5_000, sinceChange: 500).idleSeconds == 20)
    }

    @Test func `what is held is not idle, and has its whole time after that`() {
        let held = deadline(5_000, heldUntil: 10_060)
        #expect(held.idleSeconds == 0 && held.stopsInSeconds == 360)
        #expect(deadline(5_000, heldUntil: 10_000).stopsInSeconds == 300)
    }

    @Test func `what is not known, not wanted running, or has no timeout is not stopped`() {
        #expect(deadline(nil) == deadline(nil, timeout: nil) && deadline(nil).idleSeconds == nil)
        #expect(deadline(nil, heldUntil: 20_000).stopsInSeconds == nil)
        #expect(deadline(400, timeout: nil).stopsInSeconds == nil && deadline(400, timeout: nil).idleSeconds == 400)
        #expect(deadline(400, wish: .stopped).stopsInSeconds == nil)
    }

    @Test func `a timeout and a lease are checked, and two that differ in them are told apart`() {
        func problem(_ timeout: Int?, _ held: Double?) -> String? {
            WorkloadSpec(name: "x", image: "a", idleTimeoutSeconds: timeout, heldUntil: held).problem
        }
        #expect(problem(120, 0) == nil && problem(31_536_000, 253_402_300_799) == nil && problem(nil, nil) == nil)
        for timeout in [119, 0, -1, 31_536_001, .max] {
            #expect(problem(timeout, nil)?.contains("idle_timeout_seconds") == true)
        }
        for held in [-1, 1e300, .infinity, .nan] { #expect(problem(nil, held)?.contains("keepalive_until") == true) }
        func digest(_ timeout: Int?, _ held: Double?) -> Fingerprint {
            let spec = WorkloadSpec(name: "x", image: "a", idleTimeoutSeconds: timeout, heldUntil: held)
            let workload = DesiredWorkload(id: Sample.id, generation: 1, wish: .running, spec: spec)
            return DesiredState(revision: Revision(1), workloads: [workload]).digest
        }
        #expect(Set([digest(nil, nil), digest(300, nil), digest(nil, 300), digest(300, 300)]).count == 4)
        #expect(
            WorkloadSpec(name: "x", image: "a", idleTimeoutSeconds: 300, heldUntil: 5).fingerprint
                == WorkloadSpec(name: "x", image: "a").fingerprint, "no other container for it")
    }
}
