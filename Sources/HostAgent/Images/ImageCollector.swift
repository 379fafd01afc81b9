import BerthModel
import DockerEngine
import Logging
import ServiceRuntime

/// Removes images that nobody needs any more where the Engine's disk fills up, oldest use first: only what this agent
/// pulled, never what a container or the desired state names, and never by force.
struct ImageCollector: Sendable {
    let link: EngineLink
    let ledger: ImageLedger
    let abovePercent: Int
    let log: Logger

    struct Found: Hashable, Sendable {
        var reference: String
        var bytes: Int
    }

    /// What could go, oldest use first.
    ///
    /// - Parameters:
    ///   - needed: references in full and ids that are wanted, whether there is a container of them or not.
    ///   - most: no more than these.
    func candidates(needed: Set<String>, most: Int = .max) async throws -> [Found] {
        let engine = try await link.engine()
        let containers = try await engine.listContainers()
        let inUse = Set(containers.map(\.imageID))
        var found: [Found] = []
        for entry in await ledger.entries where !needed.contains(ImageReference(entry.reference)?.description ?? "") {
            do {
                let image = try await engine.inspectImage(entry.reference)
                if inUse.contains(image.id) || needed.contains(image.id) { continue }
                // A part of a pass, which others wait for: the rest comes with the next one.
                if found.count >= most { break }
                found.append(Found(reference: entry.reference, bytes: image.size))
            } catch let error as EngineError where error.status == 404 {
                await ledger.removed(entry.reference)
            }
        }
        return found
    }

    /// - Returns: what is gone. What the Engine refuses to remove is in use after all, and stays.
    func remove(_ found: [Found], while isFull: () -> Bool = { true }) async throws -> [Found] {
        let engine = try await link.engine()
        var gone: [Found] = []
        for image in found {
            guard isFull() else { break }
            do {
                try await engine.removeImage(image.reference)
                await ledger.removed(image.reference)
                gone.append(image)
                log.info("image collected", metadata: ["image": "\(image.reference)", "bytes": "\(image.bytes)"])
            } catch let error as EngineError where error.kind != .unreachable {
                // In use after all, or slow today: the next one may go.
                continue
            }
        }
        return gone
    }

    /// What is over the limit is brought below it, as far as that can be done.
    func collectWhereFull(root: String, needed: Set<String>) async {
        func isFull() -> Bool {
            let disk = HostFacts.disk(root)
            return disk.total > 0 && disk.used * 100 > disk.total * abovePercent
        }
        guard abovePercent > 0, isFull() else { return }
        do {
            _ = try await remove(try await candidates(needed: needed, most: 3), while: isFull)
        } catch {
            log.warning("images cannot be collected", metadata: ["error": "\(error)"])
        }
    }
}
