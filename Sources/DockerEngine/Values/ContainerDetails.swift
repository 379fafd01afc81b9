/// Answer of an inspect; the fields that are used.
package struct ContainerDetails: Decodable, Hashable, Sendable {
    package struct State: Decodable, Hashable, Sendable {
        package var status: String
        package var pid: Int
        package var exitCode: Int
        package var isOutOfMemory: Bool
        package var error: String
        /// RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z` where it never happened.
        package var startedAt: String
        package var finishedAt: String
        /// Nil where the container has no health check.
        package var health: Health?

        package struct Health: Decodable, Hashable, Sendable {
            /// `none`, `starting`, `healthy` or `unhealthy`.
            package var status: String
            private enum CodingKeys: String, CodingKey { case status = "Status" }
        }

        private enum CodingKeys: String, CodingKey {
            case status = "Status"
            case pid = "Pid"
            case exitCode = "ExitCode"
            case isOutOfMemory = "OOMKilled"
            case error = "Error"
            case startedAt = "StartedAt"
            case finishedAt = "FinishedAt"
            case health = "Health"
        }
    }

    package struct NetworkSettings: Decodable, Hashable, Sendable {
        package struct Endpoint: Decodable, Hashable, Sendable {
            package var address: String?
            private enum CodingKeys: String, CodingKey { case address = "IPAddress" }
        }
        package var networks: [String: Endpoint]?
        private enum CodingKeys: String, CodingKey { case networks = "Networks" }
    }

    package struct HostConfiguration: Decodable, Hashable, Sendable {
        package var runtime: String?
        package var memory: Int?
        package var memorySwap: Int?
        package var nanoCPUs: Int?
        package var cpuQuota: Int?
        package var cpuPeriod: Int?
        package var pidsLimit: Int?
        package var networkMode: String?
        package var restartPolicy: RestartPolicy?
        package var storageOptions: [String: String]?
        /// By the container's port, `80/tcp`.
        package var portBindings: [String: [PortBinding]?]?

        package struct PortBinding: Decodable, Hashable, Sendable {
            /// A number as text; empty where the Engine chooses one.
            package var hostPort: String?
            private enum CodingKeys: String, CodingKey { case hostPort = "HostPort" }
        }

        package struct RestartPolicy: Decodable, Hashable, Sendable {
            /// `no` or empty, `always`, `on-failure`, `unless-stopped`.
            package var name: String
            private enum CodingKeys: String, CodingKey { case name = "Name" }
        }

        private enum CodingKeys: String, CodingKey {
            case runtime = "Runtime"
            case memory = "Memory"
            case memorySwap = "MemorySwap"
            case nanoCPUs = "NanoCpus"
            case cpuQuota = "CpuQuota"
            case cpuPeriod = "CpuPeriod"
            case pidsLimit = "PidsLimit"
            case networkMode = "NetworkMode"
            case restartPolicy = "RestartPolicy"
            case storageOptions = "StorageOpt"
            case portBindings = "PortBindings"
        }
    }

    package struct Configuration: Decodable, Hashable, Sendable {
        package var labels: [String: String]?
        package var hostname: String?
        /// The reference that the container was created from.
        package var image: String?
        private enum CodingKeys: String, CodingKey {
            case image = "Image"
            case labels = "Labels"
            case hostname = "Hostname"
        }
    }

    package var id: String
    package var name: String
    package var image: String
    package var state: State
    package var networkSettings: NetworkSettings
    package var hostConfiguration: HostConfiguration
    package var configuration: Configuration
    package var mounts: [Mount]

    package struct Mount: Decodable, Hashable, Sendable {
        package var type: String
        package var name: String?
        /// Where it lies on the Engine's host.
        package var source: String
        package var destination: String
        private enum CodingKeys: String, CodingKey {
            case type = "Type"
            case name = "Name"
            case source = "Source"
            case destination = "Destination"
        }
    }

    private enum CodingKeys: String, CodingKey {
        case id = "Id"
        case name = "Name"
        case image = "Image"
        case state = "State"
        case networkSettings = "NetworkSettings"
        case hostConfiguration = "HostConfig"
        case configuration = "Config"
        case mounts = "Mounts"
    }

    /// The first address on any of its networks, in the order of their names.
    package var address: String? {
        let endpoints = networkSettings.networks ?? [:]
        return endpoints.keys.sorted().compactMap { endpoints[$0]?.address }.first { !$0.isEmpty }
    }
}
