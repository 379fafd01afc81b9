/// Reads a program's settings from flags, environment, file and defaults, in this order, and collects everything that is
/// wrong, so that it is reported at once.
package struct SettingsReader {
    /// One thing that is wrong.
    package struct Problem: Hashable, Sendable, CustomStringConvertible {
        package var key: String
        package var found: String
        package var expected: String
        package var description: String { "\(key): found \(found), expected \(expected)" }
    }

    /// All that is wrong with a configuration.
    package struct Refusal: Error, Sendable, CustomStringConvertible {
        package var problems: [Problem]
        package var description: String {
            (["the configuration cannot be used:"] + problems.map { "  \($0)" }).joined(separator: "\n")
        }
    }

    /// Of the file, or of the variable where an object stands in one.
    private var fileName: String
    private var fields: [String: JSONValue]
    /// Keys of the sections around this one.
    private var path: [String] = []
    private var environment: [String: String]
    private let flags: [String: String]
    private var known: Set<String> = []
    private var problems: [Problem] = []

    /// - Parameters:
    ///   - section: the part of the file that belongs to this program: `agent` or `server`.
    ///   - file: content of the configuration file, nil where there is none.
    ///   - flags: by key, as the command line gave them.
    package init(
        section: String, file: (name: String, text: String)?, environment: [String: String], flags: [String: String]
    ) {
        self.environment = environment
        self.flags = flags
        fileName = file?.name ?? ""
        var fields: [String: JSONValue] = [:]
        if let file {
            do {
                guard case .object(let sections) = try JSONCoding.decode(JSONValue.self, from: file.text) else {
                    throw ProgramFailure(.configuration, "not an object")
                }
                for name in sections.keys.sorted() where !["agent", "server"].contains(name) {
                    problems.append(
                        .init(
                            key: "\(file.name): \(name)", found: "an unknown section",
                            expected: "\"agent\" or \"server\""))
                }
                switch sections[section] {
                case .object(let own): fields = own
                case nil: break
                case .some(let other):
                    problems.append(
                        .init(key: "\(file.name): \(section)", found: other.shortDescription, expected: "an object"))
                }
            } catch {
                problems.append(.init(key: file.name, found: "text that is not JSON", expected: "a JSON object"))
            }
        }
        self.fields = fields
    }

    // MARK: kinds of settings

    package mutating func text(
        _ key: String, default fallback: String, expected: String = "text", check: (String) -> Bool = { !$0.isEmpty }
    ) -> String {
        optionalText(key, expected: expected, check: check) ?? fallback
    }

    /// Text that may hold a password: what was found is not repeated.
    package mutating func secretText(
        _ key: String, default fallback: String, expected: String, check: (String) -> Bool
    ) -> String {
        guard let (source, value) = find(key) else { return fallback }
        if case .string(let text) = value, check(text) { return text }
        problems.append(.init(key: source, found: "something else", expected: expected))
        return fallback
    }

    package mutating func optionalText(
        _ key: String, expected: String = "text", check: (String) -> Bool = { !$0.isEmpty }
    ) -> String? {
        guard let (source, value) = find(key) else { return nil }
        guard case .string(let text) = value, check(text) else {
            return refuse(source, value, expected)
        }
        return text
    }

    package mutating func integer(_ key: String, default fallback: Int, in range: ClosedRange<Int>) -> Int {
        optionalInteger(key, in: range) ?? fallback
    }

    package mutating func optionalInteger(_ key: String, in range: ClosedRange<Int>) -> Int? {
        guard let (source, value) = find(key) else { return nil }
        let number: Int?
        switch value {
        case .integer(let whole): number = whole
        case .string(let text) where source != fileKey(key): number = Int(text)
        default: number = nil
        }
        guard let number, range.contains(number) else {
            return refuse(source, value, "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Settings that belong together: an object in the file, variables with its name before theirs elsewhere.
    package mutating func section<Value>(_ key: String, read: (inout SettingsReader) -> Value) -> Value {
        known.insert(key)
        var inner = self
        inner.path.append(key)
        return inside(fields[key], named: fileKey(key), inner, read)
    }

    /// Objects by names that nobody knows beforehand, read in the order of these: an object of objects in the file, the same
    /// as JSON text elsewhere. What stands in them comes from no other place.
    ///
    /// - Returns: nil where it is not set, and where it is no such object.
    package mutating func objects<Value>(
        _ key: String, read: (_ name: String, inout SettingsReader) -> Value
    ) -> [Value]? {
        guard let (source, found) = find(key) else { return nil }
        var inner = self
        inner.environment = [:]
        inner.path.append(key)
        var value = found
        var expected = "an object of objects"
        if case .string(let text) = found, source != fileKey(key) {
            value = (try? JSONCoding.decode(JSONValue.self, from: text)) ?? found
            expected += " as JSON text"
            inner.fileName = source
            inner.path = []
        }
        guard case .object(let objects) = value else { return refuse(source, value, expected) }
        var values: [Value] = []
        for (name, object) in objects.sorted(by: { $0.key < $1.key }) {
            var one = inner
            one.path.append(name)
            values.append(inside(object, named: inner.fileKey(name), one) { read(name, &$0) })
        }
        return values
    }

    package mutating func flag(_ key: String, default fallback: Bool) -> Bool {
        guard let (source, value) = find(key) else { return fallback }
        switch value {
        case .bool(let bool): return bool
        case .string("true") where source != fileKey(key): return true
        case .string("false") where source != fileKey(key): return false
        default: return refuse(source, value, "true or false") ?? fallback
        }
    }

    /// A list in the file, words with commas between elsewhere.
    package mutating func list(
        _ key: String, default fallback: [String] = [], expected: String = "a list of text",
        check: (String) -> Bool = { !$0.isEmpty }
    ) -> [String] {
        guard let (source, value) = find(key) else { return fallback }
        var words: [String] = []
        switch value {
        case .array(let items):
            for item in items {
                guard case .string(let word) = item else { return refuse(source, item, expected) ?? fallback }
                words.append(word)
            }
        case .string(let text) where source != fileKey(key):
            words = text.split(separator: ",").map(String.init)
        default: return refuse(source, value, expected) ?? fallback
        }
        if let wrong = words.first(where: { !check($0) }) {
            return refuse(source, .string(wrong), expected) ?? fallback
        }
        return words
    }

    /// Text by text: an object in the file, `name=value` with commas between elsewhere.
    package mutating func table(_ key: String, default fallback: [String: String] = [:]) -> [String: String] {
        guard let (source, value) = find(key) else { return fallback }
        var result: [String: String] = [:]
        switch value {
        case .object(let object):
            for (name, item) in object {
                guard case .string(let text) = item else {
                    return refuse(source, item, "an object of text") ?? fallback
                }
                result[name] = text
            }
        case .string(let text) where source != fileKey(key):
            for pair in text.split(separator: ",") {
                let parts = pair.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2 else {
                    return refuse(source, value, "name=value with commas between") ?? fallback
                }
                result[parts[0]] = parts[1]
            }
        default: return refuse(source, value, "an object of text") ?? fallback
        }
        return result
    }

    /// A setting without a default. One that is there and wrong has been reported already.
    package mutating func requirePresent(_ key: String, expected: String) {
        if find(key) == nil { problems.append(.init(key: key, found: "nothing", expected: expected)) }
    }

    /// For rules between settings.
    package mutating func require(_ holds: Bool, key: String, found: String, expected: String) {
        if !holds { problems.append(.init(key: key, found: found, expected: expected)) }
    }

    /// Throws everything that is wrong, unknown keys included.
    package mutating func finish() throws(Refusal) {
        findUnknown()
        if !problems.isEmpty { throw Refusal(problems: problems) }
    }

    // MARK: parts

    /// Reads an object inside this one with a reader of its own, whose problems become those of this one.
    private mutating func inside<Value>(
        _ object: JSONValue?, named name: String, _ reader: SettingsReader, _ read: (inout SettingsReader) -> Value
    ) -> Value {
        var inner = reader
        inner.fields = [:]
        inner.known = []
        inner.problems = []
        switch object {
        case .object(let own): inner.fields = own
        case nil: break
        case .some(let other):
            inner.problems = [.init(key: name, found: other.shortDescription, expected: "an object")]
        }
        let value = read(&inner)
        inner.findUnknown()
        problems += inner.problems
        return value
    }

    private mutating func findUnknown() {
        for key in fields.keys.sorted() where !known.contains(key) {
            let nearest = known.min { ($0.distance(to: key), $0) < ($1.distance(to: key), $1) } ?? ""
            problems.append(.init(key: fileKey(key), found: "an unknown key", expected: "perhaps \"\(nearest)\""))
        }
    }

    /// Name of the environment variable of a key.
    package static func environmentName(_ key: String) -> String { "BERTH_" + key.uppercased() }

    private func fileKey(_ key: String) -> String { "\(fileName): \((path + [key]).joined(separator: "."))" }

    private mutating func find(_ key: String) -> (source: String, value: JSONValue)? {
        known.insert(key)
        if path.isEmpty, let text = flags[key] { return ("--" + key.replacing("_", with: "-"), .string(text)) }
        let name = Self.environmentName((path + [key]).joined(separator: "_"))
        // An empty variable is how a shell says "not set".
        if let text = environment[name], !text.isEmpty { return (name, .string(text)) }
        return fields[key].map { (fileKey(key), $0) }
    }

    private mutating func refuse<Value>(_ key: String, _ value: JSONValue, _ expected: String) -> Value? {
        let found = key.contains("token") && !key.contains("file") ? "a value" : value.shortDescription
        problems.append(.init(key: key, found: found, expected: expected))
        return nil
    }
}

extension String {
    /// Levenshtein distance, for "did you mean".
    fileprivate func distance(to other: String) -> Int {
        let (left, right) = (Array(utf8), Array(other.utf8.prefix(100)))
        var row = Array(0...right.count)
        for (i, byte) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, otherByte) in right.enumerated() {
                let substitution = diagonal + (byte == otherByte ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = Swift.min(substitution, row[j] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}
