import AgentCore
import BerthModel
import DockerEngine
import ServiceRuntime

/// What `berth-agent gc` says.
package struct CollectionReport: Codable, Hashable, Sendable {
    package struct Image: Codable, Hashable, Sendable {
        package var reference: String
        package var bytes: Int
    }

    package var isDryRun: Bool
    package var images: [Image]

    private enum CodingKeys: String, CodingKey {
        case images
        case isDryRun = "is_dry_run"
    }

    package var text: String {
        let lines = images.map {
            "\(isDryRun ? "would remove" : "removed")  \($0.reference)  \($0.bytes / 1_048_576) MB"
        }
        return lines.isEmpty ? "no image can be removed" : lines.joined(separator: "\n")
    }
}

/// Images go only between pulls and creates: nobody takes away what somebody is about to use.
extension ReconcileLoop {
    /// References and ids that somebody wants, or that a generation is bound to.
    private var neededImages: Set<String> {
        let wanted = held.state.workloads.values.filter { $0.wish != .removed }.map(\.spec.image)
        let pinned = memory.workloads.values.compactMap(\.pinned)
        let references = (wanted + pinned.compactMap(\.digest)).map { ImageReference($0)?.description ?? $0 }
        return Set(references + pinned.map(\.imageID))
    }

    private var isUsingImages: Bool {
        memory.inFlight.values.contains { step in
            switch step.action {
            case .pull, .create: true
            default: false
            }
        }
    }

    /// A part of a pass: meanwhile no step begins.
    func collectImages() async {
        guard !isUsingImages, let root = await parts.observer.info?.dockerRootDir else { return }
        await parts.collector.collectWhereFull(root: root, needed: neededImages)
    }

    /// As soon as nothing is pulled or made; the answer comes from within a pass.
    func collect(isDryRun: Bool) async throws -> CollectionReport {
        guard !hasEnded else { throw CancellationError() }
        return try await withCheckedThrowingContinuation { continuation in
            askedCollections.append((isDryRun, continuation))
            doorbell.ring()
        }
    }

    func answerCollections() async {
        guard !askedCollections.isEmpty, !isUsingImages else { return }
        let asked = askedCollections
        askedCollections = []
        for (isDryRun, continuation) in asked {
            do {
                continuation.resume(returning: try await collectNow(isDryRun: isDryRun))
            } catch {
                continuation.resume(throwing: error)
            }
        }
    }

    private func collectNow(isDryRun: Bool) async throws -> CollectionReport {
        let found = try await parts.collector.candidates(needed: neededImages)
        let gone = isDryRun ? found : try await parts.collector.remove(found)
        return CollectionReport(
            isDryRun: isDryRun, images: gone.map { .init(reference: $0.reference, bytes: $0.bytes) })
    }
}
