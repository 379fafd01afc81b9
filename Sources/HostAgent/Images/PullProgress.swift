import DockerEngine

/// Adds up the layers of one pull. Bytes downloaded and bytes unpacked count alike, so that the second half of a pull is
/// seen to move too. Never goes back.
struct PullProgress: Sendable {
    private struct Layer {
        var size = 0
        var downloaded = 0
        var unpacked = 0
    }

    private static let largestLayer = 1 << 50
    private static let mostLayers = 1000

    private var layers: [String: Layer] = [:]
    private var best = 0.0

    /// - Returns: bytes done of total, where `message` changed them.
    mutating func heard(_ message: PullMessage) -> (done: Int, total: Int)? {
        guard let id = message.id, let status = message.status else { return nil }
        // Sizes come from the registry: sums of them must not overflow, whatever it says.
        let current = min(max(0, message.progressDetail?.current ?? 0), Self.largestLayer)
        let total = min(max(0, message.progressDetail?.total ?? 0), Self.largestLayer)
        guard layers.count < Self.mostLayers || layers[id] != nil else { return nil }
        var layer = layers[id] ?? Layer()
        switch status {
        case "Pulling fs layer", "Waiting": break
        case "Downloading":
            layer.size = max(layer.size, total)
            layer.downloaded = min(current, layer.size)
        case "Verifying Checksum", "Download complete":
            layer.downloaded = layer.size
        case "Extracting":
            layer.size = max(layer.size, total)
            layer.downloaded = layer.size
            layer.unpacked = min(current, layer.size)
        case "Pull complete", "Already exists":
            layer.downloaded = layer.size
            layer.unpacked = layer.size
        default: return nil
        }
        layers[id] = layer
        let all = layers.values.reduce(0) { $0 + 2 * $1.size }
        guard all > 0 else { return nil }
        let done = layers.values.reduce(0) { $0 + $1.downloaded + $1.unpacked }
        // A layer whose size becomes known late makes the total grow: the share that was shown stays.
        best = max(best, Double(done) / Double(all))
        return (Int(best * Double(all)), all)
    }
}
