import Crypto
import Glibc

/// Identifiers and tokens. Tokens are stored as their hash alone.
package enum Secrets {
    package static let tokenPrefix = "berth_"

    /// `berth_` and 64 hexadecimal digits from the system's random source.
    package static func newToken() -> String { tokenPrefix + hex(32) }

    /// SHA-256, hexadecimal. Tokens have 256 random bits, so a slow hash would add nothing.
    package static func hash(_ token: String) -> String {
        SHA256.hash(data: Array(token.utf8)).map { byte in
            let text = String(byte, radix: 16)
            return text.count == 1 ? "0" + text : text
        }.joined()
    }

    /// A random UUID, version 4, lower case.
    package static func newUUID() -> String {
        var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
        bytes[6] = bytes[6] & 0x0f | 0x40
        bytes[8] = bytes[8] & 0x3f | 0x80
        let digits = Array(bytes.map(digits).joined())
        return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(digits[$0]) }.joined(separator: "-")
    }

    package static func newUserID() -> String { "usr_" + hex(8) }

    private static func hex(_ count: Int) -> String {
        var random = SystemRandomNumberGenerator()
        return (0..<count).map { _ in digits(UInt8.random(in: .min ... .max, using: &random)) }.joined()
    }

    private static func digits(_ byte: UInt8) -> String {
        let text = String(byte, radix: 16)
        return text.count == 1 ? "0" + text : text
    }
}
