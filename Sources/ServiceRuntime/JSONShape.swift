import FoundationEssentials

/// What a JSON text of a stranger must be beside being JSON: valid UTF-8, not deeper than a person would nest, and with
/// one value per key. Parsers take the first or the last of two values, and two programs that differ in that read two
/// things in one text.
package enum JSONShape {
    package static let deepest = 64

    package enum Problem: Hashable, Sendable, CustomStringConvertible {
        case notUTF8
        case tooDeep
        case duplicateKey(String)

        package var description: String {
            switch self {
            case .notUTF8: "the body is not valid UTF-8"
            case .tooDeep: "the body is nested more than \(JSONShape.deepest) deep"
            case .duplicateKey(let key): "the body has the key \"\(key.prefix(80))\" twice in one object"
            }
        }
    }

    /// Nil where nothing speaks against it; whether it is JSON at all is the parser's to say.
    package static func problem(_ bytes: UnsafeRawBufferPointer) -> Problem? {
        guard String(validating: bytes, as: UTF8.self) != nil else { return .notUTF8 }
        // The keys of each object that is open; nil for a list.
        var open: [Set<String>?] = []
        var isKeyNext = false
        var index = bytes.startIndex
        while index < bytes.endIndex {
            let byte = bytes[index]
            index += 1
            switch byte {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                isKeyNext = byte == UInt8(ascii: "{")
                open.append(isKeyNext ? [] : nil)
                if open.count > deepest { return .tooDeep }
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                _ = open.popLast()
                isKeyNext = false
            case UInt8(ascii: ","): isKeyNext = (open.last ?? nil) != nil
            case UInt8(ascii: ":"): isKeyNext = false
            case UInt8(ascii: "\""):
                let start = index
                var hasEscapes = false
                while index < bytes.endIndex, bytes[index] != UInt8(ascii: "\"") {
                    if bytes[index] == UInt8(ascii: "\\") {
                        hasEscapes = true
                        index += 1
                        if index == bytes.endIndex { return nil }
                    }
                    index += 1
                }
                let content = bytes[start..<index]
                if index < bytes.endIndex { index += 1 }
                guard isKeyNext, !open.isEmpty else { continue }
                isKeyNext = false
                let key = hasEscapes ? unescaped(content) : String(decoding: content, as: UTF8.self)
                if open[open.count - 1]?.insert(key).inserted == false { return .duplicateKey(key) }
            default: break
            }
        }
        return nil
    }

    /// `\u0061` is an `a`.
    private static func unescaped(_ content: some Collection<UInt8>) -> String {
        let quoted = Data([UInt8(ascii: "\"")] + Array(content) + [UInt8(ascii: "\"")])
        return (try? JSONDecoder().decode(String.self, from: quoted)) ?? String(decoding: content, as: UTF8.self)
    }
}
