package import BerthModel

/// Turns what a client asked for into what it gets: defaults from the tier, above the tier clamped, below the documented
/// minimum refused.
package struct ResourceRequest: Hashable, Sendable {
    package var memoryMB: Int?
    package var cpuMillicores: Int?
    package var diskMB: Int?
    /// 0 takes a limit away; so with the two below.
    package var egressKbps: Int?
    package var ingressKbps: Int?
    package var volumeMB: Int?

    package init(
        memoryMB: Int? = nil, cpuMillicores: Int? = nil, diskMB: Int? = nil, egressKbps: Int? = nil,
        ingressKbps: Int? = nil, volumeMB: Int? = nil
    ) {
        self.memoryMB = memoryMB
        self.cpuMillicores = cpuMillicores
        self.diskMB = diskMB
        self.egressKbps = egressKbps
        self.ingressKbps = ingressKbps
        self.volumeMB = volumeMB
    }

    /// Documented least values.
    package static let leastMemoryMB = 256
    package static let leastCPUMillicores = 250
    package static let leastDiskMB = 1024

    /// - Parameter current: what an omitted field keeps; nil for a new container, which gets the tier's limit.
    /// - Throws: `FieldProblem` for the first field that is out of range.
    package func resolved(for limits: Tier.Limits, current: Resources? = nil) throws(FieldProblem) -> Resources {
        var result = current ?? Resources()
        result.memoryMB = try Self.value(
            "memory_mb", memoryMB, least: Self.leastMemoryMB, most: limits.memoryMB, fallback: current?.memoryMB)
        result.cpuMillicores = try Self.value(
            "cpu_shares", cpuMillicores, least: Self.leastCPUMillicores, most: limits.cpuMillicores,
            fallback: current?.cpuMillicores)
        result.diskMB = try Self.value(
            "disk_mb", diskMB, least: Self.leastDiskMB, most: limits.diskMB, fallback: current?.diskMB)
        let bandwidth = Bandwidth(
            egressKbps: try Self.optional(
                "egress_kbps", egressKbps, in: Bandwidth.range, current: current?.bandwidth?.egressKbps),
            ingressKbps: try Self.optional(
                "ingress_kbps", ingressKbps, in: Bandwidth.range, current: current?.bandwidth?.ingressKbps))
        result.bandwidth = bandwidth.isUnlimited ? nil : bandwidth
        result.volumeMB = try Self.optional(
            "volume_mb", volumeMB, in: Resources.volumeRange, current: current?.volumeMB)
        return result
    }

    private static func optional(
        _ field: String, _ wanted: Int?, in range: ClosedRange<Int>, current: Int?
    ) throws(FieldProblem) -> Int? {
        guard let wanted else { return current }
        if wanted == 0 { return nil }
        guard range.contains(wanted) else {
            throw FieldProblem(
                field: field, value: String(wanted),
                expected: "0 (no limit) or a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return wanted
    }

    private static func value(
        _ field: String, _ wanted: Int?, least: Int, most: Int, fallback: Int?
    ) throws(FieldProblem) -> Int {
        guard let wanted else { return fallback ?? most }
        guard wanted >= least else {
            throw FieldProblem(field: field, value: String(wanted), expected: "a whole number from \(least) to \(most)")
        }
        return min(wanted, most)
    }
}

/// One field of a request, or one key of a setting, that cannot be used.
package struct FieldProblem: Error, Hashable, Sendable, CustomStringConvertible {
    package var field: String
    package var value: String
    package var expected: String

    package init(field: String, value: String, expected: String) {
        self.field = field
        self.value = value
        self.expected = expected
    }

    package var description: String { "\(field): found \(value), expected \(expected)" }
}
