import Foundation
import Testing

@testable import HostAgent

/// The measure of a volume, which its user may have filled to deceive it.
@Suite struct FolderSizes {
    private let folder: String

    init() throws {
        folder = NSTemporaryDirectory() + "berth-size-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder + "/v/a/b", withIntermediateDirectories: true)
    }

    private func write(_ name: String, _ bytes: Int) throws {
        try Data(repeating: 1, count: bytes).write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
    }

    private func measured(deepest: Int = 100, longest: Duration = .seconds(60)) throws -> Int {
        try FolderSize.measure(folder + "/v", deepest: deepest, longest: longest).get()
    }

    @Test func `files count once, links and what lies outside do not, holes neither`() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let empty = try measured()
        try write("v/a/b/one", 3 << 20)
        try write("outside", 50 << 20)
        let one = try measured() - empty
        #expect((3 << 20...4 << 20).contains(one), "\(one)")
        #expect(link(folder + "/v/a/b/one", folder + "/v/second") == 0)
        #expect(symlink(folder + "/outside", folder + "/v/link") == 0)
        #expect(symlink(folder, folder + "/v/around") == 0)
        #expect(symlink("/", folder + "/v/a/root") == 0)
        #expect(truncate(folder + "/v/a/b/one", 3 << 20) == 0)
        try write("v/hole", 0)
        #expect(truncate(folder + "/v/hole", 1 << 40) == 0)
        #expect(try measured() - empty - one < 1 << 20)
    }

    @Test func `what cannot be measured is said, not guessed`() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(throws: FolderSize.Problem.tooDeep) { try measured(deepest: 1) }
        #expect(throws: FolderSize.Problem.tooLong) { try measured(longest: .zero) }
        #expect(throws: FolderSize.Problem.unreadable(path: folder + "/none", code: ENOENT)) {
            try FolderSize.measure(folder + "/none").get()
        }
        try write("file", 1)
        #expect(throws: FolderSize.Problem.unreadable(path: folder + "/file", code: ENOTDIR)) {
            try FolderSize.measure(folder + "/file").get()
        }
        // A chain that is longer than a path may be.
        var deep = folder + "/v"
        for _ in 0..<200 {
            deep += "/" + String(repeating: "d", count: 10)
            #expect(mkdir(deep, 0o700) == 0)
        }
        #expect(throws: FolderSize.Problem.tooDeep) { try measured() }
    }
}
