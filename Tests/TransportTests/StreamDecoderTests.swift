import DockerEngine
import NIOCore
import Testing

/// Streams arrive in pieces of any size.
@Suite struct StreamDecoders {
    /// All elements of `bytes`, fed in two parts cut at `cut`.
    private func elements<Decoder: NIOSingleStepByteToMessageDecoder>(
        _ decoder: Decoder, _ bytes: [UInt8], cut: Int
    ) throws -> [Decoder.InboundOut] {
        let processor = NIOSingleStepByteToMessageProcessor(decoder)
        var result: [Decoder.InboundOut] = []
        for part in [bytes[..<cut], bytes[cut...]] {
            try processor.process(buffer: ByteBuffer(bytes: part)) { result.append($0) }
        }
        try processor.finishProcessing(seenEOF: true) { result.append($0) }
        return result
    }

    @Test func `JSON lines, split at every byte`() throws {
        let bytes = Array("{\"a\":1}\r\n\n{\"b\":\"ü\"}\n{\"last\":true}".utf8)
        for cut in 0...bytes.count {
            let lines = try elements(JSONLineDecoder(), bytes, cut: cut).map { String(buffer: $0) }
            #expect(lines == ["{\"a\":1}\r", "{\"b\":\"ü\"}", "{\"last\":true}"], "cut at \(cut)")
        }
    }

    @Test func `JSON lines, byte by byte`() throws {
        let processor = NIOSingleStepByteToMessageProcessor(JSONLineDecoder())
        var lines: [String] = []
        for byte in Array("{\"a\":1}\n{\"b\":2}\n".utf8) {
            try processor.process(buffer: ByteBuffer(bytes: [byte])) { lines.append(String(buffer: $0)) }
        }
        #expect(lines == ["{\"a\":1}", "{\"b\":2}"])
    }

    @Test func `a line without end is an error, not memory`() {
        let processor = NIOSingleStepByteToMessageProcessor(JSONLineDecoder())
        let piece = ByteBuffer(repeating: UInt8(ascii: "x"), count: 100_000)
        #expect(throws: StreamTooLong.self) {
            for _ in 0..<20 { try processor.process(buffer: piece) { _ in } }
        }
    }

    private func frame(_ stream: UInt8, _ text: String) -> [UInt8] {
        [stream, 0, 0, 0, 0, 0, UInt8(text.utf8.count >> 8), UInt8(text.utf8.count & 255)] + Array(text.utf8)
    }

    @Test func `log frames, split at every byte`() throws {
        let bytes = frame(1, "out\n") + frame(2, "") + frame(2, "err ü") + frame(1, String(repeating: "z", count: 300))
        for cut in 0...bytes.count {
            let chunks = try elements(LogFrameDecoder(), bytes, cut: cut)
            #expect(chunks.map(\.stream) == [.standardOutput, .standardError, .standardError, .standardOutput])
            #expect(chunks.map { String(buffer: $0.bytes) }.prefix(3) == ["out\n", "", "err ü"], "cut at \(cut)")
        }
    }

    @Test(arguments: [[UInt8(9), 0, 0, 0, 0, 0, 0, 1, 65], [1, 0, 0, 0, 255, 255, 255, 255]])
    func `frames of unknown streams or absurd length are errors`(bytes: [UInt8]) {
        let processor = NIOSingleStepByteToMessageProcessor(LogFrameDecoder())
        #expect(throws: StreamTooLong.self) { try processor.process(buffer: ByteBuffer(bytes: bytes)) { _ in } }
    }

    @Test(arguments: ["unix:///var/run/docker.sock", "unix:///a"])
    func `endpoints that are one`(text: String) { #expect(EngineEndpoint(text) != nil) }

    @Test(arguments: [
        "", "tcp://1.2.3.4:5", "unix://", "unix://relative", "/var/run/docker.sock",
        "unix:///" + String(repeating: "x", count: 200),
    ])
    func `endpoints that are none`(text: String) { #expect(EngineEndpoint(text) == nil) }
}
