import Foundation
import ServiceRuntime
import Simulation
import Testing

/// JSON that is written by hand must be what an encoder writes, whatever is in it.
@Suite struct JSONValues {
    @Test func `any value is written in the bytes of an encoder, and read back as itself`() throws {
        let seed = UInt64.random(in: 1...(.max))
        print("seed \(seed)")
        var random = SplitMix(seed: seed)
        for _ in 0..<2000 {
            let value = JSONSamples.value(&random, deepest: 4)
            let text = value.jsonText
            #expect(try JSONCoding.decode(JSONValue.self, from: text) == value, "\(text)")
            #expect(text == (try JSONCoding.encodeText(value)))
        }
    }

    @Test(
        arguments: [
            (
                .string("a\"b\\c/d\u{0}\u{1F}\n\r\t\u{8}\u{C}\u{7F}é\u{1F600}"),
                #""a\"b\\c/d\u0000\u001f\n\r\t\b\f"# + "\u{7F}é\u{1F600}\""
            ),
            (.number(0), "0"), (.number(-0.5), "-0.5"), (.number(1e300), "1e+300"), (.number(.infinity), "null"),
            (.number(.nan), "null"), (.integer(.min), "-9223372036854775808"),
            (.object(["b": .null, "a": .array([]), "": .object([:])]), #"{"":{},"a":[],"b":null}"#),
        ] as [(JSONValue, String)])
    func `what is easily written wrong`(value: JSONValue, text: String) {
        #expect(value.jsonText == text)
    }
}

/// Values of all kinds, with text that is easily written wrong.
enum JSONSamples {
    static func value(_ random: inout SplitMix, deepest: Int) -> JSONValue {
        switch Int.random(in: 0..<(deepest > 0 ? 7 : 5), using: &random) {
        case 0: .null
        case 1: .bool(Bool.random(using: &random))
        case 2: .integer(Int(truncatingIfNeeded: random.next()) >> Int.random(in: 0..<64, using: &random))
        // A whole one is read back as an integer.
        case 3: .number(Double(Int.random(in: -1_000_000...1_000_000, using: &random)) + 0.5)
        case 4: .string(text(&random))
        case 5: .array((0..<Int.random(in: 0..<4, using: &random)).map { _ in value(&random, deepest: deepest - 1) })
        default:
            .object(
                Dictionary(
                    (0..<Int.random(in: 0..<5, using: &random)).map { _ in
                        (text(&random), value(&random, deepest: deepest - 1))
                    }, uniquingKeysWith: { first, _ in first }))
        }
    }

    private static let characters = Array("abcXYZ019 _-./\\\"\n\t\u{1}\u{1F}\u{7F}äßé漢字\u{1F600}")

    private static func text(_ random: inout SplitMix) -> String {
        String(
            (0..<Int.random(in: 0..<12, using: &random)).map { _ in characters.randomElement(using: &random) ?? "a" })
    }
}
