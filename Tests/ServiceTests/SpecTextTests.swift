import BerthModel
import ControlPlaneStore
import Foundation
import ServiceRuntime
import Testing

/// Rows are written by hand and read by `Codable`: the two must know the same fields.
@Suite struct SpecTextTests {
    private static let full: WorkloadSpec = {
        var shell = SetUp.Shell()
        shell.isEnhanced = true
        shell.theme = "dark"
        shell.searchesHistory = true
        shell.usesTmux = true
        return WorkloadSpec(
            name: "full", image: "registry:5000/a/b@sha256:00", runtime: .init(name: "runc", necessity: .prefer),
            resources: Resources(
                memoryMB: 1, cpuMillicores: 2, diskMB: 3, pids: 4, bandwidth: Bandwidth(egressKbps: 5, ingressKbps: 6),
                volumeMB: 7),
            command: ["sh", "-c", "echo \"ä\" \\ \n\u{1}\u{7f}\u{2028}"],
            environment: ["B": "x=\"y\"", "A": "", "Ü": "\t/"], labels: ["k": "v/w"],
            volumes: [
                VolumeMount(volume: "berth-1", path: "/a"),
                VolumeMount(volume: "berth-2", path: "/b \"c\"", access: .readOnly),
            ],
            restart: .onFailure, stopGraceSeconds: 8, rollback: .always, restartLimit: 9,
            setUp: SetUp(role: .node, shell: shell), pull: .never, expiresAt: 1_790_000_000.123_456,
            idleTimeoutSeconds: 300, heldUntil: 1_790_000_000,
            ports: [PublishedPort(container: 80, host: 8080), PublishedPort(container: 53, host: 53, transport: .udp)])
    }()

    private static let shapes: [WorkloadSpec] = {
        var noBandwidth = full
        noBandwidth.resources.bandwidth = Bandwidth(ingressKbps: 100)
        noBandwidth.setUp = SetUp(role: nil)
        noBandwidth.ports = []
        noBandwidth.command = []
        return [full, noBandwidth, WorkloadSpec(name: "least", image: "alpine")]
    }()

    @Test(arguments: shapes)
    func `a specification is written as it is read`(spec: WorkloadSpec) throws {
        #expect(try JSONCoding.decode(WorkloadSpec.self, from: spec.rowText) == spec)
        let encoded = try JSONCoding.decode(JSONValue.self, from: JSONCoding.encodeText(spec))
        #expect(try JSONCoding.decode(JSONValue.self, from: spec.rowText) == encoded)
    }

    /// Else a new field that is nil here could be forgotten there.
    @Test func `no field of the sample is empty`() {
        var empty: [String] = []
        func look(_ value: Any, _ path: String) {
            let mirror = Mirror(reflecting: value)
            if mirror.displayStyle == .optional || mirror.displayStyle == .collection
                || mirror.displayStyle == .dictionary, mirror.children.isEmpty
            {
                empty.append(path)
            }
            for child in mirror.children { look(child.value, "\(path).\(child.label ?? "")") }
        }
        look(Self.full, "spec")
        #expect(empty == [])
    }

    @Test func `hostile text stays within its field`() throws {
        let name = "\",\"image\":\"other\"}\u{0}\u{1F600}"
        let spec = WorkloadSpec(
            name: name, image: "a", command: [name], environment: [name: name], labels: [name: name])
        #expect(try JSONCoding.decode(WorkloadSpec.self, from: spec.rowText) == spec)
    }
}
