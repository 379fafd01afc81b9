/// A JSON object that is written field by field, in their order: for what is written so often that a `JSONValue` of it, or
/// an encoder of any `Encodable`, is felt. A field of nil is left out.
package struct JSONObjectText {
    private var bytes: [UInt8] = []

    package init() {
        bytes.reserveCapacity(512)
        bytes.append(UInt8(ascii: "{"))
    }

    /// The whole object.
    package var text: String { String(decoding: bytes, as: UTF8.self) + "}" }

    package mutating func add(_ name: String, _ value: String?) { add(name, value.map { JSONValue.string($0) }) }
    package mutating func add(_ name: String, _ value: Int?) { add(name, value.map { JSONValue.integer($0) }) }
    package mutating func add(_ name: String, _ value: Double?) { add(name, value.map { JSONValue.number($0) }) }
    package mutating func add(_ name: String, _ value: Bool?) { add(name, value.map { JSONValue.bool($0) }) }

    package mutating func add(_ name: String, _ value: JSONValue?) {
        guard let value else { return }
        begin(name)
        value.write(to: &bytes)
    }

    package mutating func add(_ name: String, _ values: [String]?) {
        guard let values else { return }
        begin(name)
        list(values.count) { JSONText.write(values[$1], to: &$0.bytes) }
    }

    /// With its keys in order.
    package mutating func add(_ name: String, _ table: [String: String]) {
        let fields = table.sorted { $0.key < $1.key }
        add(
            name,
            object: { object in
                for (key, value) in fields { object.add(key, value) }
            })
    }

    /// - Parameter fill: adds the fields of the object under `name`.
    package mutating func add(_ name: String, object fill: (inout JSONObjectText) -> Void) {
        begin(name)
        object(fill)
    }

    /// - Parameter fill: adds the fields of the object with that number in the list under `name`.
    package mutating func add(_ name: String, objects count: Int, _ fill: (inout JSONObjectText, Int) -> Void) {
        begin(name)
        list(count) { text, index in text.object { fill(&$0, index) } }
    }

    private mutating func begin(_ name: String) {
        if bytes.last != UInt8(ascii: "{") { bytes.append(UInt8(ascii: ",")) }
        JSONText.write(name, to: &bytes)
        bytes.append(UInt8(ascii: ":"))
    }

    private mutating func object(_ fill: (inout JSONObjectText) -> Void) {
        bytes.append(UInt8(ascii: "{"))
        fill(&self)
        bytes.append(UInt8(ascii: "}"))
    }

    private mutating func list(_ count: Int, _ write: (inout JSONObjectText, Int) -> Void) {
        bytes.append(UInt8(ascii: "["))
        for index in 0..<count {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            write(&self, index)
        }
        bytes.append(UInt8(ascii: "]"))
    }
}
