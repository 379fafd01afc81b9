/// What is made of a container after its first start, beyond its image: tools for a role, and the shell's comforts.
package struct SetUp: Hashable, Sendable, Codable {
    package enum Role: String, Hashable, Sendable, Codable, CaseIterable {
        case node, python, go, rust, devops
        /// Installs nothing.
        case barebone

        /// For people.
        package var summary: String {
            switch self {
            case .node: "Node.js development (nvm, npm, yarn)"
            case .python: "Python development (pip, poetry, pyenv)"
            case .go: "Go development tools"
            case .rust: "Rust toolchain (rustup, cargo)"
            case .devops: "Docker's client, kubectl, terraform, ansible"
            case .barebone: "nothing is installed; the fastest start"
            }
        }
    }

    package struct Shell: Hashable, Sendable, Codable {
        package var isEnhanced = false
        /// Lower-case letters, digits and hyphens, at most 32.
        package var theme: String?
        package var suggestsFromHistory = false
        package var highlightsSyntax = false
        package var searchesHistory = false
        package var hasGitAliases = false
        package var showsSystemStats = false
        package var usesTmux = false
        package init() {}

        package static func isTheme(_ text: String) -> Bool {
            (1...32).contains(text.utf8.count)
                && text.utf8.allSatisfy { byte in
                    switch byte {
                    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                        UInt8(ascii: "-"):
                        true
                    default: false
                    }
                }
        }
    }

    package var role: Role?
    package var shell: Shell?

    package init(role: Role?, shell: Shell? = nil) {
        self.role = role
        self.shell = shell
    }

    /// Variables that tell the scripts what is wanted.
    package var environment: [String: String] {
        var result: [String: String] = [:]
        if let role { result["BERTH_ROLE"] = role.rawValue }
        guard let shell, isShellWanted else { return result }
        result["BERTH_SHELL_THEME"] = shell.theme
        let flags = [
            ("ENHANCED", shell.isEnhanced), ("AUTOSUGGESTIONS", shell.suggestsFromHistory),
            ("SYNTAX_HIGHLIGHT", shell.highlightsSyntax), ("HISTORY_SEARCH", shell.searchesHistory),
            ("GIT_ALIASES", shell.hasGitAliases), ("SYSTEM_STATS", shell.showsSystemStats),
            ("USE_TMUX", shell.usesTmux),
        ]
        for (name, isOn) in flags where isOn { result["BERTH_SHELL_\(name)"] = "1" }
        return result
    }

    package var isShellWanted: Bool { shell.map { $0 != Shell() } ?? false }

    package var fingerprint: Fingerprint {
        var hasher = Fingerprint.Hasher()
        hasher.combine(environment)
        return hasher.finalize()
    }

    var problem: String? {
        if let theme = shell?.theme, !Shell.isTheme(theme) {
            return "shell.theme: expected 1 to 32 of a-z, 0-9 and '-'"
        }
        return nil
    }
}
