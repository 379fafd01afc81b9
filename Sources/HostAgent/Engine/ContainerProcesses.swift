import Glibc
import ServiceRuntime

/// Processes by the cgroup that the Engine made for a container: the kernel's word on what runs, whatever the Engine
/// says. Versions 1 and 2 of cgroups, under either of the Engine's cgroup drivers.
struct ContainerProcesses: Sendable {
    private let root: String
    /// Below this depth no Engine puts its containers.
    private static let deepest = 8

    init(root: String = "/sys/fs/cgroup") { self.root = root }

    /// Pids by container id, of all cgroups that are named after one. One walk through one hierarchy.
    func all() -> [String: [Int]] {
        var found: [String: [Int]] = [:]
        walk(hierarchy, depth: 0) { id, path in
            found[id, default: []] += Self.pids(below: path)
        }
        return found
    }

    /// Kills what is in the cgroup of `container`, and what its shim runs for it, until nothing is left; a shim that then
    /// still holds on is killed too. In this order: a runtime command that is killed first leaves its sandbox behind.
    ///
    /// - Returns: pids that are left after `attempts` rounds of 50 ms.
    func end(_ container: String, attempts: Int = 200) async -> [Int] {
        var left: [Int] = []
        for attempt in 0..<attempts {
            left = all()[container] ?? []
            if left.isEmpty || attempt > 10 { left += Self.shimDescendants(of: container) }
            if left.isEmpty { return [] }
            if attempt > 40 { left += Self.shims().filter { $0.value == container }.map(\.key) }
            for pid in left { Self.kill(pid, of: container) }
            try? await Task.sleep(for: .milliseconds(50))
        }
        return left
    }

    /// The main process as the Engine names it, where it is one of this container: a number alone may be another's, or of
    /// another pid namespace than ours.
    static func isProcess(_ pid: Int, of container: String) -> Bool {
        pid > 0 && (ProcFile.text("/proc/\(pid)/cgroup")?.contains(container) ?? false)
    }

    /// Bytes of memory that the cgroup of a process allows; nil where that cannot be read.
    static func memoryLimit(ofProcess pid: Int, root: String = "/sys/fs/cgroup") -> Int? {
        guard pid > 0, let text = ProcFile.text("/proc/\(pid)/cgroup") else { return nil }
        let paths = CgroupCounters.paths(text)
        let file =
            paths["memory"].map { "\(root)/memory\($0)/memory.limit_in_bytes" }
            ?? paths[""].map { "\(root)\($0)/memory.max" }
        return file.flatMap { ProcFile.text($0) }.flatMap(CgroupCounters.number)
    }

    /// Containers with processes although `listed` does not say that they run, and without a shim that would answer for
    /// them: nobody will ever end these but a person.
    ///
    /// - Parameter listed: whether each container that the Engine knows may run.
    func orphans(listed: [String: Bool]) -> [OrphanSandbox] {
        let suspects = all().filter { !$0.value.isEmpty && listed[$0.key] != true }
        guard !suspects.isEmpty else { return [] }
        // Another Engine on this machine has shims of its own.
        let shimmed = Self.shims().values
        return suspects.filter { !shimmed.contains($0.key) }.map { .init(container: $0.key, pids: $0.value.sorted()) }
            .sorted { $0.container < $1.container }
    }

    // MARK: reading

    /// Version 2 has one hierarchy; of those of version 1 the Engine uses each, and one tells all.
    private var hierarchy: String {
        for controller in ["pids", "memory", "cpuacct", "freezer"]
        where access("\(root)/\(controller)/cgroup.procs", R_OK) == 0 {
            return "\(root)/\(controller)"
        }
        return root
    }

    private func walk(_ path: String, depth: Int, _ found: (_ id: String, _ path: String) -> Void) {
        for name in Self.folders(path) {
            let child = "\(path)/\(name)"
            if let id = Self.containerID(name) {
                found(id, child)
            } else if depth < Self.deepest {
                walk(child, depth: depth + 1, found)
            }
        }
    }

    /// `ID`, `docker-ID.scope`: what the two cgroup drivers make of 64 hexadecimal digits.
    static func containerID(_ name: String) -> String? {
        var text = Substring(name)
        if text.hasSuffix(".scope") {
            text = text.dropLast(".scope".count)
            if let dash = text.lastIndex(of: "-") { text = text[text.index(after: dash)...] }
        }
        return text.utf8.count == 64 && text.allSatisfy(\.isHexDigit) ? String(text) : nil
    }

    private static func pids(below path: String) -> [Int] {
        var pids = ProcFile.lines("\(path)/cgroup.procs").compactMap { Int($0) }
        for name in folders(path) { pids += Self.pids(below: "\(path)/\(name)") }
        return pids
    }

    private static func folders(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            guard entry.pointee.d_type == UInt8(DT_DIR) else { continue }
            let name = withUnsafePointer(to: entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    // MARK: ending

    /// The runtime's own commands for a container (`runc start ID`) are outside its cgroup; the shim that carries the
    /// container's id in its command line is their ancestor.
    private static func shimDescendants(of container: String) -> [Int] {
        var family = Set(shims().filter { $0.value == container }.keys)
        guard !family.isEmpty else { return [] }
        let shims = family
        let parents = processes().compactMap { pid in parent(of: pid).map { (pid, $0) } }
        while true {
            let children = parents.filter { family.contains($0.1) && !family.contains($0.0) }.map(\.0)
            if children.isEmpty { break }
            family.formUnion(children)
        }
        return family.subtracting(shims).filter { !isZombie($0) }.sorted()
    }

    /// Kills a process of `container` and all that it started, as far as these are known as its children. A sandbox shows
    /// none of its processes: there only the command that waits for them ends.
    static func killTree(_ pid: Int, of container: String) {
        let parents = processes().compactMap { pid in parent(of: pid).map { (pid, $0) } }
        var family: Set<Int> = [pid]
        while true {
            let children = parents.filter { family.contains($0.1) && !family.contains($0.0) }.map(\.0)
            if children.isEmpty { break }
            family.formUnion(children)
        }
        for pid in family.sorted() { kill(pid, of: container) }
    }

    private static func processes() -> [Int] { folders("/proc").compactMap { Int($0) } }

    /// Pids of all shims, each with the id of its container.
    private static func shims() -> [Int: String] {
        var found: [Int: String] = [:]
        for pid in processes() { found[pid] = shimmed(pid) }
        return found
    }

    /// The container of a shim; nil where the process is none.
    private static func shimmed(_ pid: Int) -> String? {
        let words = (ProcFile.text("/proc/\(pid)/cmdline") ?? "").split(separator: "\0")
        guard let program = words.first, program.contains("containerd-shim"), let flag = words.firstIndex(of: "-id"),
            words.indices.contains(flag + 1)
        else { return nil }
        return String(words[flag + 1])
    }

    private static func fields(_ pid: Int) -> [Substring] {
        let text = ProcFile.text("/proc/\(pid)/stat") ?? ""
        guard let end = text.lastIndex(of: ")") else { return [] }
        return text[text.index(after: end)...].split(separator: " ")
    }

    private static func parent(of pid: Int) -> Int? {
        let fields = fields(pid)
        return fields.count > 1 ? Int(fields[1]) : nil
    }

    private static func isZombie(_ pid: Int) -> Bool { fields(pid).first == "Z" }

    /// Held first and looked at then: a number that meanwhile means another process is never signalled.
    private static func kill(_ pid: Int, of container: String) {
        guard let process = ProcessHandle(pid: pid) else { return }
        var ancestor = pid
        for _ in 0..<10 {
            if isProcess(ancestor, of: container) || shimmed(ancestor) == container {
                process.kill()
                return
            }
            guard let parent = parent(of: ancestor), parent > 1 else { return }
            ancestor = parent
        }
    }
}

/// Processes in a container's cgroup that belong to no container that runs.
package struct OrphanSandbox: Hashable, Sendable, Codable {
    package var container: String
    package var pids: [Int]
}
