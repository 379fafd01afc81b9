import BerthModel
import FoundationEssentials
import ServiceRuntime

/// Name servers for sandboxes that have a network stack of their own: on a user network the Engine answers names at an
/// address inside the container's network namespace, which such a stack does not reach. They get a file of this agent as
/// `/etc/resolv.conf`, read-only: the one file of the host that a container sees.
struct ResolverFile: Sendable {
    let path: String
    /// From the configuration; empty: those of the host.
    let servers: [String]

    init(stateDirectory: String, servers: [String]) {
        path = stateDirectory + "/resolv.conf"
        self.servers = servers
    }

    /// - Returns: the path of a file that is up to date; nil where no name server is known that a container could reach.
    func current() throws -> String? {
        let servers = servers.isEmpty ? Self.ofHost() : servers
        guard !servers.isEmpty else { return nil }
        let text = (["# Written by berth-agent."] + servers.map { "nameserver \($0)" } + [""]).joined(separator: "\n")
        if ProcFile.text(path) != text {
            try DurableFile.write(Data(text.utf8), to: path, mode: 0o644)
        }
        return path
    }

    /// Without those on the host's own loopback, which is not the container's; systemd-resolved keeps the real ones in a
    /// file of its own.
    static func ofHost(
        files: [String] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
    ) -> [String] {
        for file in files {
            let found = ProcFile.lines(file).compactMap { line -> String? in
                let words = line.split(whereSeparator: \.isWhitespace)
                guard words.count >= 2, words[0] == "nameserver" else { return nil }
                return words[1].hasPrefix("127.") || words[1] == "::1" ? nil : String(words[1])
            }
            if !found.isEmpty { return Array(found.prefix(3)) }
        }
        return []
    }
}
