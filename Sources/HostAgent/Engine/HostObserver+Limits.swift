import AgentCore
import BerthModel
import DockerEngine
import ServiceRuntime

/// What the measure of volumes and the limits of bandwidth need to know, and what was measured.
extension HostObserver {
    /// Ids of all containers of the Engine that run or may.
    var mayRun: Set<String> { Set((listed ?? [:]).filter(\.value).keys) }

    /// Volumes of `workloads`, each with where it lies on this host.
    func volumeFolders(of workloads: Set<WorkloadID>) -> [String: String] {
        var folders: [String: String] = [:]
        for container in lastManaged.values where workloads.contains(container.workload) {
            for mount in seen[container.id.text]?.details.mounts ?? [] where mount.type == "volume" {
                if let name = mount.name { folders[name] = mount.source }
            }
        }
        return folders
    }

    /// Replaces what was measured before.
    func measured(volumeMB: [String: Int], problems: [String: String]) {
        let isNews = self.volumeMB != volumeMB || volumeProblems != problems
        self.volumeMB = volumeMB
        volumeProblems = problems
        if isNews { doorbell.ring() }
    }
}
