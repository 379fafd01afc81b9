import ServiceRuntime
import Testing

/// JSON that two parsers could read differently.
@Suite struct JSONShapes {
    private func problem(_ bytes: [UInt8]) -> JSONShape.Problem? { bytes.withUnsafeBytes(JSONShape.problem) }

    @Test(arguments: [
        "{}", "[]", #"{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}"#, #"{"a":"a","b":"a"}"#, #"{"a\"":1,"a":2}"#,
        #"{"a":"},{\"a\":1"}"#, #"["a","a"]"#, #"{"a":["a","a"],"b":1}"#, "null", #""a""#,
        String(repeating: "[", count: 64) + String(repeating: "]", count: 64),
    ])
    func `what is fine`(text: String) {
        #expect(problem(Array(text.utf8)) == nil)
    }

    @Test(arguments: [
        (#"{"a":1,"a":2}"#, "a"), (#"{"a":{"b":1},"a":1}"#, "a"), (#"{"x":[{"k":1,"k":1}]}"#, "k"),
        (#"{"a":1,"\u0061":2}"#, "a"), (#"{ "a" : 1 , "a" : 2 }"#, "a"), (#"{"":1,"":2}"#, ""),
        (#"{"a":1,"b":[1,{"c":2}],"a":3}"#, "a"),
    ])
    func `the same key twice`(text: String, key: String) {
        #expect(problem(Array(text.utf8)) == .duplicateKey(key))
    }

    @Test func `too deep, no UTF-8, cut off`() {
        #expect(problem(Array(String(repeating: "[", count: 65).utf8)) == .tooDeep)
        #expect(problem(Array(String(repeating: #"{"a":"#, count: 1000).utf8)) == .tooDeep)
        #expect(problem([0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D]) == .notUTF8)
        for text in ["{", #"{""#, #"{"a"#, #"{"a\"#, #"{"a":"#, "}", "]]", ",", ":", "\"\\"] {
            #expect(problem(Array(text.utf8)) == nil, "whether it is JSON is the parser's to say: \(text)")
        }
    }
}
