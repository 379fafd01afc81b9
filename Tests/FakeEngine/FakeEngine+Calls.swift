import AgentCore
import BerthModel
import Foundation
import NIOHTTP1
import Simulation
import Synchronization

/// The calls, as the Engine documents them.
extension FakeEngine {
    struct Answer {
        /// 0 where no answer comes.
        var status: Int
        var body: Data

        init(status: Int, json: Any? = nil) {
            self.status = status
            body =
                json.flatMap { try? JSONSerialization.data(withJSONObject: $0, options: [.fragmentsAllowed]) } ?? Data()
        }
    }

    func call(_ method: HTTPMethod, _ uri: String, _ body: Data) -> Answer {
        let target = uri.split(separator: "?", maxSplits: 1).first.map(String.init) ?? uri
        let query = uri.contains("?") ? String(uri.drop { $0 != "?" }.dropFirst()) : ""
        var parts = target.split(separator: "/").map { String($0).removingPercentEncoding ?? "" }
        if parts.first?.hasPrefix("v1.") == true { parts.removeFirst() }
        let json = (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] ?? [:]
        state.withLock { state in
            let now = Int(state.began.duration(to: .now) / .milliseconds(1)) + 1_000_000
            if now > state.host.clock { state.host.pass(Milliseconds(now - state.host.clock)) }
        }
        if let answer = probe(method, parts, query, json) { return answer }
        switch (method, parts.first ?? "", parts.count) {
        case (.GET, "version", _):
            return .init(status: 200, json: ["Version": "fake", "ApiVersion": "1.41", "MinAPIVersion": "1.12"])
        case (.GET, "_ping", _): return .init(status: 200, json: "OK")
        case (.GET, "info", _): return .init(status: 200, json: Self.info)
        case (.GET, "containers", 2):
            return .init(status: 200, json: host.containers.values.sorted { $0.id < $1.id }.map(Self.summary))
        case (.GET, "containers", 3): return inspect(parts[1])
        case (.GET, "volumes", 1):
            return .init(
                status: 200, json: ["Volumes": host.volumes.sorted().map { ["Name": $0, "Mountpoint": "/x"] }])
        case (.GET, "images", _):
            guard let image = host.images[parts.dropFirst().dropLast().joined(separator: "/")] else {
                return .init(status: 404, json: ["message": "No such image"])
            }
            return .init(
                status: 200,
                json: [
                    "Id": image.id, "Size": 1,
                    "Config": [
                        "Volumes": Dictionary(uniqueKeysWithValues: image.volumePaths.map { ($0, [String: String]()) })
                    ],
                ])
        case (.POST, "images", _): return pull(query)
        case (.POST, "containers", 2) where parts[1] == "create": return create(query, json)
        case (.POST, "containers", 3): return act(parts[1], parts[2], json)
        case (.POST, "networks", 3):
            let id = json["Container"] as? String ?? ""
            return effect(204, "network", parts[2], id) { host throws(SimulatedHost.Refusal) in try host.connect(id) }
        case (.DELETE, "containers", 2):
            return effect(204, "container", "destroy", parts[1]) { host throws(SimulatedHost.Refusal) in
                try host.remove(parts[1], withVolumes: query.contains("v=1"), force: query.contains("force=1"))
            }
        default: return .init(status: 404, json: ["message": "page not found"])
        }
    }

    /// The containers of a probe are nobody's workloads: here they do as they are told and leave no trace.
    private func probe(_ method: HTTPMethod, _ parts: [String], _ query: String, _ json: [String: Any]) -> Answer? {
        let labels = json["Labels"] as? [String: String] ?? [:]
        if method == .POST, parts == ["containers", "create"], labels["berth.probe"] != nil {
            let isLimited = (json["HostConfig"] as? [String: Any])?["StorageOpt"] is [String: String]
            return isLimited
                ? .init(status: 500, json: ["message": "--storage-opt is not supported"])
                : .init(status: 201, json: ["Id": "probe", "Warnings": NSNull()])
        }
        switch (method, parts.first ?? "", parts.dropFirst().first ?? "") {
        case (.POST, "images", "create") where query.contains("fromSrc"), (.GET, "images", "berth-probe:1"):
            return .init(status: 200, json: ["Id": "sha256:probe", "Size": 1])
        case (.GET, "networks", ""):
            return .init(
                status: 200,
                json: [
                    [
                        "Id": "n", "Name": "berth", "Driver": "bridge", "Created": "2026-01-01T00:00:00Z",
                        "Options": ["com.docker.network.bridge.enable_icc": "false"],
                    ] as [String: Any]
                ])
        case (.POST, "containers", "probe") where parts.last == "wait":
            return .init(status: 200, json: ["StatusCode": 42])
        case (.POST, "containers", "probe") where parts.last == "update":
            return .init(status: 200, json: ["Warnings": NSNull()])
        case (.POST, "containers", "probe"), (.DELETE, "containers", "probe"): return .init(status: 204)
        case (.GET, "containers", "probe"):
            return .init(
                status: 200,
                json: Self.details(
                    .init(
                        id: "probe", name: "probe", image: "", labels: [:], mounts: [], runtime: "runc",
                        limits: .init(memory: 1, nanoCPUs: 1, pids: 1), restartPolicy: "no")))
        default: return nil
        }
    }

    private func effect(
        _ status: Int, _ type: String, _ event: String, _ id: String,
        _ body: (inout SimulatedHost) throws(SimulatedHost.Refusal) -> Void
    ) -> Answer {
        let labels = host.containers[id]?.labels ?? [:]
        let result = change { host -> Result<Void, SimulatedHost.Refusal> in
            do throws(SimulatedHost.Refusal) {
                try body(&host)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success:
            publish(type, event, id, labels)
            return .init(status: status)
        case .failure(let refusal): return .init(status: refusal.status, json: ["message": refusal.message])
        }
    }

    private func act(_ id: String, _ verb: String, _ json: [String: Any]) -> Answer {
        switch verb {
        case "start":
            if host.containers[id]?.isUp == true { return .init(status: 304) }
            return effect(204, "container", "start", id) { host throws(SimulatedHost.Refusal) in try host.start(id) }
        case "stop":
            if host.containers[id].map({ !$0.isUp }) == true { return .init(status: 304) }
            return effect(204, "container", "die", id) { host throws(SimulatedHost.Refusal) in try host.stop(id) }
        case "update":
            let limits = Self.limits(json)
            let answer = effect(200, "container", "update", id) { host throws(SimulatedHost.Refusal) in
                try host.update(id, limits)
            }
            return answer.status == 200 ? .init(status: 200, json: ["Warnings": NSNull()]) : answer
        default: return .init(status: 404, json: ["message": "page not found"])
        }
    }

    private func pull(_ query: String) -> Answer {
        let items = query.split(separator: "&").map(String.init)
        func value(_ key: String) -> String {
            items.first { $0.hasPrefix(key + "=") }.map {
                String($0.dropFirst(key.count + 1)).removingPercentEncoding ?? ""
            } ?? ""
        }
        let tag = value("tag")
        let reference = value("fromImage") + (tag.isEmpty ? "" : ":\(tag)")
        return effect(200, "image", "pull", reference) { host throws(SimulatedHost.Refusal) in try host.pull(reference)
        }
    }

    private func create(_ query: String, _ json: [String: Any]) -> Answer {
        let name = query.split(separator: "&").first { $0.hasPrefix("name=") }.map { String($0.dropFirst(5)) } ?? ""
        let hostJSON = json["HostConfig"] as? [String: Any] ?? [:]
        let mounts = (hostJSON["Mounts"] as? [[String: Any]] ?? []).map { mount in
            SimulatedHost.Mount(
                volume: mount["Source"] as? String ?? "", path: mount["Target"] as? String ?? "",
                isWritable: mount["ReadOnly"] as? Bool != true,
                noCopy: (mount["VolumeOptions"] as? [String: Any])?["NoCopy"] as? Bool == true)
        }
        let container = SimulatedHost.Container(
            id: "", name: name, image: json["Image"] as? String ?? "",
            labels: json["Labels"] as? [String: String] ?? [:], mounts: mounts,
            runtime: hostJSON["Runtime"] as? String ?? "runc", limits: Self.limits(hostJSON),
            restartPolicy: (hostJSON["RestartPolicy"] as? [String: Any])?["Name"] as? String ?? "no")
        let result = change { host -> Result<String, SimulatedHost.Refusal> in
            do throws(SimulatedHost.Refusal) {
                return .success(try host.create(container))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let id):
            publish("container", "create", id, container.labels)
            return .init(status: 201, json: ["Id": id, "Warnings": NSNull()])
        case .failure(let refusal): return .init(status: refusal.status, json: ["message": refusal.message])
        }
    }

    private func inspect(_ text: String) -> Answer {
        guard let container = host.containers[text] ?? host.containers.values.first(where: { $0.name == text }) else {
            return .init(status: 404, json: ["message": "No such container: \(text)"])
        }
        return .init(status: 200, json: Self.details(container))
    }

    // MARK: the Engine's JSON

    private static var info: [String: Any] {
        [
            "ID": "fake", "ServerVersion": "fake", "Driver": "fake", "CgroupVersion": "1", "DockerRootDir": "/",
            "Runtimes": ["runc": [String: String](), "runsc": [String: String]()], "MemTotal": 1 << 33, "NCPU": 2,
        ]
    }

    private static func limits(_ json: [String: Any]) -> EngineLimits {
        EngineLimits(
            memory: json["Memory"] as? Int ?? 0, nanoCPUs: json["NanoCpus"] as? Int ?? 0,
            pids: json["PidsLimit"] as? Int ?? 0)
    }

    private static func word(_ state: SimulatedHost.Container.State) -> String {
        switch state {
        case .created: "created"
        case .running: "running"
        case .paused: "paused"
        case .exited: "exited"
        }
    }

    private static func mounts(_ container: SimulatedHost.Container) -> [[String: Any]] {
        container.mounts.map {
            ["Type": "volume", "Name": $0.volume, "Source": "", "Destination": $0.path, "RW": $0.isWritable]
        }
    }

    private static func summary(_ container: SimulatedHost.Container) -> [String: Any] {
        [
            "Id": container.id, "Names": container.name.isEmpty ? [] : ["/\(container.name)"], "Image": container.image,
            "ImageID": "", "State": word(container.state), "Status": word(container.state),
            "Labels": container.labels, "Mounts": mounts(container),
        ]
    }

    private static func time(_ milliseconds: Int) -> String {
        milliseconds == 0
            ? "0001-01-01T00:00:00Z"
            : Date(timeIntervalSince1970: Double(milliseconds) / 1000)
                .formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    private static func details(_ container: SimulatedHost.Container) -> [String: Any] {
        var state: [String: Any] = [
            "Status": word(container.state), "Pid": 0, "ExitCode": 0, "OOMKilled": false, "Error": "",
            "StartedAt": time(0), "FinishedAt": time(0),
        ]
        switch container.state {
        case .running(let since), .paused(let since): state["StartedAt"] = time(since)
        case .exited(let code, let startedAt, let finishedAt, let error):
            state["ExitCode"] = code
            state["Error"] = error
            state["StartedAt"] = time(startedAt)
            state["FinishedAt"] = time(finishedAt)
        case .created: break
        }
        let networks: [String: Any] = container.isConnected ? ["bridge": ["IPAddress": "10.9.8.7"]] : [:]
        return [
            "Id": container.id, "Name": "/\(container.name)", "Image": "sha256:x", "State": state,
            "NetworkSettings": ["Networks": networks],
            "HostConfig": [
                "Runtime": container.runtime, "Memory": container.limits.memory,
                "MemorySwap": container.limits.memory, "NanoCpus": container.limits.nanoCPUs,
                "PidsLimit": container.limits.pids, "NetworkMode": "default",
                "RestartPolicy": ["Name": container.restartPolicy],
            ] as [String: Any],
            "Config": ["Labels": container.labels, "Hostname": "x", "Image": container.image] as [String: Any],
            "Mounts": mounts(container),
        ]
    }
}
