import HTTPTypes
import Hummingbird

extension Router where Context == APIContext {
    /// A method that a path does not take is a 405 that names those that it takes (RFC 9110, section 15.5.6); `OPTIONS` is
    /// answered with the same names. Call when all routes are there.
    func refuseOtherMethods() {
        for (_, routes) in Dictionary(grouping: routes, by: \.path.description) {
            var taken = Set(routes.map(\.method))
            if taken.contains(.get) { taken.insert(.head) }
            let allowed = taken.union([.options]).map(\.rawValue).sorted().joined(separator: ", ")
            for method in [.get, .head, .post, .put, .patch, .delete, .trace] as [HTTPRequest.Method]
            where !taken.contains(method) {
                on(routes[0].path, method: method) { _, _ -> Response in throw APIError.methodNotAllowed(allowed) }
            }
            on(routes[0].path, method: .options) { _, _ in Response(status: .noContent, headers: [.allow: allowed]) }
        }
    }
}
