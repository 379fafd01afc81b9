import BerthModel
import ServiceRuntime

/// The field `ports` of a creation: which ports of the host lead to the container. Whether they may is the host's to say.
extension ContainerRoutes {
    static func ports(_ body: inout BodyReader) throws -> [PublishedPort]? {
        let read = try body.objects(
            "ports", most: PublishedPort.most, expected: "an object or a whole number", fields: meant, read: port)
        guard let ports = read, !ports.isEmpty else { return nil }
        if let index = PublishedPort.repeated(in: ports) {
            throw APIError.badField(
                "ports[\(index)].host", "\(ports[index].host)",
                expected: "a port that is not published for \(ports[index].transport.rawValue) already")
        }
        return ports
    }

    /// A number alone is that port of both.
    private static func meant(_ item: JSONValue) -> [String: JSONValue]? {
        guard case .integer = item else { return nil }
        return ["container": item]
    }

    private static func port(_ item: inout BodyReader) throws -> PublishedPort {
        let container = try item.requiredInteger("container", in: PublishedPort.range)
        let host = try item.integer("host", in: PublishedPort.range) ?? container
        let word = try item.text("protocol", expected: transports) ?? PublishedPort.Transport.tcp.rawValue
        guard let transport = PublishedPort.Transport(rawValue: word) else {
            throw item.refusal("protocol", "\"\(word.prefix(80))\"", expected: transports)
        }
        return PublishedPort(container: container, host: host, transport: transport)
    }

    private static let transports = PublishedPort.Transport.allCases.map(\.rawValue).joined(separator: " or ")
}
