/// Reads a stranger's JSON: RFC 8259 in UTF-8, no deeper than a person would nest, with one value per key. Other parsers take
/// the first or the last of two values, and two programs that differ in that read two things in one text; checked beside such
/// a parser, the text would be read twice, by two notions of it.
package struct JSONParser {
    package static let deepest = 64

    package enum Problem: Error, Hashable, CustomStringConvertible {
        case notUTF8
        case tooDeep
        case duplicateKey(String)
        /// - Parameter offset: in bytes, of what is not JSON.
        case notJSON(offset: Int)

        package var description: String {
            switch self {
            case .notUTF8: "the body is not valid UTF-8"
            case .tooDeep: "the body is nested more than \(JSONParser.deepest) deep"
            case .duplicateKey(let key): "the body has the key \"\(key.prefix(80))\" twice in one object"
            case .notJSON(let offset): "the body is not JSON from byte \(offset) on"
            }
        }
    }

    private let bytes: UnsafeRawBufferPointer
    private var index = 0
    private var depth = 0

    /// - Throws: `Problem`, the first one.
    package static func value(_ bytes: UnsafeRawBufferPointer) throws(Problem) -> JSONValue {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8 }
        var parser = JSONParser(bytes: bytes)
        // A mark of the byte order says nothing in UTF-8, and some programs write it.
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { parser.index = 3 }
        let value = try parser.value()
        parser.skipBlanks()
        guard parser.index == bytes.count else { throw parser.notJSON }
        return value
    }

    private init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    private var notJSON: Problem { .notJSON(offset: index) }

    /// Nil at the end.
    private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private mutating func skipBlanks() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        index += 1
        return true
    }

    private mutating func value() throws(Problem) -> JSONValue {
        skipBlanks()
        guard let next else { throw notJSON }
        switch next {
        case UInt8(ascii: "{"): return .object(try object())
        case UInt8(ascii: "["): return .array(try array())
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: throw notJSON
        }
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(Problem) -> JSONValue {
        for offset in 0..<word.utf8CodeUnitCount where !take(word.utf8Start[offset]) { throw notJSON }
        return value
    }

    private mutating func open() throws(Problem) {
        index += 1
        depth += 1
        guard depth <= Self.deepest else { throw .tooDeep }
        skipBlanks()
    }

    private mutating func object() throws(Problem) -> [String: JSONValue] {
        try open()
        defer { depth -= 1 }
        var fields: [String: JSONValue] = [:]
        if take(UInt8(ascii: "}")) { return fields }
        while true {
            skipBlanks()
            guard next == UInt8(ascii: "\"") else { throw notJSON }
            let key = try string()
            skipBlanks()
            guard take(UInt8(ascii: ":")) else { throw notJSON }
            guard fields.updateValue(try value(), forKey: key) == nil else { throw .duplicateKey(key) }
            skipBlanks()
            if take(UInt8(ascii: "}")) { return fields }
            guard take(UInt8(ascii: ",")) else { throw notJSON }
        }
    }

    private mutating func array() throws(Problem) -> [JSONValue] {
        try open()
        defer { depth -= 1 }
        var values: [JSONValue] = []
        if take(UInt8(ascii: "]")) { return values }
        while true {
            values.append(try value())
            skipBlanks()
            if take(UInt8(ascii: "]")) { return values }
            guard take(UInt8(ascii: ",")) else { throw notJSON }
        }
    }

    // MARK: numbers

    private mutating func number() throws(Problem) -> JSONValue {
        let start = index
        _ = take(UInt8(ascii: "-"))
        // No zero before another digit.
        if !take(UInt8(ascii: "0")) { try digits() }
        var isWhole = true
        if take(UInt8(ascii: ".")) {
            isWhole = false
            try digits()
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            isWhole = false
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        let text = String(decoding: bytes[start..<index], as: UTF8.self)
        if isWhole, let whole = Int(text) { return .integer(whole) }
        guard let number = Double(text), number.isFinite else { throw .notJSON(offset: start) }
        // `512.0` and `5.12e2` are whole numbers, too; beyond 2^53 nobody knows which one was meant.
        guard number.magnitude < 0x1p53, let whole = Int(exactly: number) else { return .number(number) }
        return .integer(whole)
    }

    private mutating func digits() throws(Problem) {
        let start = index
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { index += 1 }
        guard index > start else { throw notJSON }
    }

    // MARK: text

    private mutating func string() throws(Problem) -> String {
        index += 1
        let start = index
        while let byte = next, byte != UInt8(ascii: "\"") {
            guard byte >= 0x20 else { throw notJSON }
            if byte == UInt8(ascii: "\\") { return try escapedString(from: start) }
            index += 1
        }
        let text = String(decoding: bytes[start..<index], as: UTF8.self)
        guard take(UInt8(ascii: "\"")) else { throw notJSON }
        return text
    }

    /// - Parameter start: behind the opening quote; everything up to the index stands for itself.
    private mutating func escapedString(from start: Int) throws(Problem) -> String {
        var text = Array(bytes[start..<index])
        while let byte = next {
            guard byte >= 0x20 else { throw notJSON }
            index += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): try escape(into: &text)
            default: text.append(byte)
            }
        }
        throw notJSON
    }

    private mutating func escape(into text: inout [UInt8]) throws(Problem) {
        guard let byte = next else { throw notJSON }
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var code = try codeUnit()
            if (0xD800..<0xDC00).contains(code) {
                guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else { throw notJSON }
                let low = try codeUnit()
                guard (0xDC00..<0xE000).contains(low) else { throw notJSON }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            // Nil for half of a pair.
            guard let scalar = Unicode.Scalar(code) else { throw notJSON }
            text.append(contentsOf: String(scalar).utf8)
        default:
            index -= 1
            throw notJSON
        }
    }

    private mutating func codeUnit() throws(Problem) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { throw notJSON }
            code = code << 4 | UInt32(digit)
            index += 1
        }
        return code
    }
}
