import Foundation
import ServiceRuntime
import Testing

/// Compares answers with the document that the control plane itself gives out: an answer that is not in it is a defect of
/// one of the two. Of JSON Schema it knows what the document uses, and says so where it meets something else.
enum OpenAPICheck {
    private static let document: JSONValue = {
        let path = TestEnvironment.packageRoot.path + "/Sources/ControlPlane/API/openapi.json"
        guard let text = try? String(contentsOfFile: path, encoding: .utf8),
            let value = try? JSONCoding.decode(JSONValue.self, from: text)
        else { preconditionFailure("\(path) cannot be read") }
        return value
    }()

    /// Path templates, those without a parameter first: `/api/agents/register` is not `/api/agents/{id}`.
    private static let templates: [(parts: [String], operations: JSONValue)] = {
        guard case .object(let paths)? = document["paths"] else { preconditionFailure("the document has no paths") }
        return paths.map { (parts($0.key), $0.value) }
            .sorted { $0.parts.count { $0.hasPrefix("{") } < $1.parts.count { $0.hasPrefix("{") } }
    }()

    /// All that is no WebSocket, as `GET /api/containers/{id}`.
    static let operations: Set<String> = {
        guard case .object(let paths)? = document["paths"] else { preconditionFailure("the document has no paths") }
        var all: Set<String> = []
        for case (let path, .object(let operations)) in paths {
            for (method, operation) in operations where operation["responses"]?["101"] == nil {
                if operation["responses"] != nil { all.insert("\(method.uppercased()) \(path)") }
            }
        }
        return all
    }()

    private static func parts(_ path: String) -> [String] {
        path.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
    }

    /// - Returns: everything in which an answer differs from the document.
    static func problems(method: String, path: String, status: Int, body: JSONValue) -> [String] {
        let asked = parts(String(path.prefix { $0 != "?" }))
        let operations = templates.first { template in
            template.parts.count == asked.count
                && zip(template.parts, asked).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }?.operations
        // What is not documented is not there.
        guard let operation = operations?[method.lowercased()] else {
            return [404, 405].contains(status) ? [] : ["\(method) \(path) is not documented and answers \(status)"]
        }
        guard let response = operation["responses"]?[String(status)].map(resolved) else {
            return ["\(method) \(path) answers \(status), which is not documented: \(body)"]
        }
        guard let schema = response["content"]?["application/json"]?["schema"] else { return [] }
        return problems(body, schema, "\(method) \(path) \(status)")
    }

    /// Follows `$ref`.
    private static func resolved(_ value: JSONValue) -> JSONValue {
        guard let reference = value["$ref"]?.text else { return value }
        var found: JSONValue? = document
        for part in reference.dropFirst(2).split(separator: "/") { found = found?[String(part)] }
        guard let found else { preconditionFailure("\(reference) leads nowhere") }
        return resolved(found)
    }

    /// `allOf`, of which ours only ever add fields to those of another schema, made one.
    private static func merged(_ schema: JSONValue) -> JSONValue {
        guard case .object(var rules) = schema, case .array(let all)? = rules.removeValue(forKey: "allOf") else {
            return schema
        }
        for case .object(let more) in all.map({ merged(resolved($0)) }) {
            rules.merge(more) { one, other in
                switch (one, other) {
                case (.object(let fields), .object(let others)): .object(fields.merging(others) { $1 })
                case (.array(let items), .array(let others)): .array(items + others)
                default: one
                }
            }
        }
        return .object(rules)
    }

    private static let known: Set<String> = [
        "type", "description", "properties", "required", "$ref", "items", "format", "pattern", "enum", "minimum",
        "const",
        "maximum", "anyOf", "minLength", "maxLength", "additionalProperties", "propertyNames", "minItems",
    ]

    private static func problems(_ value: JSONValue, _ reference: JSONValue, _ place: String) -> [String] {
        let schema = merged(resolved(reference))
        guard case .object(let rules) = schema else { return ["\(place): no schema"] }
        var found = rules.keys.filter { !known.contains($0) }.map { "\(place): the rule \($0) is not checked" }
        if let type = rules["type"], !types(type).contains(where: { fits(value, $0) }) {
            found.append("\(place): \(value.shortText) is not of type \(type.shortText)")
        }
        if case .array(let allowed)? = rules["enum"], !allowed.contains(value) {
            found.append("\(place): \(value.shortText) is none of \(allowed.map(\.shortText))")
        }
        if let constant = rules["const"], constant != value {
            found.append("\(place): \(value.shortText) is not \(constant.shortText)")
        }
        if case .array(let alternatives)? = rules["anyOf"] {
            let each = alternatives.map { problems(value, $0, place) }
            if !each.contains(where: \.isEmpty) { found += ["\(place): fits none of \(each.count)"] + each.joined() }
        }
        found += text(value, rules, place) + number(value, rules, place)
        switch value {
        case .object(let fields): found += object(fields, rules, place)
        case .array(let items):
            if let least = rules["minItems"]?.number, items.count < least { found.append("\(place): too few items") }
            if let schema = rules["items"] {
                found += items.enumerated().flatMap { problems($0.element, schema, "\(place)[\($0.offset)]") }
            }
        default: break
        }
        return found
    }

    private static func object(_ fields: [String: JSONValue], _ rules: [String: JSONValue], _ place: String) -> [String]
    {
        var found: [String] = []
        if case .array(let required)? = rules["required"] {
            found += required.compactMap(\.text).filter { fields[$0] == nil }.map { "\(place): \($0) is missing" }
        }
        var documented: [String: JSONValue] = [:]
        if case .object(let properties)? = rules["properties"] { documented = properties }
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) {
            if let schema = documented[name] {
                found += problems(value, schema, "\(place).\(name)")
                continue
            }
            switch rules["additionalProperties"] {
            // A schema that names its fields names all that our answers have.
            case nil where !documented.isEmpty:
                found.append("\(place): \(name) is not documented")
            case nil, .bool(true)?: break
            case .bool(false)?: found.append("\(place): \(name) is not allowed")
            case let schema?: found += problems(value, schema, "\(place).\(name)")
            }
            if let schema = rules["propertyNames"] { found += problems(.string(name), schema, "\(place) key") }
        }
        return found
    }

    private static func text(_ value: JSONValue, _ rules: [String: JSONValue], _ place: String) -> [String] {
        guard case .string(let text) = value else { return [] }
        var found: [String] = []
        if let pattern = rules["pattern"]?.text, text.range(of: pattern, options: .regularExpression) == nil {
            found.append("\(place): \"\(text.prefix(80))\" does not match \(pattern)")
        }
        if let least = rules["minLength"]?.number, text.count < least { found.append("\(place): too short") }
        if let most = rules["maxLength"]?.number, text.count > most { found.append("\(place): too long") }
        return found
    }

    private static func number(_ value: JSONValue, _ rules: [String: JSONValue], _ place: String) -> [String] {
        guard let number = value.double else { return [] }
        var found: [String] = []
        if let least = rules["minimum"]?.double, number < least {
            found.append("\(place): \(number) is below \(least)")
        }
        if let most = rules["maximum"]?.double, number > most { found.append("\(place): \(number) is above \(most)") }
        return found
    }

    private static func types(_ value: JSONValue) -> [String] {
        if case .array(let several) = value { return several.compactMap(\.text) }
        return value.text.map { [$0] } ?? []
    }

    private static func fits(_ value: JSONValue, _ type: String) -> Bool {
        switch (value, type) {
        case (.object, "object"), (.array, "array"), (.string, "string"), (.bool, "boolean"), (.null, "null"),
            (.integer, "integer"), (.integer, "number"), (.number, "number"):
            true
        default: false
        }
    }
}

extension JSONValue {
    fileprivate var shortText: String { String(((try? JSONCoding.encodeText(self)) ?? "?").prefix(200)) }
    fileprivate var double: Double? {
        switch self {
        case .integer(let number): Double(number)
        case .number(let number): number
        default: nil
        }
    }
}
