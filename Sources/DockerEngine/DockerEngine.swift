import FoundationEssentials
package import NIOCore
import NIOHTTP1

/// The Engine API over its Unix socket. Every call has a deadline and an error that names call, object and the Engine's
/// message. Knows Docker, and nothing of what Berth wants of it.
///
/// Reference: https://docs.docker.com/engine/api/v1.41/ — the oldest version that is spoken, up to `newestVersion`.
package struct DockerEngine: Sendable {
    package static let oldestVersion = APIVersion(major: 1, minor: 41)
    package static let newestVersion = APIVersion(major: 1, minor: 47)

    package let endpoint: EngineEndpoint
    package let version: APIVersion
    let connection: EngineConnection

    /// Deadlines by kind of call.
    package struct Deadlines: Sendable {
        /// List, inspect, create, remove: work of the Engine alone.
        package var answer: Duration = .seconds(30)
        /// Inspect of one container can hang while that container's start does.
        package var inspect: Duration = .seconds(10)
        package var start: Duration = .seconds(60)
        /// A pull: until the first byte, between two messages, and in all.
        package var pullFirstByte: Duration = .seconds(30)
        package var pullInactivity: Duration = .seconds(60)
        package var pullTotal: Duration = .seconds(1800)
        package init() {}
    }
    package var deadlines: Deadlines

    init(endpoint: EngineEndpoint, version: APIVersion, connection: EngineConnection, deadlines: Deadlines) {
        self.endpoint = endpoint
        self.version = version
        self.connection = connection
        self.deadlines = deadlines
    }

    /// The same version and group towards another socket, or with other deadlines.
    package init(_ other: DockerEngine, endpoint: EngineEndpoint, deadlines: Deadlines) {
        self.init(
            endpoint: endpoint, version: other.version,
            connection: EngineConnection(endpoint: endpoint, group: other.connection.group), deadlines: deadlines)
    }

    /// Asks the Engine which versions it speaks and takes the newest common one.
    ///
    /// - Throws: `EngineError` of kind `unreachable`, `timedOut` or `incompatible`.
    package static func negotiate(
        _ endpoint: EngineEndpoint, group: any EventLoopGroup, deadlines: Deadlines = .init()
    ) async throws -> DockerEngine {
        let connection = EngineConnection(endpoint: endpoint, group: group)
        let unversioned = DockerEngine(
            endpoint: endpoint, version: oldestVersion, connection: connection, deadlines: deadlines)
        let answer: EngineVersion = try await unversioned.get("/version", call: "version", deadline: .seconds(10))
        guard let newest = APIVersion(answer.apiVersion) else {
            throw EngineError(
                kind: .malformed, call: "version", object: endpoint.description,
                message: "API version \"\(answer.apiVersion.prefix(40))\"")
        }
        let oldest = answer.minAPIVersion.flatMap(APIVersion.init) ?? APIVersion(major: 1, minor: 12)
        let common = min(newest, newestVersion)
        guard common >= oldestVersion, common >= oldest else {
            throw EngineError(
                kind: .incompatible, call: "version", object: endpoint.description,
                message: "the Engine speaks \(oldest) to \(newest), this program \(oldestVersion) to \(newestVersion)")
        }
        return DockerEngine(endpoint: endpoint, version: common, connection: connection, deadlines: deadlines)
    }

    // MARK: the shapes of a call

    func get<Value: Decodable & Sendable>(
        _ target: String, call: String, object: String = "", deadline: Duration? = nil
    ) async throws -> Value {
        let request = EngineConnection.Request(method: .GET, target: target, body: nil, call: call, object: object)
        let answer = try await send(request, deadline: deadline ?? deadlines.answer)
        return try decode(answer.body, call: call, object: object)
    }

    func post<Body: Encodable & Sendable>(
        _ target: String, body: Body, call: String, object: String, deadline: Duration? = nil
    ) async throws -> Answer {
        let request = EngineConnection.Request(
            method: .POST, target: target, body: try Self.encode(body), call: call, object: object)
        return try await send(request, deadline: deadline ?? deadlines.answer)
    }

    /// - Parameter headers: beside those that every call has.
    func post(
        _ target: String, bytes: ByteBuffer, headers: [String: String], call: String, object: String,
        deadline: Duration? = nil
    ) async throws -> Answer {
        let request = EngineConnection.Request(
            method: .POST, target: target, body: bytes, headers: headers, call: call, object: object)
        return try await send(request, deadline: deadline ?? deadlines.answer)
    }

    func send(
        _ method: HTTPMethod, _ target: String, call: String, object: String, deadline: Duration? = nil
    ) async throws -> Answer {
        let request = EngineConnection.Request(method: method, target: target, body: nil, call: call, object: object)
        return try await send(request, deadline: deadline ?? deadlines.answer)
    }

    struct Answer: Sendable {
        var status: Int
        var body: ByteBuffer
    }

    /// Collects an answer of at most 64 MiB. 2xx and 304 are answers; everything else is an error.
    private func send(_ request: EngineConnection.Request, deadline: Duration) async throws -> Answer {
        let late = EngineError(
            kind: .timedOut, call: request.call, object: request.object, message: "after \(deadline)")
        return try await withDeadline(deadline, else: late) {
            try await connection.exchange(request) { head, parts in
                let body = try await Self.collect(&parts, upTo: 64 * 1024 * 1024, request)
                try Self.check(head, body, request)
                return Answer(status: Int(head.status.code), body: body)
            }
        }
    }

    static func check(_ head: HTTPResponseHead, _ body: ByteBuffer, _ request: EngineConnection.Request) throws {
        let status = Int(head.status.code)
        guard (200..<300).contains(status) || status == 304 else {
            throw EngineError(
                kind: .refused(status: status), call: request.call, object: request.object,
                message: EngineMessage.text(of: body))
        }
    }

    static func collect(
        _ parts: inout EngineConnection.Inbound.AsyncIterator, upTo limit: Int, _ request: EngineConnection.Request
    ) async throws -> ByteBuffer {
        var body = ByteBuffer()
        while let part = try await parts.next() {
            switch part {
            case .head: continue
            case .body(var piece):
                guard body.readableBytes + piece.readableBytes <= limit else {
                    throw EngineError(
                        kind: .tooLarge, call: request.call, object: request.object, message: "more than \(limit) bytes"
                    )
                }
                body.writeBuffer(&piece)
            case .end: return body
            }
        }
        try Task.checkCancellation()
        throw EngineError(kind: .cutOff, call: request.call, object: request.object, message: "inside the answer")
    }

    func decode<Value: Decodable>(_ body: ByteBuffer, call: String, object: String) throws -> Value {
        do {
            return try JSONDecoder().decode(Value.self, from: Data(body.readableBytesView))
        } catch {
            throw EngineError(
                kind: .malformed, call: call, object: object, message: String(String(describing: error).prefix(300)))
        }
    }

    static func encode(_ body: some Encodable) throws -> ByteBuffer {
        ByteBuffer(bytes: try JSONEncoder().encode(body))
    }

    func versioned(_ path: String) -> String { "/v\(version)\(path)" }

    /// A name, id or reference from outside as part of a path. What the Engine cannot know anyway is refused here: `..`
    /// or an empty part would lead to another call.
    ///
    /// - Parameter collection: for example `containers`.
    func path(_ collection: String, _ text: String, _ action: String = "") throws -> String {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let isSafe = parts.allSatisfy { part in
            !part.isEmpty && part != "." && part != ".."
                && part.utf8.allSatisfy { byte in
                    switch byte {
                    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                        UInt8(ascii: ":"), UInt8(ascii: "@"):
                        true
                    default: false
                    }
                }
        }
        guard isSafe, text.utf8.count <= 1024 else {
            throw EngineError(
                kind: .refused(status: 400), call: collection, object: String(text.prefix(80)).debugDescription,
                message: "not a name that the Engine can know")
        }
        return versioned("/\(collection)/\(text)\(action)")
    }
}

/// A version of the Engine API.
package struct APIVersion: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let major: Int
    package let minor: Int

    package init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Nil where `text` is not two numbers with a point between.
    package init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count == 2, let major = parts[0], let minor = parts[1], major >= 0, minor >= 0 else { return nil }
        self.init(major: major, minor: minor)
    }

    package var description: String { "\(major).\(minor)" }
    package static func < (left: Self, right: Self) -> Bool { (left.major, left.minor) < (right.major, right.minor) }
}
