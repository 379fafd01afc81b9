/// One entry of the container list; the fields that are used.
package struct ContainerSummary: Decodable, Hashable, Sendable {
    package struct Mount: Decodable, Hashable, Sendable {
        package var type: String
        package var name: String?
        package var destination: String
        package var isWritable: Bool

        private enum CodingKeys: String, CodingKey {
            case type = "Type"
            case name = "Name"
            case destination = "Destination"
            case isWritable = "RW"
        }
    }

    package var id: String
    package var names: [String]
    package var imageID: String
    /// `created`, `running`, `paused`, `restarting`, `exited`, `removing` or `dead`.
    package var state: String
    /// Changes with every change of state, for example `Up 3 minutes`; text for people.
    package var status: String
    package var labels: [String: String]
    package var mounts: [Mount]

    private enum CodingKeys: String, CodingKey {
        case id = "Id"
        case names = "Names"
        case imageID = "ImageID"
        case state = "State"
        case status = "Status"
        case labels = "Labels"
        case mounts = "Mounts"
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        id = try container.decode(String.self, forKey: .id)
        names = try container.decodeIfPresent([String].self, forKey: .names) ?? []
        imageID = try container.decodeIfPresent(String.self, forKey: .imageID) ?? ""
        state = try container.decode(String.self, forKey: .state)
        status = try container.decodeIfPresent(String.self, forKey: .status) ?? ""
        labels = try container.decodeIfPresent([String: String].self, forKey: .labels) ?? [:]
        mounts = try container.decodeIfPresent([Mount].self, forKey: .mounts) ?? []
    }
}
