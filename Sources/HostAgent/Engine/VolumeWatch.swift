import AgentCore
import BerthModel
import Glibc
import NIOPosix

/// Measures the volumes of workloads that have a limit for them. No file system that the Engine offers refuses a write
/// over it by itself (docs/decisions/0016), so it is looked at, told, and with `policy.stop_overfull` acted on.
struct VolumeWatch: Sendable {
    let loop: ReconcileLoop
    let observer: HostObserver
    let round: Duration

    func run() async throws {
        var isFirst = true
        while true {
            // The first look at the Engine says where volumes lie; what is down waits for their measure.
            let pause = isFirst ? Duration.seconds(2) : round
            try await Task.sleep(for: pause, tolerance: pause / 10)
            guard await loop.lastPass != nil else { continue }
            isFirst = false
            let limited = await loop.heldState.state.workloads.values.filter {
                $0.wish != .removed && $0.spec.resources.volumeMB != nil
            }
            var sizes: [String: Int] = [:]
            var problems: [String: String] = [:]
            if !limited.isEmpty {
                for (volume, folder) in await observer.volumeFolders(of: Set(limited.map(\.id))) {
                    // Files are looked at one by one: not on a thread that others wait for.
                    let size = try await NIOThreadPool.singleton.runIfActive { FolderSize.measure(folder) }
                    switch size {
                    case .success(let bytes): sizes[volume] = (bytes + 1_048_575) / 1_048_576
                    case .failure(let problem): problems[volume] = "\(problem)"
                    }
                }
            }
            await observer.measured(volumeMB: sizes, problems: problems)
        }
    }
}

/// What a folder takes of its file system. Whoever fills it may be hostile: links are not followed, other file systems
/// are not entered, and neither depth nor number of files is without bound.
enum FolderSize {
    enum Problem: Error, Hashable, CustomStringConvertible {
        case unreadable(path: String, code: Int32)
        case tooDeep
        case tooLong

        var description: String {
            switch self {
            case .unreadable(let path, let code): "\(path) cannot be measured: \(String(cString: strerror(code)))"
            case .tooDeep: "cannot be measured: folders lie more than \(FolderSize.deepest) deep"
            case .tooLong: "cannot be measured: it takes more than \(FolderSize.longest)"
            }
        }
    }

    /// One open file each.
    static let deepest = 100
    static let longest = Duration.seconds(60)

    /// Bytes of all blocks below `path`; a file with several names counts once.
    static func measure(_ path: String, deepest: Int = deepest, longest: Duration = longest) -> Result<Int, Problem> {
        let file = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard file >= 0 else { return .failure(.unreadable(path: path, code: errno)) }
        var status = stat()
        guard fstat(file, &status) == 0 else {
            close(file)
            return .failure(.unreadable(path: path, code: errno))
        }
        var walk = Walk(device: status.st_dev, deepest: deepest, deadline: .now + longest)
        do {
            try walk.enter(file, depth: 0)
            return .success(walk.blocks * 512)
        } catch {
            return .failure(error)
        }
    }

    private struct Walk {
        let device: dev_t
        let deepest: Int
        let deadline: ContinuousClock.Instant
        var blocks = 0
        private var entries = 0
        /// Of files with several names: more of them are not remembered, and so not measured.
        private static let mostLinked = 500_000

        init(device: dev_t, deepest: Int, deadline: ContinuousClock.Instant) {
            self.device = device
            self.deepest = deepest
            self.deadline = deadline
        }

        /// Files with several names that were counted.
        var linked: Set<ino_t> = []

        /// Takes `file` over and closes it.
        mutating func enter(_ file: Int32, depth: Int) throws(Problem) {
            guard let folder = fdopendir(file) else {
                let code = errno
                close(file)
                throw .unreadable(path: "a folder in it", code: code)
            }
            defer { closedir(folder) }
            guard ContinuousClock.now < deadline else { throw .tooLong }
            while let entry = readdir(folder) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self)
                }
                entries += 1
                if entries % 1000 == 0, ContinuousClock.now >= deadline { throw .tooLong }
                if strcmp(name, ".") == 0 || strcmp(name, "..") == 0 { continue }
                var status = stat()
                // Gone between the two calls: nothing to count.
                guard fstatat(dirfd(folder), name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_dev == device else {
                    continue
                }
                let isFolder = status.st_mode & S_IFMT == S_IFDIR
                if !isFolder, status.st_nlink > 1, !linked.insert(status.st_ino).inserted { continue }
                guard linked.count <= Self.mostLinked else { throw .tooLong }
                blocks += Int(status.st_blocks)
                guard isFolder else { continue }
                guard depth < deepest else { throw .tooDeep }
                let child = openat(dirfd(folder), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                if child < 0, errno == ENOENT || errno == ENOTDIR || errno == ELOOP { continue }
                guard child >= 0 else { throw .unreadable(path: "a folder in it", code: errno) }
                try enter(child, depth: depth + 1)
            }
        }
    }
}
