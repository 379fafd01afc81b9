import NIOHTTP1

extension DockerEngine {
    /// True answers only: an Engine that is up but broken throws.
    package func ping() async throws {
        _ = try await send(.GET, "/_ping", call: "ping", object: "", deadline: .seconds(5))
    }

    package func info() async throws -> EngineInfo {
        try await get(versioned("/info"), call: "info")
    }
}

/// Answer of `GET /version`; the fields that are used.
package struct EngineVersion: Decodable, Hashable, Sendable {
    package var version: String
    package var apiVersion: String
    package var minAPIVersion: String?

    private enum CodingKeys: String, CodingKey {
        case version = "Version"
        case apiVersion = "ApiVersion"
        case minAPIVersion = "MinAPIVersion"
    }
}

/// Answer of `GET /info`; the fields that are used.
package struct EngineInfo: Decodable, Hashable, Sendable {
    package struct Runtime: Decodable, Hashable, Sendable {}

    package var id: String?
    package var serverVersion: String
    package var driver: String
    package var cgroupVersion: String?
    package var dockerRootDir: String
    package var runtimes: [String: Runtime]?
    package var memTotal: Int
    package var cpus: Int
    package var operatingSystem: String?
    package var architecture: String?
    package var kernelVersion: String?
    package var name: String?

    private enum CodingKeys: String, CodingKey {
        case id = "ID"
        case serverVersion = "ServerVersion"
        case driver = "Driver"
        case cgroupVersion = "CgroupVersion"
        case dockerRootDir = "DockerRootDir"
        case runtimes = "Runtimes"
        case memTotal = "MemTotal"
        case cpus = "NCPU"
        case operatingSystem = "OperatingSystem"
        case architecture = "Architecture"
        case kernelVersion = "KernelVersion"
        case name = "Name"
    }
}
