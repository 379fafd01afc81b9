import BerthModel

/// The fields `environment`, `labels` and `command` of a creation; what is not said here is `WorkloadSpec`'s to say.
extension ContainerRoutes {
    static func environment(_ body: inout BodyReader) throws -> [String: String] {
        let table = try body.table("environment") ?? [:]
        if let name = table.keys.sorted().first(where: { $0.isEmpty || $0.contains("=") || $0.contains("\0") }) {
            throw APIError.badField(
                "environment", "the name \"\(name.prefix(80))\"", expected: "names that are not empty and hold no '='")
        }
        return table
    }

    static func labels(_ body: inout BodyReader) throws -> [String: String] {
        let table = try body.table("labels") ?? [:]
        if let key = table.keys.sorted().first(where: { $0.isEmpty || $0.hasPrefix("berth.") }) {
            throw APIError.badField(
                "labels", "the key \"\(key.prefix(80))\"",
                expected: "keys that are not empty and do not begin with \"berth.\"")
        }
        return table
    }

    static func checkLength(_ order: ContainerService.CreateOrder) throws {
        let bytes = WorkloadSpec.textBytes(
            environment: order.environment, labels: order.labels, command: order.command)
        guard bytes <= WorkloadSpec.mostTextBytes else {
            throw APIError.badField(
                "environment, labels, command", "\(bytes) bytes",
                expected: "at most \(WorkloadSpec.mostTextBytes) bytes together")
        }
    }
}
