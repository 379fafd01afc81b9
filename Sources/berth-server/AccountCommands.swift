import ArgumentParser
import BerthModel
import ControlPlane
import ControlPlaneCore
import ControlPlaneStore
import ServiceRuntime

struct User: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Manages users.", subcommands: [Create.self, List.self, SetTier.self, ResetMFA.self])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Creates a user; works while the server runs.")

        @OptionGroup var common: CommonOptions
        @Option(help: "Unique name.")
        var name: String
        @Option(help: "guest, free, pro or enterprise.")
        var tier: String = "free"
        @Option(help: "E-mail address.")
        var email: String = ""
        @Flag(help: "Make the user an administrator.")
        var admin = false
        @Flag(help: "Print the user as JSON.")
        var json = false

        func run() async throws {
            guard let tier = Tier(rawValue: tier) else {
                let allowed = Tier.allCases.map(\.rawValue).joined(separator: ", ")
                throw ProgramFailure(.usage, "--tier: found \"\(self.tier)\", expected one of \(allowed)")
            }
            guard (1...128).contains(name.utf8.count) else {
                throw ProgramFailure(.usage, "--name: expected 1 to 128 bytes of text")
            }
            let store = try await common.openStore()
            let user = UserRecord(id: Secrets.newUserID(), name: name, email: email, tier: tier, isAdmin: admin)
            guard try await store.create(user, now: Timestamp.now()) == .created else {
                throw ProgramFailure(.failure, "a user named \"\(name)\" exists already")
            }
            await common.note("user create", user.id, in: store)
            let fields: [String: JSONValue] = [
                "id": .string(user.id), "name": .string(name), "email": .string(email), "tier": .string(tier.rawValue),
                "is_admin": .bool(admin),
            ]
            ProgramEnvironment.printLine(
                json ? try JSONCoding.encodePretty(fields) : "user \(name) created: \(user.id), tier \(tier.rawValue)")
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Lists all users.")

        @OptionGroup var common: CommonOptions
        @Flag(help: "Print them as JSON.")
        var json = false

        func run() async throws {
            let users = try await common.openStore().users()
            guard !json else {
                let entries = users.map { user in
                    JSONValue.object([
                        "id": .string(user.id), "name": .string(user.name), "email": .string(user.email),
                        "tier": .string(user.tier.rawValue), "is_admin": .bool(user.isAdmin),
                    ])
                }
                return ProgramEnvironment.printLine(try JSONCoding.encodePretty(entries))
            }
            for user in users {
                ProgramEnvironment.printLine(
                    "\(user.name.printable)  \(user.id)  \(user.tier.rawValue)\(user.isAdmin ? "  administrator" : "")")
            }
        }
    }

    struct SetTier: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: """
                Gives a user another tier; containers that exist keep their limits, and the end of their session until \
                they are started anew.
                """)

        @OptionGroup var common: CommonOptions
        @Option(help: "Name of the user.")
        var name: String
        @Option(help: "guest, free, pro or enterprise.")
        var tier: String
        @OptionGroup var output: JSONOption

        func run() async throws {
            guard let wanted = Tier(rawValue: tier) else {
                let allowed = Tier.allCases.map(\.rawValue).joined(separator: ", ")
                throw ProgramFailure(.usage, "--tier: found \"\(tier)\", expected one of \(allowed)")
            }
            let store = try await common.openStore()
            guard try await store.setTier(wanted, ofUserNamed: name) else {
                throw ProgramFailure(.failure, "there is no user named \"\(name)\"; berth-server user list shows all")
            }
            await common.note("user set-tier", "\(name) \(tier)", in: store)
            try output.say("user \(name) has the tier \(tier)", ["name": .string(name), "tier": .string(tier)])
        }
    }

    struct ResetMFA: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reset-mfa",
            abstract: "Takes away a user's second factor and all that it locks, for who has lost it.")

        @OptionGroup var common: CommonOptions
        @Option(help: "Name of the user.")
        var name: String
        @OptionGroup var output: JSONOption

        func run() async throws {
            let store = try await common.openStore()
            guard try await store.resetSecondFactor(ofUserNamed: name) else {
                throw ProgramFailure(.failure, "there is no user named \"\(name)\"; berth-server user list shows all")
            }
            await common.note("user reset-mfa", name, in: store)
            try output.say(
                "user \(name) has no second factor, and nothing of theirs is locked",
                ["name": .string(name), "mfa_enabled": .bool(false)])
        }
    }
}

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Manages tokens.", subcommands: [Create.self, List.self, Revoke.self])

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Creates a token and prints it, once; works while the server runs.")

        @OptionGroup var common: CommonOptions
        @Option(help: "Name of the user.")
        var user: String
        @Option(help: "read, write, agent, admin; with commas between.")
        var scopes: String = "read,write"
        @Option(help: "What it is for.")
        var name: String = "token"
        @Option(help: "Days until it expires; never if not given.")
        var expiresIn: Int?
        @Flag(help: "Print the token as JSON.")
        var json = false

        func run() async throws {
            let words = scopes.split(separator: ",").map(String.init)
            let wanted = Set(words.compactMap(Scope.init))
            guard !wanted.isEmpty, wanted.count == Set(words).count else {
                let allowed = Scope.allCases.map(\.rawValue).joined(separator: ", ")
                throw ProgramFailure(
                    .usage, "--scopes: found \"\(scopes)\", expected some of \(allowed), with commas between")
            }
            if let expiresIn, !(1...3650).contains(expiresIn) {
                throw ProgramFailure(.usage, "--expires-in: found \(expiresIn), expected 1 to 3650 days")
            }
            let store = try await common.openStore()
            let owner = try await Token.owner(user, store)
            if wanted.contains(.admin), !owner.isAdmin {
                throw ProgramFailure(
                    .failure, "\"\(user)\" is no administrator, so a token with the scope admin would be of no use")
            }
            let (token, text) = TokenIssue.token(for: owner, name: name, scopes: wanted, days: expiresIn)
            try await store.create(token, hash: Secrets.hash(text))
            await common.note("token create", token.id, in: store)
            let fields: [String: JSONValue] = [
                "id": .string(token.id), "token": .string(text), "user_id": .string(owner.id),
                "user": .string(owner.name),
                "scopes": .array(token.scopes.map(\.rawValue).sorted().map { .string($0) }),
                "expires_at": token.expiresAt.map { .string(Timestamp.text(seconds: $0)) } ?? .null,
            ]
            ProgramEnvironment.printLine(json ? try JSONCoding.encodePretty(fields) : text)
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists the valid tokens of a user, without their text.")

        @OptionGroup var common: CommonOptions
        @Option(help: "Name of the user.")
        var user: String
        @Flag(help: "Print them as JSON.")
        var json = false

        func run() async throws {
            let store = try await common.openStore()
            let tokens = try await store.tokens(of: try await Token.owner(user, store).id)
            guard !json else {
                let entries = tokens.map { token in
                    JSONValue.object([
                        "id": .string(token.id), "name": .string(token.name), "prefix": .string(token.prefix),
                        "scopes": .array(token.scopes.map(\.rawValue).sorted().map { .string($0) }),
                        "expires_at": token.expiresAt.map { .string(Timestamp.text(seconds: $0)) } ?? .null,
                        "last_used_at": token.lastUsedAt.map { .string(Timestamp.text(seconds: $0)) } ?? .null,
                    ])
                }
                return ProgramEnvironment.printLine(try JSONCoding.encodePretty(entries))
            }
            for token in tokens {
                let scopes = token.scopes.map(\.rawValue).sorted().joined(separator: ",")
                ProgramEnvironment.printLine("\(token.id)  \(token.prefix)…  \(scopes)  \(token.name.printable)")
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes a token void at once; open event streams of it end within a second.")

        @OptionGroup var common: CommonOptions
        @Option(help: "Name of the user.")
        var user: String
        @Argument(help: "The token's id, as token list shows it.")
        var id: String
        @OptionGroup var output: JSONOption

        func run() async throws {
            let store = try await common.openStore()
            let owner = try await Token.owner(user, store)
            guard try await store.revokeToken(id, of: owner.id, now: Timestamp.now()) else {
                throw ProgramFailure(
                    .failure, "\"\(user)\" has no valid token \(id); berth-server token list shows all")
            }
            await common.note("token revoke", id, in: store)
            try await ControlPlaneService.announceRevocation(of: id, in: store)
            try output.say("token \(id) is void", ["id": .string(id), "valid": .bool(false)])
        }
    }

    fileprivate static func owner(_ name: String, _ store: Store) async throws -> UserRecord {
        guard let owner = try await store.user(named: name) else {
            throw ProgramFailure(.failure, "there is no user named \"\(name)\"; berth-server user create makes one")
        }
        return owner
    }
}

extension String {
    /// For a terminal: names come from strangers.
    fileprivate var printable: String {
        String(unicodeScalars.map { $0.properties.generalCategory == .control ? "\u{FFFD}" : Character($0) })
    }
}
