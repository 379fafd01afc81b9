import BerthModel
import DockerEngine
import Glibc
import ServiceRuntime

/// What this host is, from its own files and the Engine.
package struct HostFacts: Sendable {
    private let stateDirectory: String

    package init(stateDirectory: String) { self.stateDirectory = stateDirectory }

    /// Complete where the Engine answers; without its part where it does not.
    func describe(_ observer: HostObserver) async -> HostDescription {
        var description = describeWithoutEngine()
        // An Engine that does not answer must not keep the agent from saying hello; `host` follows when it does.
        let found = try? await withDeadline(
            .seconds(2), else: EngineError(kind: .timedOut, call: "info", object: "", message: "")
        ) { try await observer.engineInfo() }
        if let (info, version, runtimes) = found {
            description.engine = EngineDescription(
                version: info.serverVersion, apiVersion: "\(version)", cgroupVersion: info.cgroupVersion ?? "1",
                storageDriver: info.driver, runtimes: runtimes, findings: await observer.findings)
            let disk = Self.disk(info.dockerRootDir)
            if disk.total > 0 { description.capacity.diskMB = disk.total / 1_048_576 }
        }
        return description
    }

    func describeWithoutEngine() -> HostDescription {
        var name = utsname()
        uname(&name)
        var description = HostDescription(
            hostname: Self.text(name.nodename), arch: Self.text(name.machine), distro: Self.distro(),
            kernel: Self.text(name.release))
        description.capacity = HostCapacity(
            memoryMB: Self.meminfo("MemTotal") / 1024, cpuMillicores: sysconf(Int32(_SC_NPROCESSORS_ONLN)) * 1000,
            diskMB: Self.disk(stateDirectory).total / 1_048_576)
        return description
    }

    static func meminfo(_ key: String) -> Int {
        for line in ProcFile.lines("/proc/meminfo") where line.hasPrefix(key + ":") {
            return line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        }
        return 0
    }

    /// Bytes of the file system that holds `path`.
    static func disk(_ path: String) -> (total: Int, used: Int) {
        var stats = statvfs()
        guard statvfs(path, &stats) == 0 else { return (0, 0) }
        let unit = Int(stats.f_frsize)
        return (Int(stats.f_blocks) * unit, (Int(stats.f_blocks) - Int(stats.f_bfree)) * unit)
    }

    private static func distro() -> String {
        for line in ProcFile.lines("/etc/os-release") where line.hasPrefix("PRETTY_NAME=") {
            return line.dropFirst("PRETTY_NAME=".count).filter { $0 != "\"" }
        }
        return "linux"
    }

    private static func text<Tuple>(_ tuple: Tuple) -> String {
        withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

/// Small files of the kernel.
enum ProcFile {
    /// Nil where it cannot be read.
    static func text(_ path: String, limit: Int = 1_048_576) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var result: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 8192)
        while result.count < limit {
            let count = read(file, &chunk, chunk.count)
            guard count > 0 else { return count == 0 ? String(decoding: result, as: UTF8.self) : nil }
            result += chunk[0..<count]
        }
        return String(decoding: result, as: UTF8.self)
    }

    static func lines(_ path: String, limit: Int = 1_048_576) -> [String] {
        (text(path, limit: limit) ?? "").split(separator: "\n").map(String.init)
    }
}
