import BerthModel
import ControlPlaneCore
import ServiceRuntime

/// The fields `shell`, `environment`, `labels` and `command` of a creation, and limits, which an update takes too; what is
/// not said here is `WorkloadSpec`'s to say.
extension ContainerRoutes {
    static func shell(_ body: inout BodyReader) throws -> SetUp.Shell {
        var shell = SetUp.Shell()
        shell.isEnhanced = try body.flag("enhanced") ?? false
        shell.theme = try body.text("theme")
        shell.suggestsFromHistory = try body.flag("autosuggestions") ?? false
        shell.highlightsSyntax = try body.flag("syntax_highlight") ?? false
        shell.searchesHistory = try body.flag("history_search") ?? false
        shell.hasGitAliases = try body.flag("git_aliases") ?? false
        shell.showsSystemStats = try body.flag("system_stats") ?? false
        shell.usesTmux = try body.flag("use_tmux") ?? false
        if let theme = shell.theme, !SetUp.Shell.isTheme(theme) {
            throw APIError.badField("shell.theme", "\"\(theme.prefix(80))\"", expected: "1 to 32 of a-z, 0-9 and '-'")
        }
        return shell
    }

    static func resources(_ body: inout BodyReader) throws -> ResourceRequest {
        ResourceRequest(
            memoryMB: try body.integer(
                "memory_mb", expected: "a whole number of at least \(ResourceRequest.leastMemoryMB)"),
            cpuMillicores: try body.integer(
                "cpu_shares", expected: "a whole number of at least \(ResourceRequest.leastCPUMillicores)"),
            diskMB: try body.integer("disk_mb", expected: "a whole number of at least \(ResourceRequest.leastDiskMB)"),
            egressKbps: try body.integer("egress_kbps", expected: "0 (no limit) or thousands of bits a second"),
            ingressKbps: try body.integer("ingress_kbps", expected: "0 (no limit) or thousands of bits a second"),
            volumeMB: try body.integer("volume_mb", expected: "0 (no limit) or a whole number of MiB"))
    }

    static func environment(_ body: inout BodyReader) throws -> [String: String] {
        let table = try body.table("environment") ?? [:]
        if let name = table.keys.sorted().first(where: { $0.isEmpty || $0.contains("=") || $0.contains("\0") }) {
            throw APIError.badField(
                "environment", "the name \"\(name.prefix(80))\"", expected: "names that are not empty and hold no '='")
        }
        return table
    }

    static func labels(_ body: inout BodyReader) throws -> [String: String] {
        let table = try body.table("labels") ?? [:]
        if let key = table.keys.sorted().first(where: { $0.isEmpty || $0.hasPrefix("berth.") }) {
            throw APIError.badField(
                "labels", "the key \"\(key.prefix(80))\"",
                expected: "keys that are not empty and do not begin with \"berth.\"")
        }
        return table
    }

    /// All specifications of a host travel in one message. Counted is what they take there: many short items are long, too.
    static func checkLength(_ order: ContainerService.CreateOrder) throws {
        var text = JSONObjectText()
        text.add("environment", order.environment)
        text.add("labels", order.labels)
        text.add("command", order.command)
        let bytes = text.text.utf8.count
        guard bytes <= WorkloadSpec.mostTextBytes else {
            throw APIError.badField(
                "environment, labels, command", "\(bytes) bytes of JSON",
                expected: "at most \(WorkloadSpec.mostTextBytes) bytes together")
        }
    }
}
