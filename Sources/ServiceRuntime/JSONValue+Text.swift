extension JSONValue {
    /// As JSON, in the bytes that `JSONCoding` gives: keys in order, slashes as they are. Answers and events are made of
    /// nothing else, and an encoder of any `Encodable` takes ten times as long for them.
    ///
    /// A number that JSON does not have (infinite, not a number) is `null`.
    package var json: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(512)
        write(to: &bytes)
        return bytes
    }

    /// `json` as text.
    package var jsonText: String { String(decoding: json, as: UTF8.self) }

    func write(to bytes: inout [UInt8]) {
        switch self {
        case .null: bytes.append(contentsOf: "null".utf8)
        case .bool(let value): JSONText.write(value, to: &bytes)
        case .integer(let value): JSONText.write(value, to: &bytes)
        case .number(let value): JSONText.write(value, to: &bytes)
        case .string(let value): JSONText.write(value, to: &bytes)
        case .array(let values):
            bytes.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let fields):
            bytes.append(UInt8(ascii: "{"))
            for (index, field) in fields.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                JSONText.write(field.key, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                field.value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

}

/// Single values, as they stand in a text of JSON.
enum JSONText {
    static func write(_ bool: Bool, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: (bool ? "true" : "false").utf8)
    }

    static func write(_ number: Int, to bytes: inout [UInt8]) { bytes.append(contentsOf: String(number).utf8) }

    /// A number that JSON does not have (infinite, not a number) is `null`.
    static func write(_ number: Double, to bytes: inout [UInt8]) {
        guard number.isFinite else { return bytes.append(contentsOf: "null".utf8) }
        let text = number.description
        bytes.append(contentsOf: (text.hasSuffix(".0") ? text.dropLast(2) : text[...]).utf8)
    }

    /// RFC 8259, section 7: quotes, backslashes and control characters are escaped, and nothing else.
    static func write(_ text: String, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        defer { bytes.append(UInt8(ascii: "\"")) }
        var text = text
        text.withUTF8 { escape($0, to: &bytes) }
    }

    private static func escape(_ text: UnsafeBufferPointer<UInt8>, to bytes: inout [UInt8]) {
        guard text.contains(where: { $0 < 0x20 || $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") }) else {
            return bytes.append(contentsOf: text)
        }
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x08: bytes.append(contentsOf: #"\b"#.utf8)
            case 0x09: bytes.append(contentsOf: #"\t"#.utf8)
            case 0x0A: bytes.append(contentsOf: #"\n"#.utf8)
            case 0x0C: bytes.append(contentsOf: #"\f"#.utf8)
            case 0x0D: bytes.append(contentsOf: #"\r"#.utf8)
            case ..<0x20:
                let digits = String(byte, radix: 16)
                bytes.append(contentsOf: ((digits.count == 1 ? #"\u000"# : #"\u00"#) + digits).utf8)
            default: bytes.append(byte)
            }
        }
    }
}
