package import NIOCore

/// Splits a stream of JSON objects, one a line, as pulls and events send them. A line is handed over without its end;
/// blank lines are dropped.
package struct JSONLineDecoder: NIOSingleStepByteToMessageDecoder {
    package typealias InboundOut = ByteBuffer

    /// Bytes of the longest line that is accepted; a longer one is an error.
    package static let longestLine = 1024 * 1024

    /// Bytes at the front of the buffer that are known to hold no line end.
    private var scanned = 0

    package init() {}

    package mutating func decode(buffer: inout ByteBuffer) throws -> ByteBuffer? {
        while let end = buffer.readableBytesView.dropFirst(scanned).firstIndex(of: UInt8(ascii: "\n")) {
            let length = end - buffer.readerIndex
            scanned = 0
            guard length <= Self.longestLine else { throw StreamTooLong() }
            guard let line = buffer.readSlice(length: length) else { return nil }
            buffer.moveReaderIndex(forwardBy: 1)
            if !line.isBlank { return line }
        }
        scanned = buffer.readableBytes
        guard scanned <= Self.longestLine else { throw StreamTooLong() }
        return nil
    }

    package mutating func decodeLast(buffer: inout ByteBuffer, seenEOF: Bool) throws -> ByteBuffer? {
        if let line = try decode(buffer: &buffer) { return line }
        scanned = 0
        guard let rest = buffer.readSlice(length: buffer.readableBytes), !rest.isBlank else { return nil }
        return rest
    }
}

/// A line or frame that is longer than its limit.
package struct StreamTooLong: Error {}

extension ByteBuffer {
    fileprivate var isBlank: Bool {
        readableBytesView.allSatisfy { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\t") }
    }
}
