import DockerEngine

/// The bridge that all containers of this host's agents are on: from it they reach the outside and not each other. Made
/// when it is needed, and again where somebody has removed it.
actor IsolatedNetwork {
    static let name = "berth"
    private static let isolation = "com.docker.network.bridge.enable_icc"

    /// All who need it wait for one and the same making.
    private var making: Task<Void, any Error>?

    /// - Throws: `EngineError`; also where a network of that name lets its containers reach each other.
    func ensure(_ engine: DockerEngine) async throws {
        if making == nil { making = Task { try await Self.make(engine) } }
        do {
            try await making?.value
        } catch {
            making = nil
            throw error
        }
    }

    /// What is known of it is not so, or may not be so any more.
    func forget() { making = nil }

    private static func make(_ engine: DockerEngine) async throws {
        if try await find(engine).isEmpty {
            do {
                _ = try await engine.createNetwork(
                    name: name, options: [isolation: "false"], labels: ["berth.network": "isolated"])
            } catch let error as EngineError where error.status == 409 {
                // Another agent was faster.
            }
        }
        // The Engine lets two that race make two of one name, and then starts nothing on either: the first one stays.
        var found = try await find(engine).sorted { ($0.created, $0.id) < ($1.created, $1.id) }
        if !found.isEmpty { try check(found.removeFirst()) }
        for surplus in found where surplus.labels?["berth.network"] == "isolated" {
            // Refused where a container is on it; another agent may have been faster.
            try? await engine.removeNetwork(surplus.id)
        }
    }

    private static func find(_ engine: DockerEngine) async throws -> [NetworkDetails] {
        try await engine.listNetworks(filters: ["name": ["^\(name)$"]]).filter { $0.name == name }
    }

    private static func check(_ network: NetworkDetails) throws {
        guard network.driver == "bridge", network.options?[isolation] == "false" else {
            throw EngineError(
                kind: .refused(status: 400), call: "network inspect", object: name,
                message: "a network \"\(name)\" is there that is not an isolated bridge; remove it, and it is made anew"
            )
        }
    }
}
