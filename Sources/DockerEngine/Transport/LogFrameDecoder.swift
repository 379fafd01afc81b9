package import NIOCore

/// One piece of a container's output.
package struct OutputChunk: Hashable, Sendable {
    package enum Stream: UInt8, Hashable, Sendable { case standardInput, standardOutput, standardError }
    package var stream: Stream
    package var bytes: ByteBuffer

    package init(stream: Stream, bytes: ByteBuffer) {
        self.stream = stream
        self.bytes = bytes
    }
}

/// Splits the multiplexed output of a container without a TTY: 8 bytes of header (stream, three zeros, length in big
/// endian), then the payload. https://docs.docker.com/engine/api/v1.41/#operation/ContainerAttach
package struct LogFrameDecoder: NIOSingleStepByteToMessageDecoder {
    package typealias InboundOut = OutputChunk

    /// Bytes of the longest frame that is accepted.
    package static let longestFrame = 16 * 1024 * 1024

    package init() {}

    package mutating func decode(buffer: inout ByteBuffer) throws -> OutputChunk? {
        guard let kind = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self),
            let length = buffer.getInteger(at: buffer.readerIndex + 4, as: UInt32.self)
        else { return nil }
        guard let stream = OutputChunk.Stream(rawValue: kind), length <= Self.longestFrame else {
            throw StreamTooLong()
        }
        guard buffer.readableBytes >= 8 + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: 8)
        guard let bytes = buffer.readSlice(length: Int(length)) else { return nil }
        return OutputChunk(stream: stream, bytes: bytes)
    }

    package mutating func decodeLast(buffer: inout ByteBuffer, seenEOF: Bool) throws -> OutputChunk? {
        try decode(buffer: &buffer)
    }
}
