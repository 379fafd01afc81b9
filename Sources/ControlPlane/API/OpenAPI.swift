import ControlPlaneCore
import Hummingbird
import NIOCore
import ServiceRuntime

/// `GET /openapi.json`: the document beside this file, with the images that can be asked for. `scripts/test-api` holds every
/// answer to it.
struct OpenAPI: Sendable {
    private let text: ByteBuffer

    init(images: ImageCatalogue) {
        let document = ByteBuffer(bytes: PackageResources.openapi_json)
        text = images == .default ? document : Self.text(document, with: images)
    }

    var answer: Response { .json(text) }

    private static func text(_ document: ByteBuffer, with images: ImageCatalogue) -> ByteBuffer {
        let names = images.supported + images.entries.flatMap(\.aliases)
        do {
            let fields = try JSONCoding.decode(JSONValue.self, from: document).replacing(
                ["components", "schemas", "CreateRequest", "properties", "image", "enum"],
                with: .array(names.map { .string($0) }))
            return ByteBuffer(string: try JSONCoding.encodeText(fields))
        } catch {
            preconditionFailure("openapi.json is no JSON: \(error)")
        }
    }
}

extension JSONValue {
    /// - Parameter path: keys of objects, from the outermost on; each must be there.
    fileprivate func replacing(_ path: ArraySlice<String>, with value: JSONValue) -> JSONValue {
        guard let key = path.first else { return value }
        guard case .object(var fields) = self, let inner = fields[key] else {
            preconditionFailure("openapi.json has no \(key)")
        }
        fields[key] = inner.replacing(path.dropFirst(), with: value)
        return .object(fields)
    }
}
