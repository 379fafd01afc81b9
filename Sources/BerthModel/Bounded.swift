/// What an agent says is kept, stored and shown to others: each text and number has a bound, whoever wrote it.
extension WorkloadStatus {
    package func bounded() -> WorkloadStatus {
        var result = self
        result.reason = reason?.clipped(to: 100)
        result.message = message?.clipped(to: 2000)
        result.imageID = imageID?.clipped(to: 200)
        result.address = address?.clipped(to: 100)
        result.unenforced = [:]
        for key in unenforced.keys.sorted().prefix(16) {
            result.unenforced[key.clipped(to: 64)] = unenforced[key]?.clipped(to: 300)
        }
        result.roleError = roleError?.clipped(to: 1000)
        result.warnings = warnings.prefix(8).map { $0.clipped(to: 300) }
        result.volumeUsedMB = volumeUsedMB?.clamped(to: 0...(1 << 40))
        result.writableLayerMB = writableLayerMB?.clamped(to: 0...(1 << 40))
        if case .unrecognised(let word) = phase { result.phase = .unrecognised(word.clipped(to: 64)) }
        return result
    }
}

extension HostDescription {
    package func bounded() -> HostDescription {
        var result = self
        result.hostname = hostname.clipped(to: 255)
        result.os = os.clipped(to: 64)
        result.arch = arch.clipped(to: 64)
        result.distro = distro.clipped(to: 200)
        result.kernel = kernel.clipped(to: 200)
        // Far above any machine, far below what sums of it could overflow.
        let sizes = 0...(1 << 40)
        result.capacity.memoryMB = capacity.memoryMB.clamped(to: sizes)
        result.capacity.cpuMillicores = capacity.cpuMillicores.clamped(to: sizes)
        result.capacity.diskMB = capacity.diskMB.clamped(to: sizes)
        if let engine {
            result.engine = EngineDescription(
                version: engine.version.clipped(to: 64), apiVersion: engine.apiVersion.clipped(to: 64),
                cgroupVersion: engine.cgroupVersion.clipped(to: 64),
                storageDriver: engine.storageDriver.clipped(to: 64),
                runtimes: engine.runtimes.prefix(32).map { $0.clipped(to: 64) },
                findings: engine.findings?.prefix(32).map { finding in
                    RuntimeFinding(
                        name: finding.name.clipped(to: 64), engineRuntime: finding.engineRuntime.clipped(to: 64),
                        works: finding.works, problem: finding.problem?.clipped(to: 300),
                        changesLimitsLive: finding.changesLimitsLive, enforcesDisk: finding.enforcesDisk,
                        diskProblem: finding.diskProblem?.clipped(to: 300))
                })
        }
        return result
    }
}

extension ActionRecord {
    package func bounded() -> ActionRecord {
        var result = self
        result.action = action.clipped(to: 300)
        result.reason = reason.clipped(to: 300)
        result.error = error?.clipped(to: 1000)
        // A moment that people can read: up to the year 2100.
        result.at = at.isFinite ? Swift.min(Swift.max(at, 0), 4_102_444_800) : 0
        result.milliseconds = milliseconds.clamped(to: 0...(1 << 40))
        result.generation = generation.clamped(to: 0...(1 << 40))
        return result
    }
}

extension ActivitySample {
    package func bounded() -> ActivitySample {
        var result = self
        result.resetID = resetID.clipped(to: 200)
        result.cpuPercent = cpuPercent.map { min(max($0, 0), 10_000_000) }
        result.idleSeconds = idleSeconds.map { min(max($0, 0), Self.mostSeconds) }
        result.stopsInSeconds = stopsInSeconds.map { min(max($0, -Self.mostSeconds), Self.mostSeconds) }
        return result
    }

    /// A hundred years.
    private static let mostSeconds = 3_155_760_000.0
}

extension String {
    /// At most `limit` characters, and at most four bytes for each.
    fileprivate func clipped(to limit: Int) -> String {
        if utf8.count <= limit { return self }
        return String(decoding: utf8.prefix(4 * limit), as: UTF8.self).prefix(limit) + "…"
    }
}

extension Int {
    fileprivate func clamped(to range: ClosedRange<Int>) -> Int {
        Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
    }
}
