/// One message of rtnetlink(7): a header, a fixed part, attributes. Written in the machine's byte order, as the kernel
/// reads it.
struct RouteMessage {
    /// `RTM_…` of linux/rtnetlink.h.
    enum Kind: UInt16 {
        case newLink = 16, deleteLink = 17, getLink = 18
        case newQueue = 36, deleteQueue = 37, getQueue = 38
        case newFilter = 44
        case newNamespaceID = 88, getNamespaceID = 90
    }

    /// `NLM_F_…` of linux/netlink.h.
    struct Flags: OptionSet {
        let rawValue: UInt16
        static let request = Flags(rawValue: 0x1), acknowledge = Flags(rawValue: 0x4)
        static let dump = Flags(rawValue: 0x300)
        static let replace = Flags(rawValue: 0x100), exclusive = Flags(rawValue: 0x200)
        static let create = Flags(rawValue: 0x400)
    }

    static let headerSize = 16
    let kind: Kind
    let flags: Flags
    private(set) var body: [UInt8] = []

    init(_ kind: Kind, _ flags: Flags) {
        self.kind = kind
        self.flags = flags.union(.request)
    }

    mutating func append(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number) { body.append(contentsOf: $0) }
    }

    mutating func attribute(_ type: UInt16, _ content: (inout RouteMessage) -> Void) {
        let start = body.count
        append(UInt16(0))
        append(type)
        content(&self)
        let length = UInt16(truncatingIfNeeded: body.count - start)
        withUnsafeBytes(of: length) { body.replaceSubrange(start..<(start + 2), with: $0) }
        while body.count % 4 != 0 { body.append(0) }
    }

    mutating func attribute(_ type: UInt16, _ number: some FixedWidthInteger) { attribute(type) { $0.append(number) } }

    mutating func attribute(_ type: UInt16, _ text: String) {
        attribute(type) { $0.body.append(contentsOf: Array(text.utf8) + [0]) }
    }

    func encoded(sequence: UInt32) -> [UInt8] {
        var header = RouteMessage(kind, flags)
        header.append(UInt32(Self.headerSize + body.count))
        header.append(kind.rawValue)
        header.append(flags.rawValue)
        header.append(sequence)
        header.append(UInt32(0))
        return header.body + body
    }
}

/// Bytes of an answer. What is not there reads as nothing: the kernel is trusted, other versions of it are expected.
struct RouteBytes {
    let bytes: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    func number<Number: FixedWidthInteger>(at offset: Int, as: Number.Type = Number.self) -> Number? {
        let start = bytes.startIndex + offset
        guard offset >= 0, start + MemoryLayout<Number>.size <= bytes.endIndex else { return nil }
        return bytes[start...].withUnsafeBytes { $0.loadUnaligned(as: Number.self) }
    }

    /// Up to the first zero.
    var text: String { String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }

    /// Attributes that follow a fixed part of `size` bytes.
    func attributes(after size: Int) -> [UInt16: RouteBytes] {
        var result: [UInt16: RouteBytes] = [:]
        var offset = size
        while let length = number(at: offset, as: UInt16.self), let type = number(at: offset + 2, as: UInt16.self),
            length >= 4, offset + Int(length) <= bytes.count
        {
            let start = bytes.startIndex + offset
            // The upper two bits are flags.
            result[type & 0x3FFF] = RouteBytes(bytes[(start + 4)..<(start + Int(length))])
            offset += (Int(length) + 3) & ~3
        }
        return result
    }
}
