import AsyncHTTPClient
import ControlPlaneCore
import Foundation
import JWTKit
import Logging
import NIOCore
import NIOHTTP1
import ServiceRuntime

/// Tokens of an OpenID Connect issuer. Its keys are fetched when one is needed that is not known, at most twice a minute,
/// and kept: an issuer that is away locks nobody out whose key is known.
actor TokenIssuer {
    struct Settings: Hashable, Sendable {
        var issuer: String
        var audience: String
        /// Of users that are seen for the first time.
        var tier: Tier
        /// Seconds that the clocks of issuer and control plane may differ.
        var skew: Double
    }

    struct Identity: Hashable, Sendable {
        var subject: String
        var name: String
        var email: String
        var scopes: Set<Scope>
        var expiresAt: Double
    }

    nonisolated let name: String
    nonisolated let tier: Tier
    private let settings: Settings
    private let log: Logger
    /// By its id, with the one algorithm that it is for.
    private var keys: [String: (key: JWTKeyCollection, algorithm: String)] = [:]
    private var fetchedAt: ContinuousClock.Instant?
    private var fetching: Task<Void, Never>?

    /// What the issuer withdraws is void after this.
    private static let keepFor = Duration.seconds(3600)
    private static let fetchAgainAfter = Duration.seconds(30)
    private static let fetchTimeout = TimeAmount.seconds(10)
    private static let mostBytes = 1024 * 1024
    private static let longestToken = 16 * 1024

    init(_ settings: Settings, log: Logger) {
        self.settings = settings
        self.log = log
        name = settings.issuer
        tier = settings.tier
    }

    /// Nil where the token is not the issuer's, not for this audience, or not of this time.
    func identity(_ text: String, now: Double = Timestamp.now()) async -> Identity? {
        guard text.utf8.count <= Self.longestToken, let head = Self.head(text) else { return nil }
        let isOld = fetchedAt.map { $0.duration(to: .now) >= Self.keepFor } ?? true
        if keys[head.kid] == nil || isOld { await fetch() }
        guard let (key, algorithm) = keys[head.kid], head.algorithm == algorithm else { return nil }
        do {
            let claims = try await key.verify(text, as: Claims.self)
            guard claims.iss == settings.issuer, claims.aud.values.contains(settings.audience),
                (1...255).contains(claims.sub.utf8.count), !claims.sub.utf8.contains(0), claims.exp.isFinite,
                now < claims.exp + settings.skew,
                (claims.nbf ?? 0) <= now + settings.skew, (claims.iat ?? 0) <= now + settings.skew
            else { return nil }
            let ours = (claims.scope ?? "").split(separator: " ").filter { $0.hasPrefix("berth:") }
            let granted = Set(ours.compactMap { Scope(rawValue: String($0.dropFirst("berth:".count))) })
            // Administrators are made here and nowhere else.
            let scopes = ours.isEmpty ? [.read, .write, .agent] : granted.subtracting([.admin])
            return Identity(
                subject: claims.sub, name: claims.preferredUsername ?? claims.email ?? claims.sub,
                email: String((claims.email ?? "").prefix(254)), scopes: scopes, expiresAt: claims.exp)
        } catch {
            log.debug("token of the issuer refused", metadata: ["error": "\(error)"])
            return nil
        }
    }

    private struct Claims: JWTPayload {
        var iss: String
        var sub: String
        var aud: Audience
        var exp: Double
        var nbf: Double?
        var iat: Double?
        var scope: String?
        var email: String?
        var preferredUsername: String?

        enum CodingKeys: String, CodingKey {
            case iss, sub, aud, exp, nbf, iat, scope, email
            case preferredUsername = "preferred_username"
        }

        /// What is claimed is checked where the settings are known.
        func verify(using algorithm: some JWTAlgorithm) async throws {}
    }

    /// One or several.
    private struct Audience: Codable {
        var values: [String]

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            values = try (try? [container.decode(String.self)]) ?? container.decode([String].self)
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode(values)
        }
    }

    // MARK: keys

    /// From the head, which nothing vouches for: it only chooses which of the issuer's keys must fit.
    private static func head(_ text: String) -> (kid: String, algorithm: String)? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3 else { return nil }
        var head = parts[0].replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
        head += String(repeating: "=", count: (4 - head.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: head),
            let fields = try? JSONCoding.decode(JSONValue.self, from: data), let kid = fields["kid"]?.text,
            (1...255).contains(kid.utf8.count), let algorithm = fields["alg"]?.text
        else { return nil }
        return (kid, algorithm)
    }

    /// Those who come while it is under way wait for the same answer.
    private func fetch() async {
        if let fetching { return await fetching.value }
        if let fetchedAt, fetchedAt.duration(to: .now) < Self.fetchAgainAfter { return }
        fetchedAt = .now
        let task = Task { await self.fetchKeys() }
        fetching = task
        await task.value
        fetching = nil
    }

    private func fetchKeys() async {
        do {
            let base = settings.issuer.hasSuffix("/") ? String(settings.issuer.dropLast()) : settings.issuer
            let about = try await get(base + "/.well-known/openid-configuration")
            guard about["issuer"]?.text == settings.issuer, let place = about["jwks_uri"]?.text else {
                throw Problem(description: "the issuer's configuration names another issuer, or no jwks_uri")
            }
            guard case .array(let list)? = try await get(place)["keys"] else {
                throw Problem(description: "\(place) holds no keys")
            }
            var found: [String: (key: JWTKeyCollection, algorithm: String)] = [:]
            for entry in list.prefix(100).map(Self.bound) {
                // Keys of kinds that are not known here are others' business.
                guard let kid = entry["kid"]?.text, (entry["use"]?.text ?? "sig") == "sig",
                    // A shared secret among public keys would let everybody sign.
                    entry["kty"]?.text != "oct",
                    let jwk = try? JSONCoding.decode(JWK.self, from: try JSONCoding.encode(entry)),
                    let algorithm = entry["alg"]?.text,
                    let key = try? await JWTKeyCollection().add(jwk: jwk)
                else { continue }
                found[kid] = (key, algorithm)
            }
            keys = found
            log.info(
                "keys of the issuer fetched", metadata: ["issuer": "\(settings.issuer)", "keys": "\(found.count)"])
        } catch {
            log.warning(
                "keys of the issuer cannot be fetched",
                metadata: ["issuer": "\(settings.issuer)", "error": "\(error)"])
        }
    }

    /// With its algorithm: a key that leaves it open would be bound to whatever the first token says, also a stranger's.
    private static func bound(_ key: JSONValue) -> JSONValue {
        guard case .object(var fields) = key, fields["alg"] == nil else { return key }
        switch (fields["kty"]?.text, fields["crv"]?.text) {
        case ("RSA", _): fields["alg"] = .string("RS256")
        case ("EC", "P-256"): fields["alg"] = .string("ES256")
        case ("EC", "P-384"): fields["alg"] = .string("ES384")
        case ("EC", "P-521"): fields["alg"] = .string("ES512")
        case ("OKP", _): fields["alg"] = .string("EdDSA")
        default: fields["kty"] = .string("unknown")
        }
        return .object(fields)
    }

    private struct Problem: Error, CustomStringConvertible { var description: String }

    private func get(_ url: String) async throws -> JSONValue {
        let response = try await HTTPClient.shared.execute(
            HTTPClientRequest(url: url), timeout: Self.fetchTimeout)
        guard response.status == .ok else { throw Problem(description: "\(url) answers \(response.status.code)") }
        return try JSONCoding.decode(JSONValue.self, from: try await response.body.collect(upTo: Self.mostBytes))
    }
}
