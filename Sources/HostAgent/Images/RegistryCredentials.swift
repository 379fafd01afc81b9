import BerthModel
import FoundationEssentials
import ServiceRuntime

/// What the agent's owner gave it to speak to registries with. Read from the files for every pull, so that a change needs
/// no restart; never logged, stored, or put on a container.
struct RegistryCredentials: Sendable {
    /// Path of a file with `user:password` by host of a registry.
    let files: [String: String]

    /// The Engine's header for a pull of `reference`; nil where nothing is set for its registry.
    ///
    /// - Throws: `DurableFile.Failure`, or `ProgramFailure` where the file holds something else. Neither shows its content.
    func header(for reference: String) throws -> String? {
        guard let registry = ImageReference(reference)?.registry, let file = files[registry] else { return nil }
        let parts = try DurableFile.readSecret(file).split(separator: ":", maxSplits: 1).map(String.init)
        guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty }) else {
            throw ProgramFailure(.configuration, "\(file): expected one line user:password")
        }
        struct Login: Encodable {
            var username: String
            var password: String
            var serveraddress: String
        }
        let json = try JSONCoding.encode(Login(username: parts[0], password: parts[1], serveraddress: registry))
        return Data(json).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_")
    }
}
