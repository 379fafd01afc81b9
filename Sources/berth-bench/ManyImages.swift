import DockerEngine
import Foundation
import NIOCore
import ServiceRuntime

/// Ten different images of 20 MB, each wanted by one container, beside `docker pull` of the same ten, as many at a time.
struct ManyImages {
    let engine: DockerEngine
    let world: World
    let registry: String
    let report: (String, String) -> Void
    private let count = 10
    private let megabytes = 20
    private let atOnce = 3

    func run() async throws {
        try await publish()
        var bare: [Double] = []
        var ours: [Double] = []
        for round in 0..<3 {
            bare.append(try await pulledByDocker())
            try await forget()
            ours.append(try await pulledByUs(round))
            try await world.empty()
            try await untilGone()
            try await forget()
        }
        let (best, own) = (bare.min() ?? .nan, ours.min() ?? .nan)
        report(
            "\(count) images of \(megabytes) MB, docker pull, \(atOnce) at once, best of 3, ms",
            String(format: "%.0f", best))
        report("\(count) images of \(megabytes) MB, wanted by containers, best of 3, ms", String(format: "%.0f", own))
        report("\(count) images, ours / docker pull (goal: at most 1.2)", String(format: "%.2f", own / best))
    }

    private func reference(_ number: Int) -> String { "\(registry)/bench/image-\(number):1" }

    /// One layer of noise over a small system, each of its own.
    private func publish() async throws {
        let folder = NSTemporaryDirectory() + "berth-images-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for number in 0..<count {
            let made = try await engine.createContainer(
                name: "image-\(number)-\(UUID().uuidString.prefix(6).lowercased())",
                ContainerSpecification(
                    image: "archlinux:latest",
                    command: ["sh", "-c", "head -c \(megabytes)000000 /dev/urandom > /noise"])
            ).id
            try await engine.startContainer(made)
            _ = try await engine.waitContainer(made, deadline: .seconds(60))
            try docker("commit", made, reference(number))
            try docker("push", reference(number))
            try await engine.removeContainer(made)
            try docker("rmi", reference(number))
        }
    }

    private func docker(_ arguments: String...) throws {
        _ = try World.output("/usr/bin/env", ["docker", "-H", engine.endpoint.description] + arguments)
    }

    private func forget() async throws {
        for number in 0..<count { try await engine.removeImage(reference(number)) }
    }

    private func pulledByDocker() async throws -> Double {
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count {
                if number >= atOnce { try await group.next() }
                let image = reference(number)
                group.addTask { [engine] in try await engine.pullImage(image) { _ in } }
            }
            try await group.waitForAll()
        }
        return start.duration(to: .now).milliseconds
    }

    /// From the first request to the Engine's last event `pull`.
    private func pulledByUs(_ round: Int) async throws -> Double {
        let (pulls, heard) = AsyncStream.makeStream(of: Void.self)
        let (opened, isOpen) = AsyncStream.makeStream(of: Void.self)
        let hearing = Task { [engine] in
            try await engine.events(filters: ["type": ["image"], "event": ["pull"]]) {
                isOpen.finish()
            } take: { _ in
                heard.yield()
            }
        }
        for await _ in opened {}
        defer { hearing.cancel() }
        let start = ContinuousClock.now
        for number in 0..<count {
            try await world.create("image-\(round)-\(number)", image: reference(number))
        }
        var left = count
        for await _ in pulls {
            left -= 1
            if left == 0 { break }
        }
        return start.duration(to: .now).milliseconds
    }

    private func untilGone() async throws {
        for _ in 0..<600 {
            let left = try await engine.listContainers().filter { $0.labels["berth.agent"] != nil }
            if left.isEmpty { return }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
