/// Names of processors: hosts give those of `uname -m`, images those of Docker.
package enum Architecture {
    /// One spelling for both, that of hosts: `amd64` is `x86_64`, `arm64` is `aarch64`. Others keep theirs, in small
    /// letters.
    package static func normalised(_ name: String) -> String {
        switch name.lowercased() {
        case "amd64", "x86-64": "x86_64"
        case "arm64": "aarch64"
        case let other: other
        }
    }

    /// 1 to 32 letters, digits, `_` and `-`.
    package static func isName(_ text: String) -> Bool {
        (1...32).contains(text.utf8.count) && text.wholeMatch(of: /[A-Za-z0-9_-]+/) != nil
    }
}
