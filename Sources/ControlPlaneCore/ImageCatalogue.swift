/// The images that may be asked for by name.
package enum ImageCatalogue {
    /// The documented names, in the documented order; `custom` stands for any reference.
    package static let supported = ["ubuntu:24.04", "debian:bookworm", "alpine:latest", "archlinux:latest", "custom"]

    package struct Entry: Hashable, Sendable {
        package var name: String
        package var description: String
        package var aliases: [String]
    }

    /// As `supported`, for people.
    package static let entries: [Entry] = zip(
        supported,
        ["Ubuntu 24.04 LTS", "Debian 12", "Alpine Linux", "Arch Linux", "any image reference, in custom_image"]
    ).map { name, description in
        Entry(name: name, description: description, aliases: aliases.filter { $0.value == name }.map(\.key))
    }

    /// Only hosts that can run them take them, and only for whom may have them.
    package static let macOS = ["macos", "macos-legacy"]

    private static let aliases = [
        "ubuntu": "ubuntu:24.04", "debian": "debian:bookworm", "alpine": "alpine:latest",
        "archlinux": "archlinux:latest",
    ]

    package enum Verdict: Hashable, Sendable {
        /// `name` is what listings show, `reference` what is pulled.
        case image(name: String, reference: String)
        case unsupported
        /// `custom` without a usable `custom_image`.
        case badReference(String)
    }

    package static func resolve(_ image: String, customImage: String?) -> Verdict {
        if image == "custom" {
            guard let customImage, !customImage.isEmpty else {
                return .badReference("custom_image is required when image is \"custom\"")
            }
            guard isReference(customImage) else { return .badReference("custom_image: not an image reference") }
            return .image(name: customImage, reference: customImage)
        }
        let name = aliases[image] ?? image
        return supported.contains(name) ? .image(name: name, reference: name) : .unsupported
    }

    /// `[host[:port]/]path[:tag][@algorithm:digest]`, as the Engine's own grammar has it.
    package static func isReference(_ text: String) -> Bool {
        guard (1...512).contains(text.utf8.count) else { return false }
        let pattern =
            /(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?\/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,128})?/
        return text.wholeMatch(of: pattern) != nil
    }
}
