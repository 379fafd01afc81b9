import BerthModel
import FoundationEssentials
package import NIOCore
import NIOHTTP1
import ServiceRuntime
package import WebSocketTransport

/// Makes this host known to a control plane and writes the agent's configuration.
package struct Registration: Sendable {
    package var server: RemoteURL
    /// Token of a user, which may register agents; it is not kept.
    package var userToken: String
    package var name: String
    package var tags: [String]
    package var configurationPath: String
    /// Written into the configuration where the caller chose them.
    package var engine: String?
    package var stateDirectory: String?
    package var caFile: String?
    package var allowPlaintext: Bool

    package init(
        server: RemoteURL, userToken: String, name: String, tags: [String], configurationPath: String, engine: String?,
        stateDirectory: String?, caFile: String?, allowPlaintext: Bool
    ) {
        self.server = server
        self.userToken = userToken
        self.name = name
        self.tags = tags
        self.configurationPath = configurationPath
        self.engine = engine
        self.stateDirectory = stateDirectory
        self.caFile = caFile
        self.allowPlaintext = allowPlaintext
    }

    package struct Registered: Codable, Sendable {
        package var id: String
        package var name: String
        package var config: String
    }

    private struct Request: Encodable {
        var name: String
        var os: String
        var arch: String
        var hostname: String
        var distro: String
        var tags: [String]
    }

    private struct Answer: Decodable {
        var id: String
        var name: String
        var token: String
    }

    /// - Throws: `ProgramFailure` that says what to do.
    package func run(environment: [String: String], group: any EventLoopGroup) async throws -> Registered {
        guard server.isSecure || server.isLoopback || allowPlaintext else {
            throw ProgramFailure(
                .usage,
                "\(server): a token must not travel in the clear; use https://, or --allow-plaintext on a trusted network"
            )
        }
        let facts = HostFacts(stateDirectory: "/").describeWithoutEngine()
        let request = Request(
            name: name, os: facts.os, arch: facts.arch, hostname: facts.hostname, distro: facts.distro, tags: tags)
        var url = server
        url.target = (url.target.hasSuffix("/") ? String(url.target.dropLast()) : url.target) + "/api/agents/register"
        let answer: HTTPAnswer
        do {
            answer = try await HTTPExchange.send(
                .POST, url,
                headers: ["Authorization": "Bearer \(userToken)", "Content-Type": "application/json"],
                body: ByteBuffer(bytes: try JSONCoding.encode(request)),
                options: try .toControlPlane(server, caFile: caFile, environment: environment), group: group)
        } catch let error as ConnectError {
            throw ProgramFailure(.unavailable, "registering at \(server): \(error)")
        }
        guard answer.status == 201, let registered = try? JSONCoding.decode(Answer.self, from: answer.body) else {
            let text = String(decoding: answer.body.readableBytesView.prefix(300), as: UTF8.self)
            let hint = [401, 403].contains(answer.status) ? " (the token needs the scope \"agent\")" : ""
            throw ProgramFailure(.failure, "registering at \(server): answered \(answer.status)\(hint): \(text)")
        }
        try write(registered)
        return Registered(id: registered.id, name: registered.name, config: configurationPath)
    }

    private func write(_ registered: Answer) throws {
        let tokenFile = configurationPath + ".token"
        var agent: [String: JSONValue] = [
            "server": .string(text(of: server)), "agent_id": .string(registered.id), "token_file": .string(tokenFile),
            "name": .string(registered.name), "tags": .array(tags.map { .string($0) }),
        ]
        if let engine { agent["engine"] = .string(engine) }
        if let stateDirectory { agent["state_directory"] = .string(stateDirectory) }
        if let caFile { agent["ca_file"] = .string(caFile) }
        if allowPlaintext { agent["allow_plaintext"] = .bool(true) }
        do {
            if let end = configurationPath.lastIndex(of: "/") {
                try DurableFile.createFolder(String(configurationPath[..<end]), mode: 0o755)
            }
            try DurableFile.write(Data((registered.token + "\n").utf8), to: tokenFile)
            let text = try JSONCoding.encodePretty(["agent": JSONValue.object(agent)])
            try DurableFile.write(Data((text + "\n").utf8), to: configurationPath)
        } catch {
            throw ProgramFailure(
                .noPermission,
                "agent \(registered.id) is registered, but \(error); delete it in the listing and register again with another --config"
            )
        }
    }

    private func text(of url: RemoteURL) -> String {
        url.target == "/" ? String(url.description.dropLast()) : url.description
    }
}
