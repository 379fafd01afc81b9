import Crypto
import Foundation
import NIOHTTP1
import ServiceRuntime
import Testing

/// Tokens of an OpenID Connect issuer: keys made here, an issuer that serves them from a folder.
@Suite struct Issuers {
    private struct Issuer {
        let folder: TemporaryFolder
        let program: RunningProgram
        let url: String
        let key = P256.Signing.PrivateKey()

        init() async throws {
            folder = try TemporaryFolder()
            let log = folder.file("log")
            program = try RunningProgram(
                "/usr/bin/python3",
                ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", folder.path],
                environment: [:], output: log)
            let program = program
            let port = try await eventually("the issuer listens", within: 20) {
                program.output.components(separatedBy: " port ").dropFirst().first.flatMap {
                    Int($0.prefix { $0.isNumber })
                }
            }
            url = "http://127.0.0.1:\(port)"
            try FileManager.default.createDirectory(
                atPath: folder.file(".well-known"), withIntermediateDirectories: true)
            try write(
                ".well-known/openid-configuration", ["issuer": .string(url), "jwks_uri": .string(url + "/keys")])
            try publish([("one", key)])
        }

        func write(_ name: String, _ fields: [String: JSONValue]) throws {
            try JSONCoding.encode(JSONValue.object(fields)).write(to: URL(fileURLWithPath: folder.file(name)))
        }

        func publish(
            _ keys: [(String, P256.Signing.PrivateKey)], saysAlgorithm: Bool = true, more: [JSONValue] = []
        ) throws {
            let entries = keys.map { kid, key in
                let point = key.publicKey.x963Representation.dropFirst()
                return JSONValue.object([
                    "kty": .string("EC"), "crv": .string("P-256"), "use": .string("sig"),
                    saysAlgorithm ? "alg" : "x-none": .string("ES256"),
                    "kid": .string(kid), "x": .string(base64(point.prefix(32))), "y": .string(base64(point.suffix(32))),
                ])
            }
            try write("keys", ["keys": .array(entries + more)])
        }

        func claims(_ change: [String: JSONValue?] = [:]) -> [String: JSONValue] {
            let now = Int(Date().timeIntervalSince1970)
            var claims: [String: JSONValue] = [
                "iss": .string(url), "sub": .string("user-1"), "aud": .string("berth"), "exp": .integer(now + 300),
                "iat": .integer(now), "preferred_username": .string("ada"), "email": .string("ada@example.com"),
            ]
            for (key, value) in change { claims[key] = value }
            return claims
        }

        func token(
            _ claims: [String: JSONValue], kid: String = "one", algorithm: String = "ES256",
            key other: P256.Signing.PrivateKey? = nil
        ) throws -> String {
            let head = JSONValue.object(["alg": .string(algorithm), "typ": .string("JWT"), "kid": .string(kid)])
            let text =
                base64(try JSONCoding.encode(head)) + "." + base64(try JSONCoding.encode(JSONValue.object(claims)))
            let signature = try (other ?? key).signature(for: Data(text.utf8)).rawRepresentation
            return text + "." + base64(signature)
        }
    }

    private static func serve(_ issuer: Issuer) async throws -> (
        TestControlPlane, @Sendable (String) async -> APIClient
    ) {
        let url = issuer.url
        let controlPlane = try await TestControlPlane { _ in
            ["BERTH_OIDC_ISSUER": url, "BERTH_OIDC_AUDIENCE": "berth", "BERTH_OIDC_TIER": "pro"]
        }
        let port = await controlPlane.port
        return (controlPlane, { APIClient(port: port, token: $0) })
    }

    @Test func `a token of the issuer is a user, the same one each time, who may what its scope says`() async throws {
        let issuer = try await Issuer()
        let (controlPlane, client) = try await Self.serve(issuer)
        let ada = await client(try issuer.token(issuer.claims()))
        let profile = try await ada.call(.GET, "/api/profile")
        #expect(profile.status == 200, "\(profile)")
        let user = try #require(profile.body["user"])
        #expect(user["username"]?.text == "ada" && user["tier"]?.text == "pro" && user["is_admin"] == .bool(false))
        #expect(try await ada.call(.POST, "/api/containers", #"{"image":"alpine"}"#).status == 202)
        let again = await client(
            try issuer.token(issuer.claims(["aud": .array([.string("x"), .string("berth")]), "nbf": .integer(0)])))
        #expect(try await again.call(.GET, "/api/profile").body["user"]?["id"] == user["id"])
        #expect(try await again.call(.GET, "/api/containers").body["count"] == .integer(1))
        // Another subject under the same name is another user.
        let other = await client(try issuer.token(issuer.claims(["sub": .string("user-2")])))
        let otherUser = try await other.call(.GET, "/api/profile").body["user"]
        #expect(
            otherUser?["id"] != user["id"] && otherUser?["username"]?.text != "ada", "\(String(describing: otherUser))")

        let reader = await client(try issuer.token(issuer.claims(["scope": .string("openid berth:read berth:admin")])))
        #expect(try await reader.call(.GET, "/api/containers").status == 200)
        #expect(try await reader.call(.POST, "/api/containers", #"{"image":"alpine"}"#).status == 403)
        #expect(try await reader.call(.GET, "/api/audit").status == 403, "nobody becomes an administrator by a claim")
        // Events too.
        let seen = try await ada.events(within: 10, opened: {}, until: { _ in true })
        #expect(seen.first?["type"]?.text == "list")
        try await controlPlane.stop()
        try await issuer.program.killHard()
    }

    @Test func `what is not the issuer's, not for us, or not of this time is refused`() async throws {
        let issuer = try await Issuer()
        // Beside keys of other kinds, and a secret that everybody can read.
        let secret = base64(Data("secret".utf8))
        try issuer.publish(
            [("one", issuer.key)],
            more: [
                .object([
                    "kty": .string("oct"), "kid": .string("shared"), "k": .string(secret), "alg": .string("HS256"),
                ]),
                .object(["kty": .string("new kind"), "kid": .string("two")]), .string("no key"), .null,
            ])
        let (controlPlane, client) = try await Self.serve(issuer)
        let now = Int(Date().timeIntervalSince1970)
        func status(_ token: String) async throws -> Int { try await client(token).call(.GET, "/api/profile").status }
        #expect(try await status(try issuer.token(issuer.claims())) == 200)
        #expect(
            try await status(try issuer.token(issuer.claims(["exp": .integer(now - 30)]))) == 200, "within the skew")
        let wrong: [(String, [String: JSONValue?])] = [
            ("expired", ["exp": .integer(now - 120)]), ("without an end", ["exp": nil]),
            ("not yet", ["nbf": .integer(now + 300)]), ("issued later", ["iat": .integer(now + 300)]),
            ("for others", ["aud": .string("else")]), ("for nobody", ["aud": nil]),
            ("of another", ["iss": .string("http://evil.example")]), ("without a subject", ["sub": .string("")]),
            ("with a wild end", ["exp": .string("never")]), ("endless", ["exp": .number(1e300), "iss": nil]),
        ]
        for (what, change) in wrong {
            #expect(try await status(try issuer.token(issuer.claims(change))) == 401, "\(what)")
        }
        let good = try issuer.token(issuer.claims())
        let parts = good.split(separator: ".").map(String.init)
        let admin = base64(try JSONCoding.encode(JSONValue.object(issuer.claims(["sub": .string("user-9")]))))
        let none = base64(Data(#"{"alg":"none","kid":"one"}"#.utf8))
        let shared = base64(Data(#"{"alg":"HS256","kid":"shared"}"#.utf8))
        let mac = HMAC<SHA256>.authenticationCode(
            for: Data("\(shared).\(parts[1])".utf8), using: SymmetricKey(data: Data("secret".utf8)))
        let stranger = P256.Signing.PrivateKey()
        for token in [
            "\(parts[0]).\(admin).\(parts[2])", "\(none).\(parts[1]).", "\(none).\(parts[1]).\(parts[2])",
            "\(shared).\(parts[1]).\(base64(Data(mac)))", try issuer.token(issuer.claims(), key: stranger),
            try issuer.token(issuer.claims(), kid: "unknown"), try issuer.token(issuer.claims(), kid: ""),
            "..", "a.b.c", good + ".x", String(good.dropLast(4)), String(repeating: "a.", count: 5000),
        ] {
            #expect(try await status(token) == 401, "\(token.prefix(60))")
        }
        try await controlPlane.stop()
        try await issuer.program.killHard()
    }

    @Test func `a key that leaves its algorithm open is not bound to what a stranger's token says`() async throws {
        let issuer = try await Issuer()
        try issuer.publish([("one", issuer.key)], saysAlgorithm: false)
        let (controlPlane, client) = try await Self.serve(issuer)
        for algorithm in ["ES384", "ES512", "PS512", "none", "HS256"] {
            let strange = try issuer.token(issuer.claims(), algorithm: algorithm)
            #expect(try await client(strange).call(.GET, "/api/profile").status == 401, "\(algorithm)")
        }
        #expect(try await client(try issuer.token(issuer.claims())).call(.GET, "/api/profile").status == 200)
        try await controlPlane.stop()
        try await issuer.program.killHard()
    }

    @Test func `an issuer that is away locks nobody out whose key is known`() async throws {
        let issuer = try await Issuer()
        let (controlPlane, client) = try await Self.serve(issuer)
        #expect(try await client(try issuer.token(issuer.claims())).call(.GET, "/api/profile").status == 200)
        try await issuer.program.killHard()
        #expect(try await client(try issuer.token(issuer.claims())).call(.GET, "/api/profile").status == 200)
        #expect(
            try await client(try issuer.token(issuer.claims(), kid: "two")).call(.GET, "/api/profile").status == 401)
        // Our own tokens have nothing to do with it.
        #expect(try await controlPlane.client().call(.GET, "/api/profile").status == 200)
        try await controlPlane.stop()
    }
}

private func base64(_ data: some DataProtocol) -> String {
    Data(data).base64EncodedString().replacingOccurrences(of: "+", with: "-")
        .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
}
