/// Body of a create; the fields that are used. Nil leaves the Engine's or the image's default.
package struct ContainerSpecification: Encodable, Hashable, Sendable {
    package struct Mount: Encodable, Hashable, Sendable {
        package struct VolumeOptions: Encodable, Hashable, Sendable {
            package var noCopy: Bool
            package var labels: [String: String]
            private enum CodingKeys: String, CodingKey {
                case noCopy = "NoCopy"
                case labels = "Labels"
            }
        }

        package var source: String
        package var target: String
        package var isReadOnly: Bool
        package var volumeOptions: VolumeOptions
        let type = "volume"

        private enum CodingKeys: String, CodingKey {
            case source = "Source"
            case target = "Target"
            case isReadOnly = "ReadOnly"
            case volumeOptions = "VolumeOptions"
            case type = "Type"
        }

        /// - Parameter noCopy: true leaves the volume as it is; false lets the Engine copy the image's content into it
        ///   where it is empty.
        package init(volume: String, target: String, isReadOnly: Bool, noCopy: Bool, labels: [String: String]) {
            source = volume
            self.target = target
            self.isReadOnly = isReadOnly
            volumeOptions = VolumeOptions(noCopy: noCopy, labels: labels)
        }
    }

    /// Where a container's port is on the host: on all of its addresses.
    package struct PortBinding: Encodable, Hashable, Sendable {
        let hostAddress = ""
        /// A number as text.
        package var hostPort: String

        package init(hostPort: String) { self.hostPort = hostPort }

        private enum CodingKeys: String, CodingKey {
            case hostAddress = "HostIp"
            case hostPort = "HostPort"
        }
    }

    package struct LogConfiguration: Encodable, Hashable, Sendable {
        package var type: String
        package var options: [String: String]
        package init(type: String, options: [String: String]) {
            self.type = type
            self.options = options
        }
        private enum CodingKeys: String, CodingKey {
            case type = "Type"
            case options = "Config"
        }
    }

    package struct HostConfiguration: Encodable, Hashable, Sendable {
        package struct RestartPolicy: Encodable, Hashable, Sendable {
            let name = "no"
            private enum CodingKeys: String, CodingKey { case name = "Name" }
        }

        package var runtime: String?
        /// Bytes.
        package var memory: Int?
        /// Bytes of memory and swap together.
        package var memorySwap: Int?
        /// Billionths of a core.
        package var nanoCPUs: Int?
        package var pidsLimit: Int?
        package var mounts: [Mount] = []
        /// `source:target:options`, paths of the host.
        package var binds: [String] = []
        package var capDrop: [String] = []
        package var capAdd: [String] = []
        package var securityOptions: [String] = []
        package var logConfiguration: LogConfiguration?
        package var usesInit: Bool?
        package var networkMode: String?
        package var tmpfs: [String: String] = [:]
        package var storageOptions: [String: String]?
        /// By the container's port, `80/tcp`.
        package var portBindings: [String: [PortBinding]]?
        /// Whoever starts containers here does so itself; the Engine reviving an old copy after a reboot would put two
        /// writers on one volume.
        let restartPolicy = RestartPolicy()
        let autoRemove = false

        package init() {}

        private enum CodingKeys: String, CodingKey {
            case runtime = "Runtime"
            case memory = "Memory"
            case memorySwap = "MemorySwap"
            case nanoCPUs = "NanoCpus"
            case pidsLimit = "PidsLimit"
            case mounts = "Mounts"
            case binds = "Binds"
            case capDrop = "CapDrop"
            case capAdd = "CapAdd"
            case securityOptions = "SecurityOpt"
            case logConfiguration = "LogConfig"
            case usesInit = "Init"
            case networkMode = "NetworkMode"
            case tmpfs = "Tmpfs"
            case storageOptions = "StorageOpt"
            case portBindings = "PortBindings"
            case restartPolicy = "RestartPolicy"
            case autoRemove = "AutoRemove"
        }
    }

    package var image: String
    package var hostname: String?
    package var command: [String]?
    package var environment: [String]
    package var labels: [String: String]
    /// Keeps standard input open, so that a shell as the main process does not end at once.
    package var opensStandardInput: Bool
    package var allocatesTTY: Bool
    /// By the container's port, `80/tcp`; the values stay empty.
    package var exposedPorts: [String: [String: String]]?
    package var host: HostConfiguration

    package init(
        image: String, hostname: String? = nil, command: [String]? = nil, environment: [String] = [],
        labels: [String: String] = [:], opensStandardInput: Bool = false, allocatesTTY: Bool = false,
        exposedPorts: [String: [String: String]]? = nil, host: HostConfiguration = .init()
    ) {
        self.image = image
        self.hostname = hostname
        self.command = command
        self.environment = environment
        self.labels = labels
        self.opensStandardInput = opensStandardInput
        self.allocatesTTY = allocatesTTY
        self.exposedPorts = exposedPorts
        self.host = host
    }

    private enum CodingKeys: String, CodingKey {
        case image = "Image"
        case hostname = "Hostname"
        case command = "Cmd"
        case environment = "Env"
        case labels = "Labels"
        case opensStandardInput = "OpenStdin"
        case allocatesTTY = "Tty"
        case exposedPorts = "ExposedPorts"
        case host = "HostConfig"
    }
}

/// Body of an update: what can be changed without another container.
package struct ContainerChange: Encodable, Hashable, Sendable {
    /// Bytes; memory and swap together are the same, so there is no swap.
    package var memory: Int
    /// Billionths of a core.
    package var nanoCPUs: Int
    package var pidsLimit: Int
    private let restartPolicy = ContainerSpecification.HostConfiguration.RestartPolicy()

    package init(memory: Int, nanoCPUs: Int, pidsLimit: Int) {
        self.memory = memory
        self.nanoCPUs = nanoCPUs
        self.pidsLimit = pidsLimit
    }

    private enum CodingKeys: String, CodingKey {
        case memory = "Memory"
        case memorySwap = "MemorySwap"
        case nanoCPUs = "NanoCpus"
        case pidsLimit = "PidsLimit"
        case restartPolicy = "RestartPolicy"
    }

    package func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(memory, forKey: .memory)
        try fields.encode(memory, forKey: .memorySwap)
        try fields.encode(nanoCPUs, forKey: .nanoCPUs)
        try fields.encode(pidsLimit, forKey: .pidsLimit)
        try fields.encode(restartPolicy, forKey: .restartPolicy)
    }
}

/// Answer of a create.
package struct ContainerCreated: Decodable, Hashable, Sendable {
    package var id: String
    package var warnings: [String]?
    private enum CodingKeys: String, CodingKey {
        case id = "Id"
        case warnings = "Warnings"
    }
}

/// One sample of a container's counters; the fields that are used.
package struct ContainerStats: Decodable, Hashable, Sendable {
    package struct CPU: Decodable, Hashable, Sendable {
        package struct Usage: Decodable, Hashable, Sendable {
            /// Nanoseconds.
            package var total_usage: Int
        }
        package var cpu_usage: Usage
    }
    package struct Memory: Decodable, Hashable, Sendable {
        /// Bytes.
        package var usage: Int?
    }
    package struct Network: Decodable, Hashable, Sendable {
        package var rx_bytes: Int
        package var tx_bytes: Int
    }
    package var cpu_stats: CPU
    package var memory_stats: Memory
    package var networks: [String: Network]?
}
