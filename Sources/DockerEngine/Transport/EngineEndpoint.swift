/// Where the Engine listens: `unix:///var/run/docker.sock`.
package struct EngineEndpoint: Hashable, Sendable, CustomStringConvertible {
    /// Absolute path of the Unix socket, at most 107 bytes (the limit of `sockaddr_un`).
    package let socketPath: String

    package var description: String { "unix://\(socketPath)" }

    /// Nil where `text` is not `unix://` and an absolute path that fits a socket address.
    package init?(_ text: String) {
        let prefix = "unix://"
        guard text.hasPrefix(prefix) else { return nil }
        let path = String(text.dropFirst(prefix.count))
        guard path.hasPrefix("/"), (2...107).contains(path.utf8.count), !path.contains("\0") else { return nil }
        socketPath = path
    }
}
