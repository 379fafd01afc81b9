import NIOCore

/// Of a server, as far as a measurement needs it.
struct HTTPAnswer: Sendable {
    var status: Int
    /// Of the body.
    var bytes: Int
    var body: ByteBuffer

    /// Nil, and nothing taken, while it is not there as a whole. The head is searched for what is needed, the body counted.
    init?(takenFrom received: inout ByteBuffer) {
        let view = received.readableBytesView
        guard let end = Self.endOfHead(view) else { return nil }
        let head = String(decoding: view[view.startIndex..<end], as: UTF8.self)
        let length =
            head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("content-length:") }
            .flatMap { Int($0.split(separator: ":")[1].drop { $0 == " " }) } ?? 0
        let headBytes = end - view.startIndex
        guard received.readableBytes >= headBytes + length else { return nil }
        received.moveReaderIndex(forwardBy: headBytes)
        body = received.readSlice(length: length) ?? ByteBuffer()
        received.clear()
        status = Int(head.split(separator: " ", maxSplits: 2)[1]) ?? 0
        bytes = length
    }

    /// Behind the empty line.
    private static func endOfHead(_ view: ByteBufferView) -> Int? {
        var index = view.startIndex
        while let line = view[index...].firstIndex(of: UInt8(ascii: "\n")) {
            if line == index + 1 { return line + 1 }
            index = line + 1
        }
        return nil
    }
}
