/// What somebody wants of one workload, apart from whether it should run.
package struct WorkloadSpec: Hashable, Sendable, Codable {
    /// Display name and host name inside; 1 to 64 of letters, digits and hyphens. Not part of the fingerprint: a rename
    /// alone recreates nothing.
    package var name: String
    /// A Docker image reference: `alpine:latest`, `registry:5000/team/app@sha256:…`.
    package var image: String
    package var runtime: RuntimeChoice
    package var resources: Resources
    /// Replaces the image's command where present.
    package var command: [String]?
    package var environment: [String: String]
    /// Labels of the user, put on the engine container beside ours; keys that start with `berth.` are refused.
    package var labels: [String: String]
    package var volumes: [VolumeMount]
    package var restart: RestartPolicy
    /// Seconds between the stop signal and the kill; 0 to 600.
    package var stopGraceSeconds: Int
    /// What happens where a replacement does not come up. Nil means `ifStateless`.
    package var rollback: RollbackRule?
    /// Failed starts and deaths without a healthy time between them, after which the workload is given up until it is
    /// changed or started again; 1 to 1,000,000. Nil: never.
    package var restartLimit: Int?
    /// Run in every new container after its first start. Not part of the fingerprint: another one is run in the container
    /// that is there.
    package var setUp: SetUp?
    /// Nil means `missing`.
    package var pull: PullPolicy?
    /// Seconds since 1970 UTC, by the control plane's clock, at which its session ends: it is stopped then. Nil: never.
    package var expiresAt: Double?
    /// Without activity for so long it is stopped; 120 to 31,536,000. Nil: never.
    package var idleTimeoutSeconds: Int?
    /// Seconds since 1970 UTC, by the control plane's clock, until which it counts as used whatever it does.
    package var heldUntil: Double?
    /// Nil, as in specs of earlier versions, means none.
    package var ports: [PublishedPort]?

    package init(
        name: String, image: String, runtime: RuntimeChoice = .init(), resources: Resources = .init(),
        command: [String]? = nil, environment: [String: String] = [:], labels: [String: String] = [:],
        volumes: [VolumeMount] = [], restart: RestartPolicy = .always, stopGraceSeconds: Int = 10,
        rollback: RollbackRule? = nil, restartLimit: Int? = nil, setUp: SetUp? = nil, pull: PullPolicy? = nil,
        expiresAt: Double? = nil, idleTimeoutSeconds: Int? = nil, heldUntil: Double? = nil,
        ports: [PublishedPort]? = nil
    ) {
        self.name = name
        self.image = image
        self.runtime = runtime
        self.resources = resources
        self.command = command
        self.environment = environment
        self.labels = labels
        self.volumes = volumes
        self.restart = restart
        self.stopGraceSeconds = stopGraceSeconds
        self.rollback = rollback
        self.restartLimit = restartLimit
        self.setUp = setUp
        self.pull = pull
        self.expiresAt = expiresAt
        self.idleTimeoutSeconds = idleTimeoutSeconds
        self.heldUntil = heldUntil
        self.ports = ports
    }

    package var publishedPorts: [PublishedPort] { ports ?? [] }

    /// Everything that an engine container cannot change after its creation. A container with another fingerprint is
    /// replaced. Memory, cpu and pids are not in it: they are compared with what the Engine says and changed on the
    /// container that is there, so a resize never costs its writable layer.
    package var fingerprint: Fingerprint {
        var hasher = Fingerprint.Hasher()
        hasher.combine(image)
        hasher.combine(runtime.name)
        hasher.combine(runtime.necessity.rawValue)
        hasher.combine(resources.diskMB)
        hasher.combine(command == nil ? 0 : 1)
        hasher.combine(command ?? [])
        hasher.combine(environment)
        hasher.combine(labels)
        hasher.combine(volumes.count)
        for volume in volumes {
            hasher.combine(volume.volume)
            hasher.combine(volume.path)
            hasher.combine(volume.access.rawValue)
        }
        // Without any it is what it was before there were ports: no container is replaced for a new version.
        if !publishedPorts.isEmpty {
            hasher.combine(publishedPorts.count)
            for port in publishedPorts {
                hasher.combine(port.container)
                hasher.combine(port.host)
                hasher.combine(port.transport.rawValue)
            }
        }
        return hasher.finalize()
    }

    /// Twice the time for which its owner is told before, at least.
    package static let idleTimeoutRange = 120...31_536_000

    /// All specs of a host travel in one message.
    /// Of environment, labels and command together.
    package static let mostTextBytes = 32 * 1024

    package static func textBytes(
        environment: [String: String], labels: [String: String], command: [String]?
    ) -> Int {
        [environment, labels].flatMap { $0 }.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
            + (command ?? []).reduce(0) { $0 + $1.utf8.count }
    }

    /// Rules that hold for every spec, whoever sent it. Nil where it is usable, else the first thing that is wrong.
    package var problem: String? {
        if name.isEmpty || name.utf8.count > 64 || !name.utf8.allSatisfy(Self.isNameByte) {
            return "name: expected 1 to 64 letters, digits and hyphens"
        }
        if image.isEmpty || image.utf8.count > 512 || image.unicodeScalars.contains(where: Self.isBlank) {
            return "image: expected a reference of 1 to 512 characters without blanks"
        }
        if let problem = resources.problem { return problem }
        if let problem = setUp?.problem { return problem }
        for (field, moment) in [("expires_at", expiresAt), ("keepalive_until", heldUntil)] {
            if let moment, !(0...253_402_300_799).contains(moment) {
                return "\(field): expected a moment before the year 10000"
            }
        }
        if let idleTimeoutSeconds, !Self.idleTimeoutRange.contains(idleTimeoutSeconds) {
            return "idle_timeout_seconds: expected 120 to 31536000, found \(idleTimeoutSeconds)"
        }
        if !(0...600).contains(stopGraceSeconds) { return "stop_grace_seconds: expected 0 to 600" }
        if let restartLimit, !(1...1_000_000).contains(restartLimit) {
            return "restart_limit: expected 1 to 1000000, found \(restartLimit)"
        }
        if let key = labels.keys.first(where: { $0.isEmpty || $0.hasPrefix("berth.") }) {
            return "labels: the key \"\(key.prefix(80))\" is empty or reserved"
        }
        if let key = environment.keys.first(where: { $0.isEmpty || $0.contains("=") || $0.contains("\0") }) {
            return "environment: the name \"\(key.prefix(80))\" is empty or holds '='"
        }
        if Self.textBytes(environment: environment, labels: labels, command: command) > Self.mostTextBytes {
            return "environment, labels, command: expected at most \(Self.mostTextBytes) bytes together"
        }
        if volumes.count > 16 { return "volumes: expected at most 16" }
        for volume in volumes {
            if let problem = volume.problem { return problem }
        }
        return PublishedPort.problem(of: publishedPorts)
    }

    private static func isBlank(_ scalar: Unicode.Scalar) -> Bool {
        // What the table of all characters says of most of them.
        scalar.isASCII ? scalar.value == 0x20 || (0x09...0x0D).contains(scalar.value) : scalar.properties.isWhitespace
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
}

/// Limits of one workload.
package struct Resources: Hashable, Sendable, Codable {
    package static let volumeRange = 64...16_777_216

    /// MiB; memory plus swap. 16 to 1,048,576.
    package var memoryMB: Int
    /// Thousandths of a core; 10 to 1,024,000.
    package var cpuMillicores: Int
    /// MiB of the writable layer; 64 to 16,777,216.
    package var diskMB: Int
    /// Processes and threads; 16 to 1,000,000.
    package var pids: Int
    /// Nil where it is not limited.
    package var bandwidth: Bandwidth?
    /// MiB of its volumes together; 64 to 16,777,216. Nil where they are not watched.
    package var volumeMB: Int?

    package init(
        memoryMB: Int = 512, cpuMillicores: Int = 500, diskMB: Int = 2048, pids: Int = 512,
        bandwidth: Bandwidth? = nil, volumeMB: Int? = nil
    ) {
        self.memoryMB = memoryMB
        self.cpuMillicores = cpuMillicores
        self.diskMB = diskMB
        self.pids = pids
        self.bandwidth = bandwidth
        self.volumeMB = volumeMB
    }

    var problem: String? {
        func check(_ field: String, _ value: Int?, _ range: ClosedRange<Int>) -> String? {
            guard let value, !range.contains(value) else { return nil }
            return "\(field): expected \(range.lowerBound) to \(range.upperBound), found \(value)"
        }
        return check("memory_mb", memoryMB, 16...1_048_576) ?? check("cpu_shares", cpuMillicores, 10...1_024_000)
            ?? check("disk_mb", diskMB, 64...16_777_216) ?? check("pids", pids, 16...1_000_000)
            ?? check("egress_kbps", bandwidth?.egressKbps, Bandwidth.range)
            ?? check("ingress_kbps", bandwidth?.ingressKbps, Bandwidth.range)
            ?? check("volume_mb", volumeMB, Self.volumeRange)
    }
}

/// Which container runtime a workload asks for, and how much it insists.
package struct RuntimeChoice: Hashable, Sendable, Codable {
    package enum Necessity: String, Sendable, Codable {
        /// Without that runtime the workload waits, with the reason in its status.
        case require
        /// Falls back to `runc` where the host has no such runtime, and says so in the status.
        case prefer
    }

    /// `gvisor`, `runc`, or another name that the host maps to an Engine runtime.
    package var name: String
    package var necessity: Necessity

    package static let gvisor = "gvisor"
    package static let runc = "runc"

    package init(name: String = RuntimeChoice.gvisor, necessity: Necessity = .require) {
        self.name = name
        self.necessity = necessity
    }
}

/// A named volume at a path inside the container.
package struct VolumeMount: Hashable, Sendable, Codable {
    package enum Access: String, Sendable, Codable { case readWrite, readOnly }

    /// The Engine's name of the volume: derived from the workload's id once and stored, never from a display name.
    package var volume: String
    /// Absolute, normalised, not `/`.
    package var path: String
    package var access: Access

    package init(volume: String, path: String, access: Access = .readWrite) {
        self.volume = volume
        self.path = path
        self.access = access
    }

    /// Only names that this system gives out: a path or another program's volume can never be asked for.
    package static func name(for workload: WorkloadID) -> String { "berth-\(workload.text)" }

    /// For a volume that an image declares at `path`. A name instead of the Engine's anonymous one: it is found again
    /// whatever became of the container, and `docker rm -v` does not take it away.
    package static func name(for workload: WorkloadID, imageVolumeAt path: String) -> String {
        var hasher = Fingerprint.Hasher()
        hasher.combine(path)
        return "\(name(for: workload))-\(hasher.finalize())"
    }

    /// True for the names that the two functions above give.
    package static func isName(_ volume: String, of workload: WorkloadID) -> Bool {
        let own = name(for: workload)
        guard volume.hasPrefix(own) else { return false }
        let rest = volume.utf8.dropFirst(own.utf8.count)
        guard !rest.isEmpty else { return true }
        return rest.count == 17 && rest.first == UInt8(ascii: "-")
            && rest.dropFirst().allSatisfy { byte in
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
            }
    }

    var problem: String? {
        let allowed = volume.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): true
            default: false
            }
        }
        if !allowed || !volume.hasPrefix("berth-") || volume.utf8.count > 96 {
            return "volumes: expected a name of at most 96 of a-z, 0-9 and '-' that starts with \"berth-\""
        }
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        let normalised = path.hasPrefix("/") && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
        if !normalised || path.utf8.count > 1024 || path.contains("\0") {
            return "volumes: expected an absolute path without '.', '..' or empty parts, not '/'"
        }
        return nil
    }
}

/// Whether the container that was replaced may serve again where its replacement does not come up.
package enum RollbackRule: String, Hashable, Sendable, Codable {
    /// Only where neither of the two can write to a volume: the new version may have changed what it found there.
    case ifStateless
    case always
}

/// When an image is pulled for a new container.
package enum PullPolicy: String, Hashable, Sendable, Codable, CaseIterable {
    /// Where the host does not have it.
    case missing
    /// Once for every generation: what a tag means may have changed.
    case always
    case never
}

/// When the agent starts a container again whose main process ended.
package enum RestartPolicy: String, Hashable, Sendable, Codable {
    case always
    /// Exit code 0 is an ordered end: the workload is then `stopped`.
    case onFailure
    case never
}
