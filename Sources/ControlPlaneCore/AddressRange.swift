/// A range of IP addresses, such as `10.0.0.0/8`, `fd00::/8` or one address.
package struct AddressRange: Hashable, Sendable {
    private let bytes: [UInt8]
    private let bits: Int

    /// Nil where `text` is none. Host names are none: an answer of a name server must not decide whom to trust.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let bytes = Self.bytes(String(parts[0])) else { return nil }
        self.bytes = bytes
        guard parts.count == 2 else {
            bits = bytes.count * 8
            return
        }
        guard let bits = Int(parts[1]), (0...(bytes.count * 8)).contains(bits) else { return nil }
        self.bits = bits
    }

    package func contains(_ address: String) -> Bool {
        guard let other = Self.bytes(address), other.count == bytes.count else { return false }
        for index in 0..<bits where (bytes[index / 8] ^ other[index / 8]) & (0x80 >> UInt8(index % 8)) != 0 {
            return false
        }
        return true
    }

    /// Who a request came from: the nearest address that is no trusted proxy's.
    ///
    /// - Parameters:
    ///   - peer: the other end of the connection.
    ///   - forwarded: values of `X-Forwarded-For` in their order; each proxy appends the address that it saw.
    package static func client(peer: String, forwarded: [String], trusted: [AddressRange]) -> String {
        var client = peer
        let hops = forwarded.joined(separator: ",").split(separator: ",").map { String($0.filter { $0 != " " }) }
        for hop in hops.reversed() {
            guard trusted.contains(where: { $0.contains(client) }), bytes(hop) != nil else { break }
            client = hop
        }
        return client
    }

    /// What is counted as one: an IPv6 customer has a /64 and more, whose addresses cost them nothing.
    package static func counted(_ address: String) -> String {
        guard let bytes = bytes(address), bytes.count == 16 else { return address }
        return bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: ":") + "::/64"
    }

    // MARK: reading

    /// Four bytes, or sixteen; an IPv4 address inside an IPv6 one counts as the former.
    static func bytes(_ text: String) -> [UInt8]? {
        guard text.utf8.count <= 45 else { return nil }
        guard text.contains(":") else { return four(text) }
        guard let sixteen = sixteen(text) else { return nil }
        let isMapped = sixteen.prefix(10).allSatisfy { $0 == 0 } && sixteen[10] == 0xFF && sixteen[11] == 0xFF
        return isMapped ? Array(sixteen.suffix(4)) : sixteen
    }

    private static func four(_ text: some StringProtocol) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        let bytes = parts.compactMap { part in
            part.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } && part.utf8.count <= 3
                ? UInt8(part) : nil
        }
        return bytes.count == 4 ? bytes : nil
    }

    private static func sixteen(_ text: String) -> [UInt8]? {
        let halves = Self.halves(text)
        guard let head = groups(halves.head) else { return nil }
        guard let tailText = halves.tail else { return head.count == 16 ? head : nil }
        guard let tail = groups(tailText), head.count + tail.count <= 14 else { return nil }
        return head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
    }

    /// Around the one `::`.
    private static func halves(_ text: String) -> (head: String, tail: String?) {
        guard let middle = text.firstRange(of: "::") else { return (text, nil) }
        return (String(text[..<middle.lowerBound]), String(text[middle.upperBound...]))
    }

    private static func groups(_ text: String) -> [UInt8]? {
        if text.isEmpty { return [] }
        var bytes: [UInt8] = []
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        for (index, part) in parts.enumerated() {
            if index == parts.count - 1, part.contains(".") {
                guard let last = four(part) else { return nil }
                bytes += last
                continue
            }
            guard (1...4).contains(part.utf8.count), part.allSatisfy(\.isHexDigit), let group = UInt16(part, radix: 16)
            else { return nil }
            bytes += [UInt8(group >> 8), UInt8(group & 0xFF)]
        }
        return bytes
    }
}
