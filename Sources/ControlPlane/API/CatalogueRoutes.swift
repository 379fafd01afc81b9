import BerthModel
import ControlPlaneCore
import Hummingbird
import ServiceRuntime

/// What create can be asked for: `GET /api/images`, `GET /api/roles`.
struct CatalogueRoutes: Sendable {
    let catalogue: ImageCatalogue

    func add(to group: RouterGroup<APIContext>) {
        group.get("images", use: images)
        group.get("roles", use: roles)
    }

    @Sendable func images(_ request: Request, _ context: APIContext) async throws -> Response {
        try context.caller.require(.read)
        let named = catalogue.entries.map { Self.image($0.name, $0.description, aliases: $0.aliases) }
        let custom = Self.image(ImageCatalogue.custom, ImageCatalogue.customDescription, aliases: [])
        return .json(.object(["images": .array(named + [custom])]))
    }

    private static func image(_ name: String, _ description: String, aliases: [String]) -> JSONValue {
        .object([
            "name": .string(name), "description": .string(description),
            "aliases": .array(aliases.map { .string($0) }),
        ])
    }

    @Sendable func roles(_ request: Request, _ context: APIContext) async throws -> Response {
        try context.caller.require(.read)
        return .json(
            .object([
                "roles": .array(
                    SetUp.Role.allCases.map { role in
                        .object(["name": .string(role.rawValue), "description": .string(role.summary)])
                    })
            ]))
    }
}
