/// Names and limits of the protocol between agent and control plane. `docs/protocol.md` says how they are used.
package enum ProtocolLimits {
    /// The WebSocket subprotocol of this version.
    package static let subprotocol = "berth.agent.v1"
    /// How that of every version begins.
    package static let subprotocolFamily = "berth.agent."
    /// Largest WebSocket frame in bytes; a larger one closes with 1009.
    package static let frameBytes = 256 * 1024
    /// Largest message in bytes; a larger one closes with 1009.
    package static let messageBytes = 16 * 1024 * 1024
    /// Most items in one `status` message.
    package static let statusBatch = 200
    /// Samples of one `activity` that are looked at.
    package static let samples = 2000
    /// Most items in one `events` message.
    package static let eventBatch = 100
    /// Least milliseconds between two `progress` messages of one workload.
    package static let progressIntervalMilliseconds = 250
}

/// Close codes of this protocol beside those of RFC 6455.
package enum ProtocolCloseCode {
    /// A message that the peer could not read at all.
    package static let malformed: UInt16 = 4400
    /// The peer broke the order of messages.
    package static let outOfOrder: UInt16 = 4409
}
