import NIOCore
import NIOWebSocket

/// Puts frames together into messages and finds what breaks RFC 6455. A value: frames in, what they mean out.
struct FrameAssembler {
    enum Meaning: Equatable {
        case message(WebSocketMessage)
        case ping(ByteBuffer)
        case pong
        case close(code: UInt16, reason: String)
        /// More frames of the message must come.
        case incomplete
        case violation(WebSocketErrorCode, String)
    }

    let role: WebSocketRole
    let messageBytes: Int
    private var opcode: WebSocketOpcode?
    private var collected = ByteBuffer()

    init(role: WebSocketRole, messageBytes: Int) {
        self.role = role
        self.messageBytes = messageBytes
    }

    mutating func received(_ frame: WebSocketFrame) -> Meaning {
        if frame.rsv1 || frame.rsv2 || frame.rsv3 { return .violation(.protocolError, "reserved bit set") }
        // Section 5.1: a client masks every frame, a server none.
        if (frame.maskKey != nil) != (role == .server) {
            return .violation(.protocolError, role == .server ? "frame without mask" : "masked frame")
        }
        switch frame.opcode {
        case .ping: return control(frame) ?? .ping(frame.unmaskedData)
        case .pong: return control(frame) ?? .pong
        case .connectionClose: return control(frame) ?? closing(frame.unmaskedData)
        case .text, .binary:
            guard opcode == nil else { return .violation(.protocolError, "new message inside a message") }
            opcode = frame.opcode
            return append(frame)
        case .continuation:
            guard opcode != nil else { return .violation(.protocolError, "continuation of nothing") }
            return append(frame)
        default:
            return .violation(.protocolError, "unknown opcode")
        }
    }

    private func control(_ frame: WebSocketFrame) -> Meaning? {
        guard frame.fin else { return .violation(.protocolError, "fragmented control frame") }
        guard frame.length <= 125 else { return .violation(.protocolError, "control frame longer than 125 bytes") }
        return nil
    }

    private func closing(_ body: ByteBuffer) -> Meaning {
        guard body.readableBytes > 0 else { return .close(code: 1005, reason: "") }
        guard let code = body.getInteger(at: body.readerIndex, as: UInt16.self),
            (1000...1014).contains(code) && ![1004, 1005, 1006].contains(code) || (3000...4999).contains(code),
            let reason = String(validating: body.readableBytesView.dropFirst(2), as: UTF8.self)
        else { return .violation(.protocolError, "malformed close frame") }
        return .close(code: code, reason: reason)
    }

    private mutating func append(_ frame: WebSocketFrame) -> Meaning {
        var piece = frame.unmaskedData
        guard collected.readableBytes + piece.readableBytes <= messageBytes else {
            return .violation(.messageTooLarge, "message larger than \(messageBytes) bytes")
        }
        if frame.fin, collected.readableBytes == 0 {
            collected = piece
        } else {
            collected.writeBuffer(&piece)
        }
        guard frame.fin, let opcode else { return .incomplete }
        let whole = collected
        collected = ByteBuffer()
        self.opcode = nil
        guard opcode == .text else { return .message(.binary(whole)) }
        guard let text = String(validating: whole.readableBytesView, as: UTF8.self) else {
            return .violation(.dataInconsistentWithMessage, "text that is not UTF-8")
        }
        return .message(.text(text))
    }
}
