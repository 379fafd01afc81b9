/// What a user has paid for, and so what they may have.
package enum Tier: String, Hashable, Sendable, Codable, CaseIterable {
    case guest, free, pro, enterprise

    /// The greatest resources of one container, which are also the defaults, and how many containers a user may have.
    package struct Limits: Hashable, Sendable {
        /// Thousandths of a core.
        package var cpuMillicores: Int
        package var memoryMB: Int
        /// MB outside the volume.
        package var diskMB: Int
        package var containers: Int
        /// The longest that a container may be idle before it is stopped; nil: for ever.
        package var idleTimeoutSeconds: Int?

        /// - Parameter wanted: seconds; 0 asks for none, nil says nothing.
        package func idleTimeout(_ wanted: Int?) -> Int? {
            guard let wanted, wanted > 0 else { return idleTimeoutSeconds }
            return min(wanted, idleTimeoutSeconds ?? wanted)
        }

        // From the documented least of a request to the most that an agent takes.
        package static let cpuMillicoresRange = ResourceRequest.leastCPUMillicores...1_024_000
        package static let memoryMBRange = ResourceRequest.leastMemoryMB...1_048_576
        package static let diskMBRange = ResourceRequest.leastDiskMB...16_777_216
        package static let containersRange = 0...100_000
    }

    /// Whose containers run for a time and then stop.
    package var hasSessions: Bool { self == .guest || self == .free }
}

/// What each tier may have.
package struct TierLimits: Hashable, Sendable {
    private var guest = Tier.Limits(cpuMillicores: 500, memoryMB: 512, diskMB: 2048, containers: 1)
    private var free = Tier.Limits(cpuMillicores: 2000, memoryMB: 2048, diskMB: 10240, containers: 5)
    private var pro = Tier.Limits(cpuMillicores: 4000, memoryMB: 4096, diskMB: 20480, containers: 10)
    private var enterprise = Tier.Limits(cpuMillicores: 8000, memoryMB: 8192, diskMB: 51200, containers: 25)

    private init() {}

    /// The documented table.
    package static let `default` = TierLimits()

    package subscript(tier: Tier) -> Tier.Limits {
        get {
            switch tier {
            case .guest: guest
            case .free: free
            case .pro: pro
            case .enterprise: enterprise
            }
        }
        set {
            switch tier {
            case .guest: guest = newValue
            case .free: free = newValue
            case .pro: pro = newValue
            case .enterprise: enterprise = newValue
            }
        }
    }
}

/// What a token may be used for.
package enum Scope: String, Hashable, Sendable, Codable, CaseIterable {
    case read, write, agent, admin
}
