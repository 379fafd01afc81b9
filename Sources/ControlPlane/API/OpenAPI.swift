import Hummingbird
import NIOCore

/// `GET /openapi.json`: the document beside this file, as it is. `scripts/test-api` holds every answer to it.
enum OpenAPI {
    static var answer: Response {
        Response(
            status: .ok,
            headers: [
                .contentType: "application/json; charset=utf-8",
                .contentLength: String(PackageResources.openapi_json.count),
            ],
            body: ResponseBody(byteBuffer: buffer))
    }

    private static let buffer = ByteBuffer(bytes: PackageResources.openapi_json)
}
