import ServiceRuntime
import Simulation
import Testing

/// JSON of strangers: what is read, and what is refused.
@Suite struct JSONParserTests {
    private func parse(_ bytes: [UInt8]) throws(JSONParser.Problem) -> JSONValue {
        do {
            return try bytes.withUnsafeBytes { try JSONParser.value($0) }
        } catch let problem as JSONParser.Problem {
            throw problem
        } catch {
            fatalError("\(error)")
        }
    }

    private func parse(_ text: String) throws(JSONParser.Problem) -> JSONValue { try parse(Array(text.utf8)) }

    @Test(
        arguments: [
            ("{}", .object([:])), (" [ ] ", .array([])), ("\u{FEFF}null", .null), ("\t\r\n true\n", .bool(true)),
            (
                #"{"a":1,"b":{"a":2},"c":[{"a":1},{"a":false}]}"#,
                .object([
                    "a": .integer(1), "b": .object(["a": .integer(2)]),
                    "c": .array([.object(["a": .integer(1)]), .object(["a": .bool(false)])]),
                ])
            ),
            (#"{"a":"},{\"a\":1"}"#, .object(["a": .string(#"},{"a":1"#)])),
            (#"{"a\"":1,"a":2}"#, .object(["a\"": .integer(1), "a": .integer(2)])),
            (#""\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00\u0000""#, .string("\"\\/\u{8}\u{C}\n\r\té\u{1F600}\u{0}")),
            ("-0", .integer(0)), ("512.0", .integer(512)), ("5.12e2", .integer(512)), ("0.5", .number(0.5)),
            ("-1E-2", .number(-0.01)), ("9223372036854775807", .integer(.max)),
            ("-9223372036854775808", .integer(.min)),
            ("9223372036854775808", .number(9_223_372_036_854_775_808)), ("-9223372036854775809", .number(-0x1p63)),
            ("9007199254740991.0", .integer(9_007_199_254_740_991)), ("9007199254740992.0", .number(0x1p53)),
            ("501563987012e7", .number(5_015_639_870_119_999_488)), ("1e+30", .number(1e30)),
        ] as [(String, JSONValue)])
    func `what is fine`(text: String, value: JSONValue) throws {
        #expect(try parse(text) == value)
    }

    @Test(arguments: [
        (#"{"a":1,"a":2}"#, "a"), (#"{"a":{"b":1},"a":1}"#, "a"), (#"{"x":[{"k":1,"k":1}]}"#, "k"),
        (#"{"a":1,"\u0061":2}"#, "a"), (#"{ "a" : 1 , "a" : 2 }"#, "a"), (#"{"":1,"":2}"#, ""),
        (#"{"a":1,"b":[1,{"c":2}],"a":3}"#, "a"),
    ])
    func `the same key twice`(text: String, key: String) {
        #expect(throws: JSONParser.Problem.duplicateKey(key)) { try parse(text) }
    }

    @Test func `nested as deep as may be, and deeper`() throws {
        let deepest = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
        #expect(try parse("[\(deepest.dropFirst().dropLast()),\(deepest.dropFirst().dropLast())]") != .null)
        #expect(throws: JSONParser.Problem.tooDeep) { try parse("[" + deepest + "]") }
        #expect(throws: JSONParser.Problem.tooDeep) { try parse(String(repeating: "[", count: 500_000)) }
        #expect(throws: JSONParser.Problem.tooDeep) { try parse(String(repeating: #"{"a":"#, count: 1000)) }
    }

    @Test(
        arguments: [
            [0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22],
            [0xFF, 0xFE, 0x7B, 0x00, 0x7D, 0x00],
        ] as [[UInt8]])
    func `no UTF-8`(bytes: [UInt8]) {
        #expect(throws: JSONParser.Problem.notUTF8) { try parse(bytes) }
    }

    @Test(arguments: [
        ("", 0), ("  ", 2), ("{", 1), (#"{""#, 2), (#"{"a"#, 3), (#"{"a\"#, 4), (#"{"a":"#, 5), ("}", 0), ("]]", 0),
        (",", 0), (":", 0), ("\"\\", 2), ("{},", 2), ("[1 2]", 3), ("[1,]", 3), (#"{"a":1,}"#, 7), ("{a:1}", 1),
        ("{'a':1}", 1), ("[1]//x", 3), ("/**/1", 0), ("01", 1), ("-", 1), ("+1", 0), (".5", 0), ("1.", 2), ("1e", 2),
        ("1e+", 3), ("0x10", 1), ("NaN", 0), ("Infinity", 0), ("-Infinity", 1), ("1e400", 0), ("tru", 3), ("nul1", 3),
        ("True", 0), ("\"a\nb\"", 2), ("\"\u{0}\"", 1), (#""\x41""#, 2), (#""\u12""#, 5), (#""\uD800""#, 7),
        (#""\uDC00""#, 7), (#""\uD800\u0041""#, 13), (#""\uD800x""#, 7), ("\"a", 2), ("[\u{a0}1]", 1), ("1\u{0}", 1),
        ("{\u{0}}", 1), (#"{"a" 1}"#, 5), (#"{1:2}"#, 1), ("[,1]", 1), ("\u{FEFF}\u{FEFF}1", 3),
    ])
    func `no JSON, and from where on`(text: String, offset: Int) {
        #expect(throws: JSONParser.Problem.notJSON(offset: offset)) { try parse(text) }
    }

    private static func isSame(_ ours: JSONValue, _ theirs: JSONValue) -> Bool {
        switch (ours, theirs) {
        case (.array(let one), .array(let other)):
            one.count == other.count && zip(one, other).allSatisfy { isSame($0, $1) }
        case (.object(let one), .object(let other)):
            one.count == other.count && one.allSatisfy { key, value in other[key].map { isSame(value, $0) } ?? false }
        case (.number(let number), .integer(let whole)) where number.magnitude >= 0x1p53:
            abs(number / Double(whole) - 1) < 1e-15
        default: ours == theirs
        }
    }

    /// Of texts that are almost JSON the library must think the same, value and all; but for a comma before the end of a list
    /// or an object, which it lets pass, and whole numbers beyond 2^53 that are not written as such.
    @Test func `what is read and what is refused is what the library reads and refuses`() throws {
        let seed = UInt64.random(in: 1...(.max))
        print("seed \(seed)")
        var random = SplitMix(seed: seed)
        // No null: with one among the first four bytes the library takes the text for another encoding.
        let pieces = Array(#"{}[],:"\0123456789.eE+-truefalsn u/bd8"#.utf8) + [0x01, 0x09, 0x0A, 0x20, 0xC3, 0xA9]
        var (read, refused) = (0, 0)
        for round in 0..<6000 {
            var bytes = JSONSamples.value(&random, deepest: 3).json
            for _ in 0..<(round % 4) {
                let place = Int.random(in: 0...bytes.count, using: &random)
                let piece = pieces.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes.insert(piece, at: place)
                case 1 where place < bytes.count: bytes.remove(at: place)
                case 2 where place < bytes.count: bytes[place] = piece
                default: break
                }
            }
            let theirs = try? JSONCoding.decode(JSONValue.self, from: String(decoding: bytes, as: UTF8.self))
            do {
                let ours = try parse(bytes)
                read += 1
                #expect(
                    theirs.map { Self.isSame(ours, $0) } == true, "\(String(decoding: bytes, as: UTF8.self))")
            } catch .notJSON(let offset) {
                refused += 1
                #expect(offset <= bytes.count)
                let isBehindComma =
                    bytes[offset...].first.map([UInt8(ascii: "]"), UInt8(ascii: "}")].contains) == true
                    && bytes[..<offset].last { $0 > 0x20 } == UInt8(ascii: ",")
                #expect(theirs == nil || isBehindComma, "\(String(decoding: bytes, as: UTF8.self))")
            } catch {}
        }
        #expect(read > 1500 && refused > 1500, "\(read) read, \(refused) refused")
    }
}
