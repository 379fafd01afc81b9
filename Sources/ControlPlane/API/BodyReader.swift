import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import ServiceRuntime

/// Reads the fields of a JSON body one by one. Everything that is wrong is a 400 that names field, value and range; what
/// is unknown is ignored and listed as a warning.
struct BodyReader {
    static let limit = 1024 * 1024

    /// Those that nobody has asked for yet; each is asked for once.
    private var unread: [String: JSONValue]
    private var prefix = ""
    private var innerWarnings: [String] = []

    /// - Parameter optional: true where an empty body stands for `{}`.
    init(_ request: Request, mayBeEmpty: Bool = false) async throws {
        let buffer: ByteBuffer
        do {
            var request = request
            buffer = try await request.collectBody(upTo: Self.limit)
        } catch is NIOTooManyBytesError {
            throw APIError(.contentTooLarge, "the body is larger than 1 MiB")
        } catch is LateBody {
            var error = APIError(
                .requestTimeout, "the body did not come within \(LateBody.timeout.nanoseconds / 1_000_000_000) s")
            error.headers[.connection] = "close"
            throw error
        }
        if buffer.readableBytes == 0, mayBeEmpty {
            unread = [:]
            return
        }
        if let type = request.headers[.contentType], !Self.isJSON(type) {
            throw APIError(
                .unsupportedMediaType, "unsupported media type",
                ["message": .string("send the body as Content-Type: application/json")])
        }
        do {
            let value = try buffer.withUnsafeReadableBytes(JSONParser.value)
            guard case .object(let fields) = value else {
                throw Self.unreadable(
                    "the body must be a JSON object", "body", value.shortDescription, expected: "a JSON object")
            }
            unread = fields
        } catch let problem as JSONParser.Problem {
            throw Self.unreadable(problem)
        }
    }

    private static func unreadable(_ problem: JSONParser.Problem) -> APIError {
        switch problem {
        case .notUTF8: unreadable("\(problem)", "body", "other bytes", expected: "UTF-8")
        case .tooDeep: unreadable("\(problem)", "body", "more", expected: "at most \(JSONParser.deepest) levels")
        case .duplicateKey(let key):
            unreadable("\(problem)", String(key.prefix(80)), "the key twice", expected: "each key once in an object")
        case .notJSON(let offset):
            unreadable("\(problem)", "body", "something else from byte \(offset) on", expected: "JSON")
        }
    }

    private static func unreadable(_ message: String, _ field: String, _ value: String, expected: String) -> APIError {
        APIError(
            .badRequest, message,
            ["field": .string(field), "value": .string(value), "expected": .string(expected)])
    }

    /// `application/json`, also with a suffix (`application/merge-patch+json`) and parameters; UTF-8 is the only charset.
    private static func isJSON(_ type: String) -> Bool {
        let parts = type.lowercased().split(separator: ";").map { $0.filter { $0 != " " } }
        guard let essence = parts.first, essence == "application/json" || essence.hasSuffix("+json") else {
            return false
        }
        return parts.dropFirst().allSatisfy {
            !$0.hasPrefix("charset=") || ["charset=utf-8", "charset=\"utf-8\"", "charset=utf8"].contains($0)
        }
    }

    mutating func text(_ name: String, expected: String = "text") throws -> String? {
        switch take(name) {
        case nil, .null?: return nil
        case .string(let text)? where !text.utf8.contains(0): return text
        case let other?: throw refusal(name, other.shortDescription, expected: expected)
        }
    }

    mutating func integer(_ name: String, expected: String = "a whole number") throws -> Int? {
        switch take(name) {
        case nil, .null?: return nil
        case .integer(let number)?: return number
        case let other?: throw refusal(name, other.shortDescription, expected: expected)
        }
    }

    mutating func integer(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
        let expected = Self.words(for: range)
        guard let number = try integer(name, expected: expected) else { return nil }
        guard range.contains(number) else { throw refusal(name, "\(number)", expected: expected) }
        return number
    }

    mutating func requiredInteger(_ name: String, in range: ClosedRange<Int>) throws -> Int {
        guard let number = try integer(name, in: range) else {
            throw refusal(name, "nothing", expected: Self.words(for: range))
        }
        return number
    }

    private static func words(for range: ClosedRange<Int>) -> String {
        "a whole number from \(range.lowerBound) to \(range.upperBound)"
    }

    mutating func texts(_ name: String) throws -> [String]? {
        switch take(name) {
        case nil, .null?: return nil
        case .array(let items)?:
            return try items.map { item in
                guard case .string(let text) = item, !text.utf8.contains(0) else {
                    throw APIError.badField(name, item.shortDescription, expected: "a list of text")
                }
                return text
            }
        case let other?: throw APIError.badField(name, other.shortDescription, expected: "a list of text")
        }
    }

    mutating func table(_ name: String) throws -> [String: String]? {
        switch take(name) {
        case nil, .null?: return nil
        case .object(let object)?:
            return try object.mapValues { item in
                guard case .string(let text) = item, !text.utf8.contains(0) else {
                    throw APIError.badField(name, item.shortDescription, expected: "an object of text")
                }
                return text
            }
        case let other?: throw APIError.badField(name, other.shortDescription, expected: "an object of text")
        }
    }

    /// An object inside, read like the body; what is unknown in it is listed with the rest.
    mutating func object<Value>(_ name: String, read: (inout BodyReader) throws -> Value) throws -> Value? {
        switch take(name) {
        case nil, .null?: return nil
        case .object(let fields)?:
            // The reference has its keys both ways.
            let prefix = name + "."
            let plain = Dictionary(
                fields.map { ($0.hasPrefix(prefix) ? String($0.dropFirst(prefix.count)) : $0, $1) },
                // The same twice: the one without the prefix, whatever the order.
                uniquingKeysWith: { _, _ in .null }
            ).merging(fields.filter { !$0.key.hasPrefix(prefix) }) { $1 }
            var inner = BodyReader(fields: plain, name: name)
            let value = try read(&inner)
            innerWarnings += inner.warnings
            return value
        case let other?: throw APIError.badField(name, other.shortDescription, expected: "an object")
        }
    }

    /// A list of objects, each read like the body, as `NAME[0]`, `NAME[1]` and so on; what is unknown in one is listed with
    /// the rest.
    ///
    /// - Parameter fields: of an item that stands for an object without being one; nil where it does not.
    mutating func objects<Value>(
        _ name: String, most: Int, expected: String, fields: (JSONValue) -> [String: JSONValue]?,
        read: (inout BodyReader) throws -> Value
    ) throws -> [Value]? {
        switch take(name) {
        case nil, .null?: return nil
        case .array(let items)?:
            guard items.count <= most else {
                throw refusal(name, "\(items.count) items", expected: "at most \(most)")
            }
            var values: [Value] = []
            for (index, item) in items.enumerated() {
                let own: [String: JSONValue]
                if case .object(let object) = item {
                    own = object
                } else if let meant = fields(item) {
                    own = meant
                } else {
                    throw refusal("\(name)[\(index)]", item.shortDescription, expected: expected)
                }
                var inner = BodyReader(fields: own, name: path("\(name)[\(index)]"))
                values.append(try read(&inner))
                innerWarnings += inner.warnings
            }
            return values
        case let other?: throw refusal(name, other.shortDescription, expected: "a list")
        }
    }

    mutating func flag(_ name: String) throws -> Bool? {
        switch take(name) {
        case nil, .null?: return nil
        case .bool(let flag)?: return flag
        case let other?: throw refusal(name, other.shortDescription, expected: "true or false")
        }
    }

    private init(fields: [String: JSONValue], name: String) {
        unread = fields
        prefix = name + "."
    }

    private func path(_ name: String) -> String { prefix + name }

    /// Of a field that is there, or ought to be.
    func refusal(_ name: String, _ found: String, expected: String) -> APIError {
        APIError.badField(path(name), found, expected: expected)
    }

    var warnings: [String] {
        unread.keys.sorted().map { "\(path(String($0.prefix(80)))): unknown field, ignored" } + innerWarnings
    }

    private mutating func take(_ name: String) -> JSONValue? { unread.removeValue(forKey: name) }
}
