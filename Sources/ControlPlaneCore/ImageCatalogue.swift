/// The images that may be asked for by name.
package struct ImageCatalogue: Hashable, Sendable {
    package struct Entry: Hashable, Sendable {
        /// What listings show; 1 to 128 characters.
        package var name: String
        /// For people.
        package var description: String
        /// What else it may be asked for by.
        package var aliases: [String]
        /// What is pulled.
        package var reference: String
        /// Of the hosts that can run it, as `Architecture.normalised` spells them; empty: any.
        package var architectures: Set<String>

        /// - Parameters:
        ///   - reference: nil where the name is the reference.
        ///   - architectures: in any spelling.
        package init(
            name: String, description: String = "", aliases: [String] = [], reference: String? = nil,
            architectures: [String] = []
        ) {
            self.name = name
            self.description = description
            self.aliases = aliases
            self.reference = reference ?? name
            self.architectures = Set(architectures.map { Architecture.normalised($0) })
        }
    }

    /// In the order of listings, without `custom`.
    package let entries: [Entry]
    /// By names and aliases.
    private let named: [String: Entry]

    /// - Parameter entries: those that `problems(in:)` finds nothing in.
    package init(_ entries: [Entry]) {
        self.entries = entries
        let names = entries.flatMap { entry in ([entry.name] + entry.aliases).map { ($0, entry) } }
        named = Dictionary(names, uniquingKeysWith: { first, _ in first })
    }

    /// The documented images, in the documented order.
    package static let `default` = ImageCatalogue([
        Entry(name: "ubuntu:24.04", description: "Ubuntu 24.04 LTS", aliases: ["ubuntu"]),
        Entry(name: "debian:bookworm", description: "Debian 12", aliases: ["debian"]),
        Entry(name: "alpine:latest", description: "Alpine Linux", aliases: ["alpine"]),
        Entry(name: "archlinux:latest", description: "Arch Linux", aliases: ["archlinux"]),
    ])

    /// Stands for any reference, whatever the entries are.
    package static let custom = "custom"
    package static let customDescription = "any image reference, in custom_image"

    /// Only hosts that can run them take them, and only for whom may have them.
    package static let macOS = ["macos", "macos-legacy"]

    /// The names of all that may be asked for; `custom` is the last.
    package var supported: [String] { entries.map(\.name) + [Self.custom] }

    package enum Verdict: Hashable, Sendable {
        /// `name` is what listings show, `reference` what is pulled, `architectures` which hosts can run it: empty for any.
        case image(name: String, reference: String, architectures: Set<String>)
        case unsupported
        /// `custom` without a usable `custom_image`.
        case badReference(String)
    }

    package func resolve(_ image: String, customImage: String?) -> Verdict {
        if image == Self.custom {
            guard let customImage, !customImage.isEmpty else {
                return .badReference("custom_image is required when image is \"custom\"")
            }
            guard Self.isReference(customImage) else { return .badReference("custom_image: not an image reference") }
            return .image(name: customImage, reference: customImage, architectures: [])
        }
        guard let entry = named[image] else { return .unsupported }
        return .image(name: entry.name, reference: entry.reference, architectures: entry.architectures)
    }

    /// `[host[:port]/]path[:tag][@algorithm:digest]`, as the Engine's own grammar has it.
    package static func isReference(_ text: String) -> Bool {
        guard (1...512).contains(text.utf8.count) else { return false }
        let pattern =
            /(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?\/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,128})?/
        return text.wholeMatch(of: pattern) != nil
    }
}

/// What a catalogue must be, whoever wrote it.
extension ImageCatalogue {
    package static let mostEntries = 200

    /// Everything that speaks against a catalogue of these, by keys of the setting `images`.
    package static func problems(in entries: [Entry]) -> [FieldProblem] {
        var problems: [FieldProblem] = []
        if entries.count > mostEntries {
            problems.append(
                FieldProblem(field: "images", value: "\(entries.count) images", expected: "at most \(mostEntries)"))
        }
        let reserved = Set(macOS + [custom])
        var taken = Set(entries.map(\.name))
        for entry in entries {
            if !isName(entry.name) || reserved.contains(entry.name) {
                problems.append(problem("images", entry.name, expected: nameRule))
            }
            let key = "images.\(entry.name.prefix(128))"
            if !isReference(entry.reference) {
                problems.append(problem("\(key).reference", entry.reference, expected: referenceRule))
            }
            for alias in entry.aliases {
                if !isName(alias) || reserved.contains(alias) {
                    problems.append(problem("\(key).aliases", alias, expected: nameRule))
                } else if !taken.insert(alias).inserted {
                    problems.append(problem("\(key).aliases", alias, expected: "what is no other name or alias"))
                }
            }
        }
        return problems
    }

    private static let nameRule =
        "1 to 128 letters, digits and . _ : / @ -, a letter or a digit first, not custom, macos or macos-legacy"
    private static let referenceRule = "an image reference such as registry.example.com/base/ubuntu:24.04"

    /// Of a name or an alias.
    private static func isName(_ text: String) -> Bool {
        (1...128).contains(text.utf8.count) && text.wholeMatch(of: /[A-Za-z0-9][A-Za-z0-9._:\/@-]*/) != nil
    }

    private static func problem(_ key: String, _ found: String, expected: String) -> FieldProblem {
        FieldProblem(field: key, value: "\"\(found.prefix(80))\"", expected: expected)
    }
}
