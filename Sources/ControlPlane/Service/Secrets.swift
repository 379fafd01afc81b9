import Crypto
import Glibc

/// Identifiers and tokens. Tokens are stored as their hash alone.
package enum Secrets {
    package static let tokenPrefix = "berth_"

    /// `berth_` and 64 hexadecimal digits from the system's random source.
    package static func newToken() -> String { tokenPrefix + hex(random(32)) }

    /// SHA-256, hexadecimal. Tokens have 256 random bits, so a slow hash would add nothing.
    package static func hash(_ token: String) -> String {
        hex(SHA256.hash(data: Array(token.utf8)))
    }

    /// A random UUID, version 4, lower case.
    package static func newUUID() -> String {
        var bytes = random(16)
        bytes[6] = bytes[6] & 0x0f | 0x40
        bytes[8] = bytes[8] & 0x3f | 0x80
        var text: [UInt8] = []
        text.reserveCapacity(36)
        for (index, byte) in bytes.enumerated() {
            if index == 4 || index == 6 || index == 8 || index == 10 { text.append(UInt8(ascii: "-")) }
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    package static func newUserID() -> String { "usr_" + hex(random(8)) }

    /// - Parameter count: a multiple of 8: each number that the system is asked for is a system call.
    private static func random(_ count: Int) -> [UInt8] {
        (0..<count / 8).flatMap { _ in withUnsafeBytes(of: UInt64.random(in: .min ... .max), Array.init) }
    }

    private static let digits = Array("0123456789abcdef".utf8)

    private static func hex(_ bytes: some Sequence<UInt8>) -> String {
        var text: [UInt8] = []
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
