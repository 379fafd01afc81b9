package import NIOCore

/// One whole message, as RFC 6455 section 5.6 has them.
package enum WebSocketMessage: Hashable, Sendable {
    case text(String)
    case binary(ByteBuffer)
}

/// Largest sizes that are accepted; more closes the connection with 1009.
package struct WebSocketLimits: Hashable, Sendable {
    /// Bytes of one frame, 125 to 2³¹.
    package var frameBytes: Int
    /// Bytes of one message, all of its frames together.
    package var messageBytes: Int

    package init(frameBytes: Int = 256 * 1024, messageBytes: Int = 16 * 1024 * 1024) {
        self.frameBytes = frameBytes
        self.messageBytes = messageBytes
    }
}

/// How a connection ended.
package struct WebSocketClosure: Hashable, Sendable {
    package enum Origin: Hashable, Sendable {
        /// The peer sent a close frame.
        case peer
        /// We did.
        case ourselves
        /// No close frame in either direction: the network or a kill.
        case cutOff
        /// Nothing was heard for longer than the silence limit.
        case silence
    }

    package var origin: Origin
    /// 1005 where a close frame named no code, 1006 where there was none.
    package var code: UInt16
    package var reason: String

    package init(origin: Origin, code: UInt16, reason: String = "") {
        self.origin = origin
        self.code = code
        self.reason = reason
    }
}

/// When to ping, and when to give up on a silent peer. Any frame counts as heard.
package struct Keepalive: Hashable, Sendable {
    package var pingEvery: Duration
    package var giveUpAfter: Duration

    package init(pingEvery: Duration, giveUpAfter: Duration) {
        self.pingEvery = pingEvery
        self.giveUpAfter = giveUpAfter
    }
}

package enum WebSocketRole: Hashable, Sendable { case client, server }
