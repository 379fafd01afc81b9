import AgentCore
import BerthModel
import Foundation
import HostAgent
import Logging
import ServiceRuntime
import Testing

final class Folder: Sendable {
    let path: String
    init() throws {
        path = NSTemporaryDirectory() + "berth-unit-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    func write(_ name: String, _ text: String) throws {
        try text.write(toFile: path + "/" + name, atomically: false, encoding: .utf8)
    }
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}

@Suite struct StateFiles {
    private let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func held(_ revision: Int) -> HeldDesiredState {
        let workload = DesiredWorkload(
            id: WorkloadID(validated: "w1"), generation: revision, wish: .running,
            spec: WorkloadSpec(name: "one", image: "alpine", environment: ["A": "b \"c\" \n ü"]))
        let state = DesiredState(revision: Revision(revision), workloads: [workload])
        return HeldDesiredState(state: state, digest: state.digest)
    }

    @Test func `what was saved is loaded, and nothing where nothing was`() throws {
        let folder = try Folder()
        let store = DesiredStateStore(directory: folder.path, agent: AgentID(validated: "mine"))
        #expect(store.load(log: log) == .nothing)
        for revision in 1...3 {
            try store.save(held(revision))
            #expect(store.load(log: log) == held(revision))
        }
        #expect(folder.names == ["desired.json", "desired.json.previous"])
        let mode =
            try FileManager.default.attributesOfItem(atPath: folder.path + "/desired.json")[.posixPermissions] as? Int
        #expect(mode == 0o600)
    }

    @Test(arguments: ["", "{", "null", "[]", #"{"schema":1}"#, #"{"schema":99,"checksum":"x","held":{}}"#, "\0\0\0\0"])
    func `a file that cannot be read is set aside, and the one before it counts`(damage: String) throws {
        let folder = try Folder()
        let store = DesiredStateStore(directory: folder.path, agent: AgentID(validated: "mine"))
        try store.save(held(1))
        try store.save(held(2))
        try folder.write("desired.json", damage)
        #expect(store.load(log: log) == held(1))
        #expect(folder.names.contains { $0.hasPrefix("desired.json.unreadable-") })
        try folder.write("desired.json.previous", damage)
        #expect(store.load(log: log) == .nothing)
    }

    @Test func `a single changed value is noticed`() throws {
        let folder = try Folder()
        let store = DesiredStateStore(directory: folder.path, agent: AgentID(validated: "mine"))
        try store.save(held(1))
        let text = try String(contentsOfFile: folder.path + "/desired.json", encoding: .utf8)
        try folder.write("desired.json", text.replacingOccurrences(of: "alpine", with: "alpone"))
        #expect(store.load(log: log) == .nothing)
    }

    @Test func `a crash between the two renames loses nothing`() throws {
        let folder = try Folder()
        let store = DesiredStateStore(directory: folder.path, agent: AgentID(validated: "mine"))
        try store.save(held(1))
        try FileManager.default.moveItem(
            atPath: folder.path + "/desired.json", toPath: folder.path + "/desired.json.previous")
        try folder.write("desired.json.new", "half of a ne")
        #expect(store.load(log: log) == held(1))
    }

    @Test func `writing where nothing can be written is an error that names the file`() {
        let failure = #expect(throws: DurableFile.Failure.self) { try DurableFile.write(Data(), to: "/proc/nowhere/x") }
        #expect(failure?.description.contains("/proc/nowhere/x") == true)
    }

    @Test func `a folder has one owner at a time`() throws {
        let folder = try Folder()
        let path = folder.path + "/lock"
        var first: FolderLock? = try FolderLock(path: path)
        #expect(throws: FolderLock.Failure.self) { try FolderLock(path: path) }
        withExtendedLifetime(first) {}
        first = nil
        #expect(throws: Never.self) { try FolderLock(path: path) }
    }

    @Test func `times`() {
        #expect(Timestamp.text(seconds: 0, fractionDigits: 0) == "1970-01-01T00:00:00Z")
        #expect(Timestamp.text(seconds: 1_705_314_600.25) == "2024-01-15T10:30:00.250000Z")
        #expect(Timestamp.seconds("2024-01-15T10:30:00.25Z") == 1_705_314_600.25)
        #expect(Timestamp.seconds("2024-01-15T12:30:00+02:00") == 1_705_314_600)
        #expect(Timestamp.seconds("0001-01-01T00:00:00Z").map { $0 < 0 } == true)
        for text in [
            "", "yesterday", "2024-01-15", "2024-01-15T10:30:00", "2024-01-15T10:30:00+1",
            String(repeating: "9", count: 30),
        ] {
            #expect(Timestamp.seconds(text) == nil, "\(text)")
        }
    }
}
