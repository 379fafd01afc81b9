import AgentProtocol
import BerthModel
import Foundation
import Testing

/// The JSON of the agent protocol: what is written, and what becomes of bad input.
@Suite struct Wire {
    private func decode<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }

    private func encode(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    @Test func `every message comes back as it was sent`() throws {
        let status = WorkloadStatus(workload: Sample.id, generation: 2, phase: .running, address: "10.0.0.2", since: 5)
        let fromAgent: [AgentMessage] = [
            .hello(
                .init(
                    agent: AgentID(validated: "a"), process: "p", version: "1", host: .init(),
                    heldRevision: Revision(3), heldDigest: .init(text: "d"))),
            .host(.init(hostname: "h")), .ack(revision: Revision(4)),
            .nack(.init(revision: Revision(4), workload: Sample.id, reason: "r")),
            .status(.init(batch: 1, items: [status])),
            .progress(.init(workload: Sample.id, generation: 1, stage: .pulling, doneBytes: 1, totalBytes: 2)),
            .activity(samples: []), .stats(.init()),
            .removalCandidates(.init(revision: Revision(1), workloads: [Sample.id])),
            .heartbeat(.init(passAgeMilliseconds: 5, engineReachable: true)), .goodbye(reason: "x"),
        ]
        for message in fromAgent { #expect(try decode(AgentMessage.self, encode(message)) == message) }
        let fromControlPlane: [ControlPlaneMessage] = [
            .welcome(.init(epoch: 1, heartbeatSeconds: 15, serverTime: 1)),
            .desiredSnapshot(
                .init(revision: Revision(1), digest: .init(text: "d"), items: [.workload(Sample.desired())])),
            .desiredDelta(.init(appliesTo: Revision(1), resultsIn: Revision(2), digest: .init(text: "d"), items: [])),
            .confirmRemoval(revision: Revision(2)), .statusAck(batch: 4),
            .goodbye(.init(code: .stopped, reason: "r", reconnectAfterSeconds: 60)),
        ]
        for message in fromControlPlane { #expect(try decode(ControlPlaneMessage.self, encode(message)) == message) }
    }

    @Test func `golden text: what other implementations read`() throws {
        #expect(try encode(AgentMessage.ack(revision: Revision(4))) == #"{"data":{"revision":4},"type":"ack"}"#)
        #expect(
            try encode(
                ControlPlaneMessage.desiredDelta(
                    .init(appliesTo: Revision(1), resultsIn: Revision(2), digest: .init(text: "d"), items: [])))
                == #"{"data":{"appliesTo":1,"digest":"d","put":[],"resultsIn":2},"type":"desired_delta"}"#)
        #expect(
            try encode(ControlPlaneMessage.goodbye(.init(code: .stopped, reason: "r", reconnectAfterSeconds: 60)))
                == #"{"data":{"code":"stopped","reason":"r","reconnectAfterSeconds":60},"type":"goodbye"}"#)
    }

    @Test func `unknown types, fields and words are kept apart, not refused`() throws {
        #expect(
            try decode(ControlPlaneMessage.self, #"{"type":"tea_time","data":{"x":1}}"#)
                == .unrecognised(type: "tea_time"))
        #expect(
            try decode(AgentMessage.self, #"{"type":"ack","data":{"revision":4,"more":[1]},"extra":null}"#)
                == .ack(revision: Revision(4)))
        #expect(try decode(WorkloadPhase.self, #""levitating""#) == .unrecognised("levitating"))
        #expect(try decode(ControlPlaneMessage.Goodbye.Code.self, #""later""#) == .unrecognised("later"))
    }

    @Test(arguments: [
        "", "null", "[]", "{}", #"{"type":5}"#, #"{"type":"ack"}"#, #"{"type":"ack","data":{"revision":-1}}"#,
        #"{"type":"ack","data":{"revision":1e99}}"#, #"{"type":"ack","data":{"revision":"4"}}"#,
        #"{"type":"hello","data":{"agent":"../../etc","process":"","version":""}}"#,
        #"{"type":"status","data":{"batch":1,"items":[{"workload":"A B","generation":1}]}}"#,
        #"{"type":"ack","data":{"revision":4}"#,
    ])
    func `bad messages are errors, never crashes`(text: String) {
        #expect(throws: (any Error).self) { try decode(AgentMessage.self, text) }
    }

    @Test func `deeply nested input is an error`() {
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: (any Error).self) { try decode(AgentMessage.self, #"{"type":"activity","data":\#(deep)"#) }
    }

    @Test func `one unreadable item of a snapshot does not take the others with it`() throws {
        let good = try encode(Sample.desired())
        let text =
            #"{"type":"desired_snapshot","data":{"revision":1,"digest":"d","complete":true,"items":[{"id":"w1","generation":"many"},\#(good),7]}}"#
        guard case .desiredSnapshot(let snapshot) = try decode(ControlPlaneMessage.self, text) else {
            Issue.record("expected a snapshot")
            return
        }
        #expect(snapshot.items.count == 3)
        guard case .unreadable(let id, _) = snapshot.items[0] else {
            Issue.record("expected an unreadable item")
            return
        }
        #expect(id == WorkloadID(validated: "w1") && snapshot.items[1] == .workload(Sample.desired()))
    }

    @Test func `a snapshot that is not complete is not taken`() {
        let text = #"{"type":"desired_snapshot","data":{"revision":1,"digest":"d","complete":false,"items":[]}}"#
        #expect(throws: (any Error).self) { try decode(ControlPlaneMessage.self, text) }
    }

    @Test(arguments: ["", "UPPER", "a/b", "a b", "../x", String(repeating: "a", count: 65), "ä", "a\0"])
    func `identifiers are checked at the edge`(text: String) {
        #expect(WorkloadID(text) == nil && AgentID(text) == nil)
    }

    @Test func `specs that an agent must not act on have a problem`() {
        #expect(Sample.desired().problem == nil)
        func problem(_ change: (inout DesiredWorkload) -> Void) -> String? {
            var workload = Sample.desired()
            change(&workload)
            return workload.problem
        }
        #expect(problem { $0.generation = 0 } != nil)
        #expect(problem { $0.spec.name = "a b" } != nil)
        #expect(problem { $0.spec.image = "" } != nil)
        #expect(problem { $0.spec.resources.memoryMB = -1 } != nil)
        #expect(problem { $0.spec.resources.memoryMB = .max } != nil)
        #expect(problem { $0.spec.labels = ["berth.agent": "x"] } != nil)
        #expect(problem { $0.spec.environment = ["A=B": "x"] } != nil)
        #expect(problem { $0.spec.volumes[0].volume = "/etc" } != nil)
        #expect(problem { $0.spec.volumes[0].volume = "berth-22222222-bbbb" } != nil)
        for path in ["", "/", "root", "/a/../b", "/a//b", "/./a", "/a/"] {
            #expect(problem { $0.spec.volumes[0].path = path } != nil, "\(path)")
        }
    }
}
