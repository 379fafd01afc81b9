/// What a user has paid for, and so what they may have.
package enum Tier: String, Hashable, Sendable, Codable, CaseIterable {
    case guest, free, pro, enterprise

    /// The greatest resources of one container, which are also the defaults.
    package struct Limits: Hashable, Sendable {
        package var cpuMillicores: Int
        package var memoryMB: Int
        package var diskMB: Int
        package var containers: Int
    }

    /// Whose containers run for a time and then stop.
    package var hasSessions: Bool { self == .guest || self == .free }

    package var limits: Limits {
        switch self {
        case .guest:
            return Limits(cpuMillicores: 500, memoryMB: 512, diskMB: 2048, containers: 1)
        case .free:
            return Limits(cpuMillicores: 2000, memoryMB: 2048, diskMB: 10240, containers: 5)
        case .pro:
            return Limits(cpuMillicores: 4000, memoryMB: 4096, diskMB: 20480, containers: 10)
        case .enterprise:
            return Limits(cpuMillicores: 8000, memoryMB: 8192, diskMB: 51200, containers: 25)
        }
    }
}

/// What a token may be used for.
package enum Scope: String, Hashable, Sendable, Codable, CaseIterable {
    case read, write, agent, admin
}
