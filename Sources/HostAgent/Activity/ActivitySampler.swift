import AgentCore
import BerthModel
import DockerEngine

/// Reads the counters of all running containers at a steady pace and says how idle each is.
package actor ActivitySampler {
    private struct Watched {
        var counters: CgroupCounters
        var resetID: String
    }

    private let loop: ReconcileLoop
    private let observer: HostObserver
    private let mailbox: OutgoingMailbox
    private let time: MonotonicTime
    private let period: Duration
    private var watched: [String: Watched] = [:]
    private var idle: [WorkloadID: IdleEstimate] = [:]
    /// The generation of each that was seen last, and when it was first seen where there was another before.
    private var generations: [WorkloadID: (number: Generation, changedAt: MonotonicInstant?)] = [:]
    private var lastHostCPU: (busy: Int, total: Int)?

    package init(
        loop: ReconcileLoop, observer: HostObserver, mailbox: OutgoingMailbox, time: MonotonicTime, period: Duration
    ) {
        self.loop = loop
        self.observer = observer
        self.mailbox = mailbox
        self.time = time
        self.period = period
    }

    package func run() async throws {
        while true {
            try await Task.sleep(for: period, tolerance: period / 10)
            await sample()
        }
    }

    func sample() async {
        var samples: [ActivitySample] = []
        let (held, settled) = await loop.heldAndSettled
        let desired = held.workloads.filter { settled.contains($0.key) }
        let processes = await observer.runningProcesses()
        let now = time.now
        var kept: [String: Watched] = [:]
        var keptIdle: [WorkloadID: IdleEstimate] = [:]
        for process in processes {
            let resetID = "\(process.container.prefix(12)) \(process.startedAt)"
            let known = watched[process.container].flatMap { $0.resetID == resetID ? $0 : nil }
            guard let counters = known?.counters ?? CgroupCounters(pid: process.pid), let reading = counters.read()
            else {
                continue
            }
            kept[process.container] = Watched(counters: counters, resetID: resetID)
            var estimate = idle[process.workload] ?? IdleEstimate()
            let (cpuPercent, idleSeconds) = estimate.sampled(
                cpuMicroseconds: reading.cpuMicroseconds, resetID: resetID, at: now)
            keptIdle[process.workload] = estimate
            if let unsettled = held.workloads[process.workload], !settled.contains(process.workload) {
                // Its time begins when it is as it is wanted.
                generations[process.workload] = (unsettled.generation, now)
            }
            let deadline = desired[process.workload].map { self.deadline($0, measured: idleSeconds, at: now) }
            samples.append(
                ActivitySample(
                    workload: process.workload, cpuMicroseconds: reading.cpuMicroseconds,
                    memoryBytes: reading.memoryBytes, networkReceivedBytes: reading.receivedBytes,
                    networkSentBytes: reading.sentBytes, resetID: resetID, cpuPercent: cpuPercent,
                    idleSeconds: deadline?.idleSeconds, stopsInSeconds: deadline?.stopsInSeconds))
        }
        watched = kept
        idle = keptIdle
        generations = generations.filter { held.workloads[$0.key] != nil }
        await mailbox.sampled(samples, host: await hostStats())
    }

    /// As of now: what was sampled last, and the owner's word since then.
    ///
    /// - Returns: seconds until `workload` is to be stopped for its idleness; nil where it is not to be.
    func stopsIn(_ workload: WorkloadID) async -> Double? {
        let (held, settled) = await loop.heldAndSettled
        guard settled.contains(workload), let wanted = held.workloads[workload] else { return nil }
        let now = time.now
        return deadline(wanted, measured: idle[workload]?.idle(at: now), at: now).stopsInSeconds
    }

    private func deadline(
        _ workload: DesiredWorkload, measured: Double?, at now: MonotonicInstant
    ) -> IdleDeadline {
        let seen = generations[workload.id]
        if seen?.number != workload.generation {
            generations[workload.id] = (workload.generation, seen.map { _ in now })
        }
        let changedAt = generations[workload.id]?.changedAt
        return IdleDeadline(
            workload, measured: measured, sinceChange: changedAt.map { Double((now - $0).count) / 1000 },
            serverTime: loop.parts.serverTime.now)
    }

    private func hostStats() async -> HostStats {
        let disk = HostFacts.disk(await observer.info?.dockerRootDir ?? "/")
        let total = HostFacts.meminfo("MemTotal") * 1024
        let uptime = ProcFile.text("/proc/uptime")?.prefix { $0 != "." }
        return HostStats(
            cpuPercent: hostCPUPercent(), memoryBytes: total - HostFacts.meminfo("MemAvailable") * 1024,
            memoryLimitBytes: total, diskBytes: disk.used, diskLimitBytes: disk.total,
            uptimeSeconds: uptime.flatMap { Int($0) } ?? 0)
    }

    private func hostCPUPercent() -> Double {
        let fields = ProcFile.lines("/proc/stat").first?.split(separator: " ").dropFirst().compactMap { Int($0) } ?? []
        guard fields.count >= 5 else { return 0 }
        let total = fields.prefix(8).reduce(0, +)
        let busy = total - fields[3] - fields[4]
        defer { lastHostCPU = (busy, total) }
        guard let before = lastHostCPU, total > before.total else { return 0 }
        return Double(busy - before.busy) / Double(total - before.total) * 100
    }
}
