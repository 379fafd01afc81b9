import FoundationEssentials
import NIOCore

/// The `{"message": …}` of an answer that is not a success.
enum EngineMessage {
    private struct Body: Decodable { var message: String }

    static func text(of buffer: ByteBuffer) -> String {
        let bytes = Data(buffer.readableBytesView)
        if let body = try? JSONDecoder().decode(Body.self, from: bytes) { return body.message }
        return String(decoding: bytes.prefix(500), as: UTF8.self)
    }
}
