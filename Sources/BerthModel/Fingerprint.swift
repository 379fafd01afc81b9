/// A 64-bit fingerprint (FNV-1a) that tells two values apart by accident-proof, not attacker-proof, comparison.
///
/// It answers "is this the spec that the container was made from?" and "do we hold the same desired state?". Whoever can
/// choose a spec gains nothing from a collision but an update that is not applied to their own workload.
package struct Fingerprint: Hashable, Sendable, Codable, CustomStringConvertible {
    /// 16 lower-case hexadecimal digits.
    package let text: String
    package var description: String { text }

    package init(text: String) { self.text = text }

    package init(from decoder: any Decoder) throws {
        text = try decoder.singleValueContainer().decode(String.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }

    /// Feeds fields in a fixed order; each is followed by its length, so that ("ab", "c") differs from ("a", "bc").
    package struct Hasher {
        private var state: UInt64 = 0xcbf2_9ce4_8422_2325
        package init() {}

        package mutating func combine(_ text: String) {
            for byte in text.utf8 { mix(byte) }
            combine(text.utf8.count)
        }

        package mutating func combine(_ number: Int) {
            var rest = UInt64(bitPattern: Int64(number))
            for _ in 0..<8 {
                mix(UInt8(truncatingIfNeeded: rest))
                rest >>= 8
            }
        }

        package mutating func combine(_ number: Int?) {
            combine(number == nil ? 0 : 1)
            combine(number ?? 0)
        }

        /// Keys are taken in order, so that equal dictionaries give equal fingerprints.
        package mutating func combine(_ pairs: [String: String]) {
            combine(pairs.count)
            for key in pairs.keys.sorted() {
                combine(key)
                combine(pairs[key] ?? "")
            }
        }

        package mutating func combine(_ list: [String]) {
            combine(list.count)
            for item in list { combine(item) }
        }

        package func finalize() -> Fingerprint {
            let digits = String(state, radix: 16)
            return Fingerprint(text: String(repeating: "0", count: 16 - digits.count) + digits)
        }

        private mutating func mix(_ byte: UInt8) {
            state = (state ^ UInt64(byte)) &* 0x100_0000_01b3
        }
    }
}
