import BerthModel
import ControlPlaneCore
import Hummingbird
import ServiceRuntime

/// What create can be asked for: `GET /api/images`, `GET /api/roles`.
struct CatalogueRoutes: Sendable {
    func add(to group: RouterGroup<APIContext>) {
        group.get("images", use: images)
        group.get("roles", use: roles)
    }

    @Sendable func images(_ request: Request, _ context: APIContext) async throws -> Response {
        try context.caller.require(.read)
        return .json(
            .object([
                "images": .array(
                    ImageCatalogue.entries.map { entry in
                        .object([
                            "name": .string(entry.name), "description": .string(entry.description),
                            "aliases": .array(entry.aliases.map { .string($0) }),
                        ])
                    })
            ]))
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
