import NIOCore
import NIOHTTP1

extension DockerEngine {
    /// Runs an answer's body through `decoder` and hands each element over, one after the other: a slow taker slows the
    /// Engine, not the memory. Returns when the Engine ends the answer in order.
    func stream<Decoder: NIOSingleStepByteToMessageDecoder & Sendable>(
        _ request: EngineConnection.Request, _ decoder: Decoder, onHead: (@Sendable () async -> Void)? = nil,
        take: @escaping @Sendable (Decoder.InboundOut) async throws -> Void
    ) async throws where Decoder.InboundOut: Sendable {
        try await connection.exchange(request) { head, parts in
            guard (200..<300).contains(Int(head.status.code)) else {
                let body = try await Self.collect(&parts, upTo: 64 * 1024, request)
                try Self.check(head, body, request)
                return
            }
            await onHead?()
            let processor = NIOSingleStepByteToMessageProcessor(decoder)
            while let part = try await parts.next() {
                switch part {
                case .head: continue
                case .body(let bytes):
                    var elements: [Decoder.InboundOut] = []
                    try Self.reading(request) { try processor.process(buffer: bytes) { elements.append($0) } }
                    try await Self.hand(elements, to: take)
                case .end:
                    var elements: [Decoder.InboundOut] = []
                    try Self.reading(request) { try processor.finishProcessing(seenEOF: true) { elements.append($0) } }
                    try await Self.hand(elements, to: take)
                    return
                }
            }
            try Task.checkCancellation()
            throw EngineError(kind: .cutOff, call: request.call, object: request.object, message: "inside the stream")
        }
    }

    private static func hand<Element>(_ elements: [Element], to take: (Element) async throws -> Void) async throws {
        for element in elements {
            do {
                try await take(element)
            } catch {
                throw TakerFailure(cause: error)
            }
        }
    }

    private static func reading(_ request: EngineConnection.Request, _ body: () throws -> Void) throws {
        do {
            try body()
        } catch {
            throw EngineError(
                kind: .malformed, call: request.call, object: request.object, message: String(describing: error))
        }
    }
}
