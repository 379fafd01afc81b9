import FoundationEssentials
package import NIOCore
import NIOHTTP1

extension DockerEngine {
    /// Pulls `reference` and hands every message of the Engine to `progress`.
    ///
    /// Deadlines: first byte, inactivity, total. An error inside the stream is an error of the call; a stream that
    /// ends early too. A reference without tag or digest means `latest`, never all tags.
    ///
    /// - Parameter credentials: the Engine's `X-Registry-Auth`.
    package func pullImage(
        _ reference: String, credentials: String? = nil,
        progress: @escaping @Sendable (PullMessage) async throws -> Void
    ) async throws {
        var query = QueryItems()
        query.add("fromImage", reference)
        if !Self.hasTagOrDigest(reference) { query.add("tag", "latest") }
        let request = EngineConnection.Request(
            method: .POST, target: query.target(versioned("/images/create")), body: nil,
            headers: credentials.map { ["X-Registry-Auth": $0] } ?? [:], call: "image pull", object: reference)
        let (firstByte, inactivity) = (deadlines.pullFirstByte, deadlines.pullInactivity)
        let late: @Sendable (String) -> EngineError = {
            EngineError(kind: .timedOut, call: "image pull", object: reference, message: $0)
        }
        try await withDeadline(deadlines.pullTotal, else: late("in \(deadlines.pullTotal)")) {
            let watch = SilenceWatch(limit: firstByte)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await watch.expire()
                    throw late("nothing heard for \(await watch.limit)")
                }
                group.addTask {
                    try await stream(request, JSONLineDecoder()) { line in
                        await watch.heard(nextLimit: inactivity)
                        let message: PullMessage = try decode(line, call: "image pull", object: reference)
                        if let failure = message.error {
                            throw EngineError(
                                kind: .pullFailed, call: "image pull", object: reference, message: failure)
                        }
                        try await progress(message)
                    }
                }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
    }

    package func inspectImage(_ reference: String) async throws -> ImageDetails {
        try await get(path("images", reference, "/json"), call: "image inspect", object: reference)
    }

    /// Makes an image of one layer from a tar archive.
    package func importImage(tar: ByteBuffer, repository: String, tag: String) async throws {
        var query = QueryItems()
        query.add("fromSrc", "-")
        query.add("repo", repository)
        query.add("tag", tag)
        _ = try await post(
            query.target(versioned("/images/create")), bytes: tar, headers: ["Content-Type": "application/x-tar"],
            call: "image import", object: "\(repository):\(tag)")
    }

    package func removeImage(_ reference: String) async throws {
        _ = try await send(
            .DELETE, try path("images", reference), call: "image remove", object: reference)
    }

    static func hasTagOrDigest(_ reference: String) -> Bool {
        if reference.contains("@") { return true }
        // A colon in the first component is a registry's port.
        return reference.split(separator: "/", omittingEmptySubsequences: false).last?.contains(":") ?? false
    }
}

/// Ends a stream that has fallen silent. Time passes in sleeps that are renewed, so that hearing something costs no task.
private actor SilenceWatch {
    private(set) var limit: Duration
    private var lastHeard = ContinuousClock.now

    init(limit: Duration) { self.limit = limit }

    func heard(nextLimit: Duration) {
        lastHeard = .now
        limit = nextLimit
    }

    /// Returns when nothing was heard for the limit.
    func expire() async throws {
        while true {
            let due = lastHeard + limit
            if due <= .now { return }
            try await Task.sleep(until: due, clock: .continuous)
        }
    }
}

/// One message of a pull.
package struct PullMessage: Decodable, Hashable, Sendable {
    package struct Detail: Decodable, Hashable, Sendable {
        package var current: Int?
        package var total: Int?
        package init(current: Int?, total: Int?) {
            self.current = current
            self.total = total
        }
    }

    /// `Downloading`, `Extracting`, `Pull complete`, `Already exists`, …
    package var status: String?
    /// The layer, where the message is about one.
    package var id: String?
    package var progressDetail: Detail?
    package var error: String?

    package init(status: String?, id: String?, progressDetail: Detail?, error: String? = nil) {
        self.status = status
        self.id = id
        self.progressDetail = progressDetail
        self.error = error
    }
}

/// Answer of an image inspect; the fields that are used.
package struct ImageDetails: Decodable, Hashable, Sendable {
    package struct Layers: Decodable, Hashable, Sendable {
        package var layers: [String]?
        private enum CodingKeys: String, CodingKey { case layers = "Layers" }
    }
    package var id: String
    package var repoDigests: [String]?
    package var size: Int
    package var rootFS: Layers?
    package var configuration: Configuration?

    package struct Configuration: Decodable, Hashable, Sendable {
        /// Paths at which the image declares volumes.
        package var volumes: [String: Empty]?
        package struct Empty: Decodable, Hashable, Sendable {}
        private enum CodingKeys: String, CodingKey { case volumes = "Volumes" }
    }

    private enum CodingKeys: String, CodingKey {
        case id = "Id"
        case repoDigests = "RepoDigests"
        case size = "Size"
        case rootFS = "RootFS"
        case configuration = "Config"
    }
}
