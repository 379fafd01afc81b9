import ControlPlaneCore
import Crypto
import Testing

/// Codes against the tables of RFC 6238 and RFC 4648.
@Suite struct TOTPCodes {
    private func mac(_ secret: [UInt8]) -> ([UInt8]) -> [UInt8] {
        { Array(HMAC<Insecure.SHA1>.authenticationCode(for: $0, using: SymmetricKey(data: secret))) }
    }

    @Test(arguments: [
        (59.0, "287082"), (1_111_111_109, "081804"), (1_111_111_111, "050471"), (1_234_567_890, "005924"),
        (2_000_000_000, "279037"), (20_000_000_000, "353130"),
    ])
    func `the codes of RFC 6238`(time: Double, code: String) {
        let mac = mac(Array("12345678901234567890".utf8))
        #expect(TOTP.code(step: TOTP.step(at: time), mac: mac) == code)
        #expect(TOTP.step(of: code, at: time, after: 0, mac: mac) == TOTP.step(at: time))
        // A clock may be half a minute off, and no more.
        for seconds in [-30.0, 30] { #expect(TOTP.step(of: code, at: time + seconds, after: 0, mac: mac) != nil) }
        for seconds in [-90.0, 90] where time + seconds > 0 {
            #expect(TOTP.step(of: code, at: time + seconds, after: 0, mac: mac) == nil)
        }
        #expect(TOTP.step(of: code, at: time, after: TOTP.step(at: time), mac: mac) == nil, "good once")
    }

    @Test func `what is no code`() {
        let mac = mac([1, 2, 3])
        for code in ["", "12345", "1234567", "12345a", "１２３４５６", " 12345", "-12345"] {
            #expect(TOTP.step(of: code, at: 1000, after: -1, mac: mac) == nil)
        }
        #expect(TOTP.code(step: 1) { _ in [] } == "")
    }

    @Test(arguments: [
        ("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("fooba", "MZXW6YTB"),
        ("foobar", "MZXW6YTBOI"),
    ])
    func `base 32`(plain: String, coded: String) {
        #expect(TOTP.base32(Array(plain.utf8)) == coded)
        #expect(TOTP.bytes(base32: coded) == Array(plain.utf8))
        #expect(TOTP.bytes(base32: "a1") == nil)
    }
}
