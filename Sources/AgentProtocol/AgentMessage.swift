package import BerthModel

/// What an agent says to its control plane. One JSON object a frame: `{"type": …, "data": {…}}`.
package enum AgentMessage: Hashable, Sendable {
    case hello(Hello)
    /// The host is no longer what `hello` said: its Engine came, went or changed.
    case host(HostDescription)
    /// The desired state of this revision is on disk.
    case ack(revision: Revision)
    /// One item, or a whole message where `workload` is nil, was refused; the rest was taken.
    case nack(Nack)
    case status(StatusBatch)
    case progress(WorkloadProgress)
    case activity(samples: [ActivitySample])
    case stats(HostStats)
    case removalCandidates(RemovalCandidates)
    /// Part of the history; sent until `event_ack`.
    case events(Events)
    /// The answer to a command.
    case opResult(OpResult)
    case heartbeat(Heartbeat)
    case goodbye(reason: String)
    /// A type of a newer peer: counted, not refused.
    case unrecognised(type: String)

    /// The first message of every session.
    package struct Hello: Hashable, Sendable, Codable {
        package var agent: AgentID
        /// Random per process start: tells a restart from a second copy.
        package var process: String
        package var version: String
        package var host: HostDescription
        package var heldRevision: Revision
        package var heldDigest: Fingerprint

        package init(
            agent: AgentID, process: String, version: String, host: HostDescription, heldRevision: Revision,
            heldDigest: Fingerprint
        ) {
            self.agent = agent
            self.process = process
            self.version = version
            self.host = host
            self.heldRevision = heldRevision
            self.heldDigest = heldDigest
        }
    }

    package struct Nack: Hashable, Sendable, Codable {
        package var revision: Revision
        package var workload: WorkloadID?
        package var reason: String

        package init(revision: Revision, workload: WorkloadID?, reason: String) {
            self.revision = revision
            self.workload = workload
            self.reason = reason
        }
    }

    package struct StatusBatch: Hashable, Sendable, Codable {
        /// Counts up within one session; acknowledged by `status_ack`.
        package var batch: Int
        package var items: [WorkloadStatus]

        package init(batch: Int, items: [WorkloadStatus]) {
            self.batch = batch
            self.items = items
        }
    }

    /// A snapshot that would remove so many running workloads that it is held until confirmed.
    package struct RemovalCandidates: Hashable, Sendable, Codable {
        package var revision: Revision
        package var workloads: [WorkloadID]

        package init(revision: Revision, workloads: [WorkloadID]) {
            self.revision = revision
            self.workloads = workloads
        }
    }

    package struct Events: Hashable, Sendable, Codable {
        /// In the order of their numbers.
        package var items: [ActionRecord]
        /// How many had no room since the agent started.
        package var dropped: Int

        package init(items: [ActionRecord], dropped: Int) {
            self.items = items
            self.dropped = dropped
        }
    }

    package struct OpResult: Hashable, Sendable, Codable {
        /// The command's own id.
        package var op: String
        package var ok: Bool
        /// Why not, where it is not ok.
        package var error: String?
        /// A JSON document as text: what was asked for.
        package var answer: String?

        package init(op: String, ok: Bool, error: String? = nil, answer: String? = nil) {
            self.op = op
            self.ok = ok
            self.error = error
            self.answer = answer
        }
    }

    package struct Heartbeat: Hashable, Sendable, Codable {
        /// Milliseconds since the last completed pass.
        package var passAgeMilliseconds: Int?
        /// False where the Engine did not answer the last pass.
        package var engineReachable: Bool

        package init(passAgeMilliseconds: Int?, engineReachable: Bool) {
            self.passAgeMilliseconds = passAgeMilliseconds
            self.engineReachable = engineReachable
        }
    }
}

extension AgentMessage: Codable {
    private enum Envelope: String, CodingKey { case type, data }
    private struct Ack: Codable { var revision: Revision }
    private struct Activity: Codable { var samples: [ActivitySample] }
    private struct Goodbye: Codable { var reason: String }

    package init(from decoder: any Decoder) throws {
        let envelope = try decoder.container(keyedBy: Envelope.self)
        let type = try envelope.decode(String.self, forKey: .type)
        switch type {
        case "hello": self = .hello(try envelope.decode(Hello.self, forKey: .data))
        case "host": self = .host(try envelope.decode(HostDescription.self, forKey: .data))
        case "ack": self = .ack(revision: try envelope.decode(Ack.self, forKey: .data).revision)
        case "nack": self = .nack(try envelope.decode(Nack.self, forKey: .data))
        case "status": self = .status(try envelope.decode(StatusBatch.self, forKey: .data))
        case "progress": self = .progress(try envelope.decode(WorkloadProgress.self, forKey: .data))
        case "activity": self = .activity(samples: try envelope.decode(Activity.self, forKey: .data).samples)
        case "stats": self = .stats(try envelope.decode(HostStats.self, forKey: .data))
        case "removal_candidates":
            self = .removalCandidates(try envelope.decode(RemovalCandidates.self, forKey: .data))
        case "heartbeat": self = .heartbeat(try envelope.decode(Heartbeat.self, forKey: .data))
        case "events": self = .events(try envelope.decode(Events.self, forKey: .data))
        case "op_result": self = .opResult(try envelope.decode(OpResult.self, forKey: .data))
        case "goodbye": self = .goodbye(reason: try envelope.decode(Goodbye.self, forKey: .data).reason)
        default: self = .unrecognised(type: String(type.prefix(64)))
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var envelope = encoder.container(keyedBy: Envelope.self)
        func put(_ type: String, _ data: some Encodable) throws {
            try envelope.encode(type, forKey: .type)
            try envelope.encode(data, forKey: .data)
        }
        switch self {
        case .hello(let hello): try put("hello", hello)
        case .host(let host): try put("host", host)
        case .ack(let revision): try put("ack", Ack(revision: revision))
        case .nack(let nack): try put("nack", nack)
        case .status(let batch): try put("status", batch)
        case .progress(let progress): try put("progress", progress)
        case .activity(let samples): try put("activity", Activity(samples: samples))
        case .stats(let stats): try put("stats", stats)
        case .removalCandidates(let candidates): try put("removal_candidates", candidates)
        case .heartbeat(let heartbeat): try put("heartbeat", heartbeat)
        case .events(let events): try put("events", events)
        case .opResult(let result): try put("op_result", result)
        case .goodbye(let reason): try put("goodbye", Goodbye(reason: reason))
        case .unrecognised(let type): try envelope.encode(type, forKey: .type)
        }
    }
}
