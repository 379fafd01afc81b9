import NIOHTTP1

extension DockerEngine {
    package func listVolumes(filters: [String: [String]] = [:]) async throws -> [VolumeDetails] {
        struct Body: Decodable, Sendable { var Volumes: [VolumeDetails]? }
        var query = QueryItems()
        try query.add(filters: filters)
        let body: Body = try await get(query.target(versioned("/volumes")), call: "volume list")
        return body.Volumes ?? []
    }

    package func inspectVolume(_ name: String) async throws -> VolumeDetails {
        try await get(path("volumes", name), call: "volume inspect", object: name)
    }

    package func createVolume(name: String, labels: [String: String]) async throws -> VolumeDetails {
        struct Body: Encodable, Sendable {
            var Name: String
            var Labels: [String: String]
        }
        let answer = try await post(
            versioned("/volumes/create"), body: Body(Name: name, Labels: labels), call: "volume create", object: name)
        return try decode(answer.body, call: "volume create", object: name)
    }

    /// Refused with 409 while a container uses it.
    package func removeVolume(_ name: String) async throws {
        _ = try await send(
            .DELETE, try path("volumes", name), call: "volume remove", object: name)
    }

    package func listNetworks(filters: [String: [String]] = [:]) async throws -> [NetworkDetails] {
        var query = QueryItems()
        try query.add(filters: filters)
        return try await get(query.target(versioned("/networks")), call: "network list")
    }

    package func inspectNetwork(_ name: String) async throws -> NetworkDetails {
        try await get(path("networks", name), call: "network inspect", object: name)
    }

    /// - Returns: the network's id. Two racing calls with one name give one network and one 409.
    package func createNetwork(
        name: String, driver: String = "bridge", options: [String: String] = [:], labels: [String: String] = [:]
    ) async throws -> String {
        struct Body: Encodable, Sendable {
            var Name: String
            var Driver: String
            var CheckDuplicate = true
            var Options: [String: String]
            var Labels: [String: String]
        }
        struct Created: Decodable { var Id: String }
        let answer = try await post(
            versioned("/networks/create"), body: Body(Name: name, Driver: driver, Options: options, Labels: labels),
            call: "network create", object: name)
        let created: Created = try decode(answer.body, call: "network create", object: name)
        return created.Id
    }

    /// Refused with 403 where the container has an endpoint there already.
    package func connectNetwork(_ name: String, container: String) async throws {
        struct Body: Encodable, Sendable { var Container: String }
        _ = try await post(
            try path("networks", name, "/connect"), body: Body(Container: container), call: "network connect",
            object: name)
    }

    /// - Parameter force: also where the container runs no more.
    package func disconnectNetwork(_ name: String, container: String, force: Bool = false) async throws {
        struct Body: Encodable, Sendable {
            var Container: String
            var Force: Bool
        }
        _ = try await post(
            try path("networks", name, "/disconnect"), body: Body(Container: container, Force: force),
            call: "network disconnect", object: name)
    }

    package func removeNetwork(_ name: String) async throws {
        _ = try await send(
            .DELETE, try path("networks", name), call: "network remove", object: name)
    }
}

package struct VolumeDetails: Decodable, Hashable, Sendable {
    package var name: String
    package var mountpoint: String
    package var labels: [String: String]?
    private enum CodingKeys: String, CodingKey {
        case name = "Name"
        case mountpoint = "Mountpoint"
        case labels = "Labels"
    }
}

package struct NetworkDetails: Decodable, Hashable, Sendable {
    package var id: String
    package var name: String
    package var driver: String
    /// RFC 3339; sorts by time.
    package var created: String
    package var options: [String: String]?
    package var labels: [String: String]?
    private enum CodingKeys: String, CodingKey {
        case id = "Id"
        case created = "Created"
        case name = "Name"
        case driver = "Driver"
        case options = "Options"
        case labels = "Labels"
    }
}
