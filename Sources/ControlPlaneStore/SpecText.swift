package import BerthModel
import ServiceRuntime

extension WorkloadSpec {
    /// As its row keeps it: what its `Codable` conformance reads. Written out, for a creation would spend more on an encoder
    /// than on its statements; a test compares the two, field by field.
    package var rowText: String {
        var text = JSONObjectText()
        text.add("name", name)
        text.add("image", image)
        text.add("runtime") { object in
            object.add("name", runtime.name)
            object.add("necessity", runtime.necessity.rawValue)
        }
        text.add("resources", object: resources.write)
        text.add("command", command)
        text.add("environment", environment)
        text.add("labels", labels)
        text.add("volumes", objects: volumes.count) { object, index in
            object.add("volume", volumes[index].volume)
            object.add("path", volumes[index].path)
            object.add("access", volumes[index].access.rawValue)
        }
        text.add("restart", restart.rawValue)
        text.add("stopGraceSeconds", stopGraceSeconds)
        text.add("rollback", rollback?.rawValue)
        text.add("restartLimit", restartLimit)
        if let setUp { text.add("setUp", object: setUp.write) }
        text.add("pull", pull?.rawValue)
        text.add("expiresAt", expiresAt)
        text.add("idleTimeoutSeconds", idleTimeoutSeconds)
        text.add("heldUntil", heldUntil)
        if let ports {
            text.add("ports", objects: ports.count) { object, index in
                object.add("container", ports[index].container)
                object.add("host", ports[index].host)
                object.add("protocol", ports[index].transport.rawValue)
            }
        }
        return text.text
    }
}

extension Resources {
    fileprivate func write(to text: inout JSONObjectText) {
        text.add("memoryMB", memoryMB)
        text.add("cpuMillicores", cpuMillicores)
        text.add("diskMB", diskMB)
        text.add("pids", pids)
        if let bandwidth {
            text.add("bandwidth") { object in
                object.add("egressKbps", bandwidth.egressKbps)
                object.add("ingressKbps", bandwidth.ingressKbps)
            }
        }
        text.add("volumeMB", volumeMB)
    }
}

extension SetUp {
    fileprivate func write(to text: inout JSONObjectText) {
        text.add("role", role?.rawValue)
        guard let shell else { return }
        text.add("shell") { object in
            object.add("isEnhanced", shell.isEnhanced)
            object.add("theme", shell.theme)
            object.add("suggestsFromHistory", shell.suggestsFromHistory)
            object.add("highlightsSyntax", shell.highlightsSyntax)
            object.add("searchesHistory", shell.searchesHistory)
            object.add("hasGitAliases", shell.hasGitAliases)
            object.add("showsSystemStats", shell.showsSystemStats)
            object.add("usesTmux", shell.usesTmux)
        }
    }
}
