/// A Docker image reference in its parts, with what the short forms leave out: `alpine` is
/// `docker.io/library/alpine:latest`.
package struct ImageReference: Hashable, Sendable, CustomStringConvertible {
    package var registry: String
    package var repository: String
    /// Nil where there is a digest and no tag.
    package var tag: String?
    /// `sha256:…`
    package var digest: String?

    package static let dockerHub = "docker.io"

    /// - Returns: nil where a part is empty or holds a blank. The grammar of the parts is the Engine's.
    package init?(_ text: String) {
        guard !text.isEmpty, !text.contains(where: \.isWhitespace) else { return nil }
        let halves = text.split(separator: "@", omittingEmptySubsequences: false)
        guard halves.count <= 2, !halves[0].isEmpty else { return nil }
        digest = halves.count == 2 ? String(halves[1]) : nil
        var parts = halves[0].split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        // Only what looks like a host is one: `team/app` is a repository of the default registry.
        if parts.count > 1, Self.isHost(parts[0]) {
            let host = parts.removeFirst()
            registry = host == "index.docker.io" ? Self.dockerHub : host
        } else {
            registry = Self.dockerHub
        }
        var last = parts.removeLast()
        if let colon = last.firstIndex(of: ":") {
            tag = String(last[last.index(after: colon)...])
            last = String(last[..<colon])
        } else {
            tag = digest == nil ? "latest" : nil
        }
        parts.append(last)
        if registry == Self.dockerHub, parts.count == 1 { parts.insert("library", at: 0) }
        repository = parts.joined(separator: "/")
        if parts.contains("") || tag == "" || digest == "" || registry.isEmpty { return nil }
    }

    /// As the Engine tells a host from the first part of a repository's name.
    private static func isHost(_ part: String) -> Bool {
        part.contains(".") || part.contains(":") || part == "localhost" || part != part.lowercased()
    }

    /// True where the Engine would take it for the id of an image, which is of no registry and by no name.
    package static func mayBeID(_ text: String) -> Bool {
        let digits = text.hasPrefix("sha256:") ? text.dropFirst("sha256:".count) : Substring(text)
        return !digits.isEmpty && digits.utf8.count <= 64 && digits.allSatisfy { $0.isHexDigit }
    }

    /// Registry and repository, without tag or digest.
    package var name: String { "\(registry)/\(repository)" }

    /// In full: the same text for every way to write it.
    package var description: String {
        name + (tag.map { ":\($0)" } ?? "") + (digest.map { "@\($0)" } ?? "")
    }
}
