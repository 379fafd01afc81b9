/// One-time codes by time (RFC 6238): six digits, thirty seconds, HMAC-SHA-1, as all authenticators make them.
package enum TOTP {
    package static let stepSeconds = 30

    package static func step(at now: Double) -> Int { Int(max(0, now)) / stepSeconds }

    /// The step whose code this is, of the one that `now` is in, the one before and the one after: clocks differ.
    ///
    /// - Parameters:
    ///   - after: only steps later than this: a code is good once.
    ///   - mac: HMAC-SHA-1 of its argument under the user's secret.
    package static func step(
        of code: String, at now: Double, after last: Int, mac: ([UInt8]) -> [UInt8]
    ) -> Int? {
        guard code.utf8.count == 6, code.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { return nil }
        let current = step(at: now)
        var found: Int?
        // All three are computed whatever comes first, so that time tells nothing.
        for step in [current - 1, current, current + 1] where step >= 0 && step > last {
            if equal(self.code(step: step, mac: mac), code) { found = step }
        }
        return found
    }

    package static func code(step: Int, mac: ([UInt8]) -> [UInt8]) -> String {
        let counter = (0..<8).map { UInt8(truncatingIfNeeded: step >> (56 - 8 * $0)) }
        let hash = mac(counter)
        guard let last = hash.last, hash.count >= 20 else { return "" }
        let offset = Int(last & 0xF)
        let number = (0..<4).reduce(0) { $0 << 8 | Int(hash[offset + $1]) } & 0x7FFF_FFFF
        let digits = String(number % 1_000_000)
        return String(repeating: "0", count: 6 - digits.count) + digits
    }

    private static func equal(_ left: String, _ right: String) -> Bool {
        guard left.utf8.count == right.utf8.count else { return false }
        return zip(left.utf8, right.utf8).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    // MARK: the secret as text (RFC 4648, base 32)

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)

    package static func base32(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        var (buffer, bits) = (0, 0)
        for byte in bytes {
            buffer = buffer << 8 | Int(byte)
            bits += 8
            while bits >= 5 {
                bits -= 5
                text.append(alphabet[buffer >> bits & 31])
            }
            buffer &= (1 << bits) - 1
        }
        if bits > 0 { text.append(alphabet[buffer << (5 - bits) & 31]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// Nil where `text` is none.
    package static func bytes(base32 text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var (buffer, bits) = (0, 0)
        for letter in text.utf8 {
            guard let value = alphabet.firstIndex(of: letter) else { return nil }
            buffer = buffer << 5 | value
            bits += 5
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: buffer >> bits))
            }
            buffer &= (1 << bits) - 1
        }
        return bytes
    }
}
