/// A port of the host that leads to one of a container, on every address of the host.
package struct PublishedPort: Hashable, Sendable, Codable {
    package enum Transport: String, Hashable, Sendable, Codable, CaseIterable { case tcp, udp }

    /// Inside the container; 1 to 65535.
    package var container: Int
    /// 1 to 65535. Never one that the Engine chooses: that would be another one with every start.
    package var host: Int
    package var transport: Transport

    package static let range = 1...65_535
    /// Of one workload.
    package static let most = 32

    private enum CodingKeys: String, CodingKey {
        case container, host
        case transport = "protocol"
    }

    package init(container: Int, host: Int, transport: Transport = .tcp) {
        self.container = container
        self.host = host
        self.transport = transport
    }

    package var hostPort: HostPort { HostPort(number: host, transport: transport) }

    /// Nil where both numbers are ports.
    package var problem: String? {
        for (field, number) in [("container", container), ("host", host)] where !Self.range.contains(number) {
            return "\(field): expected \(Self.range.lowerBound) to \(Self.range.upperBound), found \(number)"
        }
        return nil
    }

    /// The first thing that is wrong with all ports of one workload; nil where they can be published together.
    static func problem(of ports: [PublishedPort]) -> String? {
        if ports.count > most { return "ports: expected at most \(most), found \(ports.count)" }
        for (index, port) in ports.enumerated() {
            if let problem = port.problem { return "ports[\(index)].\(problem)" }
        }
        if let index = repeated(in: ports) {
            return "ports[\(index)].host: \(ports[index].hostPort) is published twice"
        }
        return nil
    }

    /// Of the first one whose port of the host an earlier one has; nil where each is published once.
    package static func repeated(in ports: [PublishedPort]) -> Int? {
        var taken: Set<HostPort> = []
        return ports.firstIndex { !taken.insert($0.hostPort).inserted }
    }
}

/// What one program of a host can have at a time: a number is there once for each transport.
package struct HostPort: Hashable, Sendable, CustomStringConvertible {
    /// 1 to 65535.
    package var number: Int
    package var transport: PublishedPort.Transport

    package init(number: Int, transport: PublishedPort.Transport) {
        self.number = number
        self.transport = transport
    }

    /// `8080/tcp`.
    package var description: String { "\(number)/\(transport.rawValue)" }
}
