import BerthModel
import ControlPlaneCore
import ServiceRuntime

extension ImageCatalogue {
    /// The setting `images`, sorted by name; nil where it is not set.
    init?(_ settings: inout SettingsReader) {
        let entries = settings.objects("images") { name, image in
            Entry(
                name: name, description: image.text("description", default: "") { _ in true },
                aliases: image.list("aliases") { _ in true },
                reference: image.optionalText("reference", expected: "an image reference"),
                architectures: image.list("architectures", expected: "a list of processors such as amd64 and arm64") {
                    Architecture.isName($0)
                })
        }
        guard let entries else { return nil }
        for problem in Self.problems(in: entries) {
            settings.require(false, key: problem.field, found: problem.value, expected: problem.expected)
        }
        self.init(entries)
    }
}

extension TierLimits {
    /// The setting `tiers`; what it leaves out is as in the documented table.
    init(_ settings: inout SettingsReader) {
        self = settings.section("tiers") { tiers in
            var limits = TierLimits.default
            for tier in Tier.allCases {
                let documented = limits[tier]
                limits[tier] = tiers.section(tier.rawValue) { Tier.Limits(&$0, of: tier, default: documented) }
            }
            return limits
        }
    }
}

extension Tier.Limits {
    fileprivate init(_ settings: inout SettingsReader, of tier: Tier, default usual: Tier.Limits) {
        self = usual
        cpuMillicores = settings.integer(
            "cpu_millicores", default: usual.cpuMillicores, in: Self.cpuMillicoresRange)
        memoryMB = settings.integer("memory_mb", default: usual.memoryMB, in: Self.memoryMBRange)
        diskMB = settings.integer("disk_mb", default: usual.diskMB, in: Self.diskMBRange)
        let idle = settings.integer(
            "idle_timeout_seconds", default: 0, in: 0...WorkloadSpec.idleTimeoutRange.upperBound)
        settings.require(
            idle == 0 || WorkloadSpec.idleTimeoutRange.contains(idle),
            key: "tiers.\(tier.rawValue).idle_timeout_seconds", found: "\(idle)",
            expected: "0 (never) or at least \(WorkloadSpec.idleTimeoutRange.lowerBound)")
        idleTimeoutSeconds = idle == 0 ? nil : idle
        containers = settings.integer("containers", default: usual.containers, in: Self.containersRange)
    }
}
