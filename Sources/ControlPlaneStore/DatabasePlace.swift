/// Where the control plane keeps its truth.
package enum DatabasePlace: Hashable, Sendable, CustomStringConvertible {
    /// One file; for one control plane.
    case sqlite(path: String)
    /// A server, by its address in libpq's form; for one control plane or several.
    case postgres(address: String, connections: Int)

    package static let expected = "sqlite: and a path, or postgresql:// and where the server is"

    /// - Parameter connections: at most so many to a server.
    /// - Returns: nil for what is neither.
    package init?(_ text: String, connections: Int) {
        if text.hasPrefix("sqlite:"), text.utf8.count > "sqlite:".utf8.count {
            self = .sqlite(path: String(text.dropFirst("sqlite:".count)))
        } else if text.hasPrefix("postgresql://") || text.hasPrefix("postgres://") {
            self = .postgres(address: text, connections: connections)
        } else {
            return nil
        }
    }

    /// For people and logs: nothing of an address that could be a part of a password.
    package var description: String {
        switch self {
        case .sqlite(let path): return "sqlite:\(path)"
        case .postgres(let address, _):
            guard let parsed = try? PostgresAddress(address) else { return "postgresql:" }
            return "postgresql://\(parsed.host)\(parsed.port.isEmpty ? "" : ":\(parsed.port)")/\(parsed.database)"
        }
    }

    /// - Throws: what is wrong with it, without asking a server.
    package func check() throws {
        if case .postgres(let address, _) = self { _ = try PostgresAddress(address) }
    }
}
