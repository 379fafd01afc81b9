// swift-tools-version: 6.2
import PackageDescription

/// Every target speaks the strictest dialect the compiler has: what it imports is internal unless said otherwise,
/// and a member is visible only where its module is imported. `docs/architecture.md` says who may import whom.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let nio = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket = Target.Dependency.product(name: "NIOWebSocket", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nioExtras = Target.Dependency.product(name: "NIOExtras", package: "swift-nio-extras")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let jwtKit = Target.Dependency.product(name: "JWTKit", package: "jwt-kit")
let httpClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let sqlite = Target.Dependency.product(name: "GRDBSQLite", package: "GRDB.swift")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let nioHTTPTypesHTTP1 = Target.Dependency.product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras")

let package = Package(
    name: "berth",
    products: [
        .executable(name: "berth-agent", targets: ["berth-agent"]),
        .executable(name: "berth-server", targets: ["berth-server"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    ],
    targets: [
        // Words, wire, decisions: pure. They import only each other.
        .target(name: "BerthModel", swiftSettings: strict),
        .target(name: "AgentProtocol", dependencies: ["BerthModel"], swiftSettings: strict),
        .target(name: "AgentCore", dependencies: ["BerthModel", "AgentProtocol"], swiftSettings: strict),
        .target(name: "ControlPlaneCore", dependencies: ["BerthModel"], swiftSettings: strict),

        // Transports: they know Docker and WebSocket, and nothing of Berth.
        .target(name: "TrafficControl", dependencies: ["CServiceRuntime"], swiftSettings: strict),
        .target(name: "DockerEngine", dependencies: [nio, nioPosix, nioHTTP1], swiftSettings: strict),
        .target(
            name: "WebSocketTransport",
            dependencies: [nio, nioPosix, nioHTTP1, nioWebSocket, nioSSL, nioExtras],
            swiftSettings: strict),

        // What both programs need of the system they run on: settings, service manager, log, state files.
        .target(
            name: "ServiceRuntime", dependencies: [logging, nio, "CServiceRuntime"], swiftSettings: strict),
        .target(name: "CServiceRuntime"),

        .target(
            name: "ControlPlaneStore",
            dependencies: ["BerthModel", "ControlPlaneCore", "ServiceRuntime", grdb, sqlite], swiftSettings: strict),
        .target(
            name: "HostAgent",
            dependencies: [
                "BerthModel", "AgentProtocol", "AgentCore", "DockerEngine", "TrafficControl", "WebSocketTransport",
                "ServiceRuntime", nio, nioPosix, nioHTTP1, nioSSL, logging, lifecycle,
            ],
            // In the program itself: an agent is one file.
            resources: [
                "common", "role-node", "role-python", "role-go", "role-rust", "role-devops", "role-barebone", "shell",
            ].map { .embedInCode("SetUp/\($0).sh") },
            swiftSettings: strict),
        .target(
            name: "ControlPlane",
            dependencies: [
                "BerthModel", "AgentProtocol", "ControlPlaneCore", "ControlPlaneStore", "WebSocketTransport",
                "ServiceRuntime", nio, nioPosix, nioHTTP1, nioHTTPTypes, nioHTTPTypesHTTP1, nioSSL, httpTypes,
                logging, lifecycle, hummingbird, hummingbirdCore, crypto, unixSignals, jwtKit,
                httpClient,
            ],
            resources: [.embedInCode("API/openapi.json")],
            swiftSettings: strict),

        .target(name: "ProgramEntry", dependencies: ["ServiceRuntime", arguments], swiftSettings: strict),
        .executableTarget(
            name: "berth-agent",
            dependencies: [
                "AgentCore", "BerthModel", "HostAgent", "ProgramEntry", "ServiceRuntime", "WebSocketTransport", nio,
                nioPosix, arguments, logging, lifecycle, unixSignals,
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "berth-server",
            dependencies: [
                "BerthModel", "ControlPlane", "ControlPlaneCore", "ControlPlaneStore", "ProgramEntry", "ServiceRuntime",
                nioPosix, arguments, logging, lifecycle, unixSignals,
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "berth-bench",
            dependencies: [
                "AgentCore", "AgentProtocol", "BerthModel", "ControlPlane", "ControlPlaneCore", "ControlPlaneStore",
                "DockerEngine", "FakeEngine", "HostAgent", "ServiceRuntime", "Simulation", "WebSocketTransport", nio,
                nioPosix, nioHTTP1, hummingbird, logging, grdb,
            ],
            swiftSettings: strict),

        // An Engine as a value, and a world to play schedules in: a partner of tests, not part of a product.
        .target(
            name: "Simulation", dependencies: ["BerthModel", "AgentProtocol", "AgentCore"], path: "Tests/Simulation",
            swiftSettings: strict),
        .target(
            name: "FakeEngine", dependencies: ["BerthModel", "AgentCore", "Simulation", nio, nioPosix, nioHTTP1],
            path: "Tests/FakeEngine", swiftSettings: strict),
        .testTarget(
            name: "DecisionTests",
            dependencies: ["BerthModel", "AgentProtocol", "AgentCore", "ControlPlaneCore", "Simulation"],
            swiftSettings: strict),
        .testTarget(
            name: "TransportTests",
            dependencies: [
                "DockerEngine", "WebSocketTransport", nio, nioPosix, nioHTTP1, nioWebSocket, nioEmbedded, nioSSL,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ServiceTests",
            dependencies: [
                "BerthModel", "AgentProtocol", "AgentCore", "ControlPlaneCore", "ControlPlaneStore", "ControlPlane",
                "HostAgent", "ServiceRuntime", "WebSocketTransport", "DockerEngine", "Simulation", nio, nioPosix,
                nioWebSocket, nioEmbedded, httpTypes, logging, crypto, grdb,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "EndToEndTests",
            dependencies: [
                "BerthModel", "AgentProtocol", "WebSocketTransport", "DockerEngine", "ServiceRuntime", "FakeEngine",
                "Simulation", "TrafficControl", "ControlPlaneCore", crypto, nio, nioPosix, nioHTTP1, nioSSL,
            ],
            swiftSettings: strict),
    ]
)
