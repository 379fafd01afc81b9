import Glibc

/// Times as RFC 3339 has them, always UTC.
package enum Timestamp {
    /// - Parameters:
    ///   - seconds: since 1970 UTC.
    ///   - fractionDigits: 0 to 9.
    package static func text(seconds: Double, fractionDigits: Int = 6) -> String {
        // Whoever sent the number: only moments that have a date.
        let seconds = seconds.isFinite ? min(max(seconds, -62_135_596_800), 253_402_300_799) : 0
        let unit = pow(10, Double(fractionDigits))
        let scaled = (seconds * unit).rounded(.down)
        var whole = time_t((scaled / unit).rounded(.down))
        let fraction = max(0, Int(scaled - Double(whole) * unit))
        var parts = tm()
        gmtime_r(&whole, &parts)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(32)
        func write(_ number: Int, _ digits: Int, before mark: Unicode.Scalar) {
            var unit = 1
            for _ in 1..<max(digits, 1) { unit *= 10 }
            while unit > 0 {
                bytes.append(UInt8(ascii: "0") + UInt8(number / unit % 10))
                unit /= 10
            }
            bytes.append(UInt8(ascii: mark))
        }
        write(Int(parts.tm_year) + 1900, 4, before: "-")
        write(Int(parts.tm_mon) + 1, 2, before: "-")
        write(Int(parts.tm_mday), 2, before: "T")
        write(Int(parts.tm_hour), 2, before: ":")
        write(Int(parts.tm_min), 2, before: ":")
        write(Int(parts.tm_sec), 2, before: fractionDigits > 0 ? "." : "Z")
        if fractionDigits > 0 { write(fraction, fractionDigits, before: "Z") }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Seconds since 1970 UTC; nil where `text` is not RFC 3339. The Engine's `0001-01-01T00:00:00Z` gives a negative
    /// number: "never".
    package static func seconds(_ text: String) -> Double? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20 else { return nil }
        func number(_ range: Range<Int>) -> Int32? { Int32(String(decoding: bytes[range], as: UTF8.self)) }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), bytes[4] == UInt8(ascii: "-"),
            bytes[10] == UInt8(ascii: "T") || bytes[10] == UInt8(ascii: " ")
        else { return nil }
        var parts = tm()
        parts.tm_year = year - 1900
        parts.tm_mon = month - 1
        parts.tm_mday = day
        parts.tm_hour = hour
        parts.tm_min = minute
        parts.tm_sec = second
        var result = Double(timegm(&parts))
        var index = 19
        if bytes[index] == UInt8(ascii: ".") {
            var unit = 0.1
            index += 1
            while index < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[index]) {
                result += Double(bytes[index] - UInt8(ascii: "0")) * unit
                unit /= 10
                index += 1
            }
        }
        guard index < bytes.count else { return nil }
        if bytes[index] == UInt8(ascii: "Z") { return result }
        guard bytes.count == index + 6, let hours = number(index + 1..<index + 3),
            let minutes = number(index + 4..<index + 6)
        else { return nil }
        let offset = Double(hours * 3600 + minutes * 60)
        return bytes[index] == UInt8(ascii: "-") ? result + offset : result - offset
    }

    /// Seconds since 1970 UTC, now. Wall time: for people, never to decide.
    package static func now() -> Double {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
    }
}
