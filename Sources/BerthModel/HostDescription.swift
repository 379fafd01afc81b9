/// What a host is and has, as its agent found it.
package struct HostDescription: Hashable, Sendable, Codable {
    package var hostname: String
    package var os: String
    package var arch: String
    package var distro: String
    package var kernel: String
    package var capacity: HostCapacity
    package var engine: EngineDescription?

    package init(
        hostname: String = "", os: String = "linux", arch: String = "", distro: String = "", kernel: String = "",
        capacity: HostCapacity = .init(), engine: EngineDescription? = nil
    ) {
        self.hostname = hostname
        self.os = os
        self.arch = arch
        self.distro = distro
        self.kernel = kernel
        self.capacity = capacity
        self.engine = engine
    }
}

/// Size of a host.
package struct HostCapacity: Hashable, Sendable, Codable {
    /// MiB.
    package var memoryMB: Int
    /// Thousandths of a core.
    package var cpuMillicores: Int
    /// MiB of the file system that holds the Engine's data.
    package var diskMB: Int

    package init(memoryMB: Int = 0, cpuMillicores: Int = 0, diskMB: Int = 0) {
        self.memoryMB = memoryMB
        self.cpuMillicores = cpuMillicores
        self.diskMB = diskMB
    }
}

/// What the Engine says of itself.
package struct EngineDescription: Hashable, Sendable, Codable {
    package var version: String
    package var apiVersion: String
    package var cgroupVersion: String
    package var storageDriver: String
    /// Names that a workload's `runtime` may have on this host: `runc`, `gvisor`, or the Engine's own names.
    package var runtimes: [String]
    /// What the probe found, for every runtime that is set up here. Nil from an agent that does not probe.
    package var findings: [RuntimeFinding]?

    package init(
        version: String = "", apiVersion: String = "", cgroupVersion: String = "", storageDriver: String = "",
        runtimes: [String] = [], findings: [RuntimeFinding]? = nil
    ) {
        self.version = version
        self.apiVersion = apiVersion
        self.cgroupVersion = cgroupVersion
        self.storageDriver = storageDriver
        self.runtimes = runtimes
        self.findings = findings
    }
}

/// What a real start under one runtime of a host showed.
package struct RuntimeFinding: Hashable, Sendable, Codable {
    /// Name that a workload's `runtime` may have.
    package var name: String
    /// The Engine's name of it.
    package var engineRuntime: String
    /// A container started, ran and ended as told.
    package var works: Bool
    /// Why not.
    package var problem: String?
    /// Limits of a container that runs can be changed, and the kernel knows them afterwards.
    package var changesLimitsLive: Bool
    /// A write over the container's disk limit failed.
    package var enforcesDisk: Bool
    /// Why not.
    package var diskProblem: String?

    package init(
        name: String, engineRuntime: String, works: Bool = false, problem: String? = nil,
        changesLimitsLive: Bool = false, enforcesDisk: Bool = false, diskProblem: String? = nil
    ) {
        self.name = name
        self.engineRuntime = engineRuntime
        self.works = works
        self.problem = problem
        self.changesLimitsLive = changesLimitsLive
        self.enforcesDisk = enforcesDisk
        self.diskProblem = diskProblem
    }
}

/// One sample of a whole host.
package struct HostStats: Hashable, Sendable, Codable {
    /// Percent of all cores, 0 to 100.
    package var cpuPercent: Double
    /// Bytes.
    package var memoryBytes: Int
    package var memoryLimitBytes: Int
    package var diskBytes: Int
    package var diskLimitBytes: Int
    package var uptimeSeconds: Int

    package init(
        cpuPercent: Double = 0, memoryBytes: Int = 0, memoryLimitBytes: Int = 0, diskBytes: Int = 0,
        diskLimitBytes: Int = 0, uptimeSeconds: Int = 0
    ) {
        self.cpuPercent = cpuPercent
        self.memoryBytes = memoryBytes
        self.memoryLimitBytes = memoryLimitBytes
        self.diskBytes = diskBytes
        self.diskLimitBytes = diskLimitBytes
        self.uptimeSeconds = uptimeSeconds
    }
}
