/// Counters of one running container, read from its cgroup and network namespace.
package struct ActivitySample: Hashable, Sendable, Codable {
    package var workload: WorkloadID
    /// Microseconds of CPU since the container started.
    package var cpuMicroseconds: Int
    /// Bytes now, without reclaimable page cache.
    package var memoryBytes: Int
    /// Bytes since the container started.
    package var networkReceivedBytes: Int
    package var networkSentBytes: Int
    /// Changes when the counters start from zero again (the container was started anew).
    package var resetID: String
    /// Percent of one core since the sample before; nil for the first.
    package var cpuPercent: Double?
    /// Seconds without activity; nil where too little was seen to say.
    package var idleSeconds: Double?
    /// Seconds until it is to be stopped for its idleness, 0 or less where it is due; nil where it is not to be.
    package var stopsInSeconds: Double?

    package init(
        workload: WorkloadID, cpuMicroseconds: Int, memoryBytes: Int, networkReceivedBytes: Int,
        networkSentBytes: Int, resetID: String, cpuPercent: Double? = nil, idleSeconds: Double? = nil,
        stopsInSeconds: Double? = nil
    ) {
        self.workload = workload
        self.cpuMicroseconds = cpuMicroseconds
        self.memoryBytes = memoryBytes
        self.networkReceivedBytes = networkReceivedBytes
        self.networkSentBytes = networkSentBytes
        self.resetID = resetID
        self.cpuPercent = cpuPercent
        self.idleSeconds = idleSeconds
        self.stopsInSeconds = stopsInSeconds
    }
}
