import AgentProtocol
import BerthModel
import ControlPlaneCore
import ServiceRuntime
import Testing

@testable import ControlPlane

/// What control planes tell each other, and what listeners of one hear of it.
@Suite struct Notices {
    private func sample(_ id: String, _ microseconds: Int) -> ActivitySample {
        ActivitySample(
            workload: WorkloadID(validated: id), cpuMicroseconds: microseconds, memoryBytes: 0, networkReceivedBytes: 0,
            networkSentBytes: 0, resetID: "r")
    }

    @Test func `of loads the last word of each is passed on, in small notices, and none after the end`() {
        var loads = LatestLoads()
        let isTaken = loads.take(.alive)
        #expect(!isTaken && loads.isEmpty)
        for round in 0..<3 { _ = loads.take(.activity((0..<120).map { sample("w\($0)", round) })) }
        let (one, two) = (AgentID(validated: "a1"), AgentID(validated: "a2"))
        for agent in [one, two] { _ = loads.take(.stats(agent, owner: "u", HostStats())) }
        loads.forget(one)
        loads.forget(WorkloadID(validated: "w7"))
        let notices = loads.drain()
        var samples: [ActivitySample] = []
        for case .activity(let some) in notices {
            #expect(some.count <= 50)
            samples += some
        }
        #expect(samples.count == 119 && samples.allSatisfy { $0.cpuMicroseconds == 2 })
        #expect(notices.count { if case .stats(two, _, _) = $0 { true } else { false } } == 1)
        #expect(notices.count { if case .stats(one, _, _) = $0 { true } else { false } } == 0)
        #expect(loads.isEmpty)
    }

    @Test func `a notice comes through as it was`() throws {
        let presence = AgentPresence(
            agent: AgentID(validated: "a1"), owner: "u", name: "ä \"€", epoch: 7, server: "s")
        for notice: Notice in [
            .alive, .missed, .placementWanted, .event(user: "u", type: "t", data: .object(["a": .array([.null])])),
            .settled(WorkloadID(validated: "w"), generation: 3, isRemoved: true), .activity([sample("w", 1)]),
            .opened(presence, process: "p", entry: .null), .closed(presence.agent, epoch: 7), .revoked(token: "t"),
            .disconnect(presence.agent, .init(code: .stopped, reason: "r", reconnectAfterSeconds: 60)),
            .answered(op: "o", nil),
        ] {
            let envelope = NoticeEnvelope(from: "s", at: 1.5, notice: notice)
            #expect(try JSONCoding.decode(NoticeEnvelope.self, from: try JSONCoding.encodeText(envelope)) == envelope)
        }
        // Of a later version: refused, and no crash.
        for text in [#"{"from":"s","at":1,"notice":{"tomorrow":{}}}"#, "{}", "", "[]"] {
            #expect(throws: (any Error).self) { try JSONCoding.decode(NoticeEnvelope.self, from: text) }
        }
    }

    @Test func `numbers that are counted elsewhere never go back, and nothing is replayed over a gap`() async {
        let hub = EventHub()
        await hub.begin(at: 100)
        for number in [101, 99, 104] {
            await hub.publish("t\(number)", to: "u", .null, .init(number: number, time: 1))
        }
        await hub.heard(103)
        #expect(await hub.lastSequence == 104)
        func replayed(_ after: Int) async -> [String]? {
            let (id, _, isReplayed) = await hub.subscribe(user: "u", after: after)
            let deliveries = await hub.drain(id)
            await hub.unsubscribe(id)
            guard isReplayed else { return nil }
            return deliveries.map { if case .event(let event) = $0 { event.type } else { "other" } }
        }
        #expect(await replayed(100) == ["t101", "t104"])
        #expect(await replayed(103) == ["t104"])
        #expect(await replayed(104) == [])
        for unknown in [99, 0, -1, 105, Int.max] { #expect(await replayed(unknown) == nil, "\(unknown)") }
        // Something may have been missed: whoever is there gets a list, and whoever comes back too.
        let (id, _, _) = await hub.subscribe(user: "u", after: nil)
        await hub.refresh()
        #expect(await hub.drain(id) == [.refreshed])
        #expect(await replayed(104) == nil)
        await hub.publish("later", to: "u", .null, .init(number: 110, time: 1))
        #expect(await replayed(109) == ["later"])
    }

    @Test func `of an agent the newest session counts, in whatever order its end is heard`() {
        let agent = AgentID(validated: "a1")
        func presence(_ epoch: Int, _ server: String) -> AgentPresence {
            AgentPresence(agent: agent, owner: "u", name: "n", epoch: epoch, server: server)
        }
        var presences = AgentPresences()
        let openings = [presence(1, "s1"), presence(2, "s2"), presence(1, "s1")].map { presences.opened($0) }
        #expect(openings == [.connected, .replaced, .outdated])
        #expect(presences.with("s1").isEmpty && presences.with("s2") == [presence(2, "s2")])
        let closings = [1, 2, 2].map { presences.closed(agent, epoch: $0) }
        #expect(closings == [nil, presence(2, "s2"), nil] && presences.all.isEmpty)
    }
}
