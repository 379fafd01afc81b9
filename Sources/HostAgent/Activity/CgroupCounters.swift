import BerthModel

/// Where the counters of one container are, found once per start from the pid of its main process. Version 1 and 2 of
/// cgroups, whatever driver named the paths.
struct CgroupCounters: Sendable {
    private let cpuFile: String
    private let cpuFormat: CPUFormat
    private let memoryUsageFile: String
    private let memoryStatFile: String
    private let reclaimableKey: String
    private let networkFile: String

    private enum CPUFormat: Sendable {
        /// `cpuacct.usage`, nanoseconds.
        case nanoseconds
        /// `usage_usec` of `cpu.stat`.
        case statMicroseconds
    }

    struct Reading: Hashable, Sendable {
        var cpuMicroseconds: Int
        var memoryBytes: Int
        var receivedBytes: Int
        var sentBytes: Int
    }

    /// Nil where the process is gone or in a cgroup that cannot be found.
    init?(pid: Int, cgroupText: String? = nil, root: String = "/sys/fs/cgroup") {
        guard let text = cgroupText ?? ProcFile.text("/proc/\(pid)/cgroup") else { return nil }
        let paths = Self.paths(text)
        networkFile = "/proc/\(pid)/net/dev"
        if let cpu = paths["cpuacct"], let memory = paths["memory"] {
            cpuFile = "\(root)/cpuacct\(cpu)/cpuacct.usage"
            cpuFormat = .nanoseconds
            memoryUsageFile = "\(root)/memory\(memory)/memory.usage_in_bytes"
            memoryStatFile = "\(root)/memory\(memory)/memory.stat"
            reclaimableKey = "total_inactive_file"
        } else if let unified = paths[""], unified != "/" {
            cpuFile = "\(root)\(unified)/cpu.stat"
            cpuFormat = .statMicroseconds
            memoryUsageFile = "\(root)\(unified)/memory.current"
            memoryStatFile = "\(root)\(unified)/memory.stat"
            reclaimableKey = "inactive_file"
        } else {
            return nil
        }
    }

    /// Controller to path, from lines like `4:memory:/docker/…` and `0::/…`.
    static func paths(_ text: String) -> [String: String] {
        var result: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            for controller in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
                result[String(controller)] = String(parts[2])
            }
        }
        return result
    }

    func read() -> Reading? {
        guard let cpu = cpuMicroseconds(), let usage = ProcFile.text(memoryUsageFile).flatMap(Self.number) else {
            return nil
        }
        let network = Self.network(ProcFile.text(networkFile) ?? "")
        let reclaimable = Self.value(reclaimableKey, in: ProcFile.text(memoryStatFile) ?? "") ?? 0
        return Reading(
            cpuMicroseconds: cpu, memoryBytes: max(0, usage - reclaimable), receivedBytes: network.received,
            sentBytes: network.sent)
    }

    private func cpuMicroseconds() -> Int? {
        guard let text = ProcFile.text(cpuFile) else { return nil }
        switch cpuFormat {
        case .nanoseconds: return Self.number(text).map { $0 / 1000 }
        case .statMicroseconds: return Self.value("usage_usec", in: text)
        }
    }

    static func number(_ text: String) -> Int? { Int(text.prefix { $0 != "\n" }) }

    static func value(_ key: String, in text: String) -> Int? {
        for line in text.split(separator: "\n") where line.hasPrefix(key + " ") {
            return Int(line.dropFirst(key.count + 1))
        }
        return nil
    }

    /// Sum over all interfaces but the loopback one of `/proc/PID/net/dev`.
    static func network(_ text: String) -> (received: Int, sent: Int) {
        var result = (received: 0, sent: 0)
        for line in text.split(separator: "\n").dropFirst(2) {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].drop(while: { $0 == " " }) != "lo" else { continue }
            let fields = parts[1].split(separator: " ").map { Int($0) ?? 0 }
            guard fields.count >= 9 else { continue }
            result.received += fields[0]
            result.sent += fields[8]
        }
        return result
    }
}
