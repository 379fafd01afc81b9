package import BerthModel

/// What a control plane says to an agent. One JSON object a frame: `{"type": …, "data": {…}}`.
package enum ControlPlaneMessage: Hashable, Sendable {
    case welcome(Welcome)
    case desiredSnapshot(Snapshot)
    case desiredDelta(Delta)
    case confirmRemoval(revision: Revision)
    case statusAck(batch: Int)
    /// The history up to this number is kept.
    case eventAck(upTo: Int)
    /// A question or an order for this moment; answered by `op_result`.
    case command(Command)
    case goodbye(Goodbye)
    /// A type of a newer peer: counted, not refused.
    case unrecognised(type: String)

    package struct Welcome: Hashable, Sendable, Codable {
        /// Raised with every session of an agent; the newest session wins.
        package var epoch: Int
        package var heartbeatSeconds: Int
        /// Seconds since 1970 UTC by the control plane's clock, so that the agent can report a wrong one.
        package var serverTime: Double

        package init(epoch: Int, heartbeatSeconds: Int, serverTime: Double) {
            self.epoch = epoch
            self.heartbeatSeconds = heartbeatSeconds
            self.serverTime = serverTime
        }
    }

    /// The whole desired state. Items are read one by one, so that a bad one is refused alone.
    package struct Snapshot: Hashable, Sendable {
        package var revision: Revision
        package var digest: Fingerprint
        package var items: [DesiredItem]

        package init(revision: Revision, digest: Fingerprint, items: [DesiredItem]) {
            self.revision = revision
            self.digest = digest
            self.items = items
        }
    }

    /// The workloads that changed between two revisions; tombstones are items whose wish is `removed`.
    package struct Delta: Hashable, Sendable {
        package var appliesTo: Revision
        package var resultsIn: Revision
        package var digest: Fingerprint
        package var items: [DesiredItem]

        package init(appliesTo: Revision, resultsIn: Revision, digest: Fingerprint, items: [DesiredItem]) {
            self.appliesTo = appliesTo
            self.resultsIn = resultsIn
            self.digest = digest
            self.items = items
        }
    }

    package struct Command: Hashable, Sendable, Codable {
        package enum Kind: Hashable, Sendable {
            /// Why is this workload as it is, and what becomes of it?
            case explain
            /// Is it due to be stopped for its idleness, at this moment? The stop itself is a change of what is wanted.
            case stopIfIdle
            /// Of a newer peer: refused, by its name.
            case unrecognised(String)
        }

        /// Chosen by the control plane; comes back with the answer.
        package var op: String
        package var kind: Kind
        package var workload: WorkloadID?

        package init(op: String, kind: Kind, workload: WorkloadID?) {
            self.op = op
            self.kind = kind
            self.workload = workload
        }
    }

    package struct Goodbye: Hashable, Sendable, Codable {
        package enum Code: Hashable, Sendable {
            /// A newer session of the same agent took over.
            case replaced
            /// Somebody stopped the agent's session; it may come back after `reconnectAfterSeconds`.
            case stopped
            /// The control plane restarts.
            case draining
            /// The agent was deleted: its token is void, its workloads stay.
            case deleted
            /// The agent broke the protocol.
            case protocolViolation
            case unrecognised(String)
        }

        package var code: Code
        package var reason: String
        package var reconnectAfterSeconds: Int?

        package init(code: Code, reason: String, reconnectAfterSeconds: Int? = nil) {
            self.code = code
            self.reason = reason
            self.reconnectAfterSeconds = reconnectAfterSeconds
        }
    }
}

/// One entry of a snapshot or delta: readable, or not and then with as much of its id as could be read.
package enum DesiredItem: Hashable, Sendable, Codable {
    case workload(DesiredWorkload)
    case unreadable(id: WorkloadID?, problem: String)

    private enum CodingKeys: String, CodingKey { case id }

    package init(from decoder: any Decoder) throws {
        do {
            self = .workload(try DesiredWorkload(from: decoder))
        } catch {
            let id = try? decoder.container(keyedBy: CodingKeys.self).decode(WorkloadID.self, forKey: .id)
            self = .unreadable(id: id, problem: String(String(describing: error).prefix(300)))
        }
    }

    package func encode(to encoder: any Encoder) throws {
        switch self {
        case .workload(let workload): try workload.encode(to: encoder)
        case .unreadable(let id, _):
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encodeIfPresent(id, forKey: .id)
        }
    }
}

extension ControlPlaneMessage: Codable {
    private enum Envelope: String, CodingKey { case type, data }
    private struct RevisionOnly: Codable { var revision: Revision }
    private struct BatchOnly: Codable { var batch: Int }
    private struct NumberOnly: Codable { var number: Int }

    package init(from decoder: any Decoder) throws {
        let envelope = try decoder.container(keyedBy: Envelope.self)
        let type = try envelope.decode(String.self, forKey: .type)
        switch type {
        case "welcome": self = .welcome(try envelope.decode(Welcome.self, forKey: .data))
        case "desired_snapshot": self = .desiredSnapshot(try envelope.decode(Snapshot.self, forKey: .data))
        case "desired_delta": self = .desiredDelta(try envelope.decode(Delta.self, forKey: .data))
        case "confirm_removal":
            self = .confirmRemoval(revision: try envelope.decode(RevisionOnly.self, forKey: .data).revision)
        case "status_ack": self = .statusAck(batch: try envelope.decode(BatchOnly.self, forKey: .data).batch)
        case "event_ack": self = .eventAck(upTo: try envelope.decode(NumberOnly.self, forKey: .data).number)
        case "command": self = .command(try envelope.decode(Command.self, forKey: .data))
        case "goodbye": self = .goodbye(try envelope.decode(Goodbye.self, forKey: .data))
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
        case .welcome(let welcome): try put("welcome", welcome)
        case .desiredSnapshot(let snapshot): try put("desired_snapshot", snapshot)
        case .desiredDelta(let delta): try put("desired_delta", delta)
        case .confirmRemoval(let revision): try put("confirm_removal", RevisionOnly(revision: revision))
        case .statusAck(let batch): try put("status_ack", BatchOnly(batch: batch))
        case .eventAck(let number): try put("event_ack", NumberOnly(number: number))
        case .command(let command): try put("command", command)
        case .goodbye(let goodbye): try put("goodbye", goodbye)
        case .unrecognised(let type): try envelope.encode(type, forKey: .type)
        }
    }
}

extension ControlPlaneMessage.Snapshot: Codable {
    private enum CodingKeys: String, CodingKey { case revision, digest, complete, items }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        guard try container.decode(Bool.self, forKey: .complete) else {
            throw DecodingError.dataCorruptedError(
                forKey: .complete, in: container, debugDescription: "a snapshot that is not complete is not taken")
        }
        self.init(
            revision: try container.decode(Revision.self, forKey: .revision),
            digest: try container.decode(Fingerprint.self, forKey: .digest),
            items: try container.decode([DesiredItem].self, forKey: .items))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(revision, forKey: .revision)
        try container.encode(digest, forKey: .digest)
        try container.encode(true, forKey: .complete)
        try container.encode(items, forKey: .items)
    }
}

extension ControlPlaneMessage.Delta: Codable {
    private enum CodingKeys: String, CodingKey { case appliesTo, resultsIn, digest, put }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            appliesTo: try container.decode(Revision.self, forKey: .appliesTo),
            resultsIn: try container.decode(Revision.self, forKey: .resultsIn),
            digest: try container.decode(Fingerprint.self, forKey: .digest),
            items: try container.decode([DesiredItem].self, forKey: .put))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(appliesTo, forKey: .appliesTo)
        try container.encode(resultsIn, forKey: .resultsIn)
        try container.encode(digest, forKey: .digest)
        try container.encode(items, forKey: .put)
    }
}

extension ControlPlaneMessage.Command.Kind: Codable {
    package init(from decoder: any Decoder) throws {
        let word = try decoder.singleValueContainer().decode(String.self)
        self =
            switch word {
            case "explain": .explain
            case "stop_if_idle": .stopIfIdle
            default: .unrecognised(String(word.prefix(64)))
            }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .explain: try container.encode("explain")
        case .stopIfIdle: try container.encode("stop_if_idle")
        case .unrecognised(let word): try container.encode(word)
        }
    }
}

extension ControlPlaneMessage.Goodbye.Code: Codable {
    private static let words: [(Self, String)] = [
        (.replaced, "replaced"), (.stopped, "stopped"), (.draining, "draining"), (.deleted, "deleted"),
        (.protocolViolation, "protocol"),
    ]

    package var word: String {
        if case .unrecognised(let word) = self { return word }
        return Self.words.first { $0.0 == self }?.1 ?? "protocol"
    }

    package init(from decoder: any Decoder) throws {
        let word = try decoder.singleValueContainer().decode(String.self)
        self = Self.words.first { $0.1 == word }?.0 ?? .unrecognised(word)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(word)
    }
}
