// swift-tools-version: 6.3
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

/// Settings of every Swift target: upcoming features the code is written for.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableExperimentalFeature("Lifetimes"),
]

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")

// Behind traits, in every target that uses them: SwiftPM may drop a package that is used with a condition and without.
let lifecycle = Target.Dependency.product(
    name: "ServiceLifecycle",
    package: "swift-service-lifecycle",
    condition: .when(traits: ["ServiceLifecycleSupport"])
)
let metrics = Target.Dependency.product(
    name: "Metrics",
    package: "swift-metrics",
    condition: .when(traits: ["MetricsSupport"])
)
let tracing = Target.Dependency.product(
    name: "Tracing",
    package: "swift-distributed-tracing",
    condition: .when(traits: ["TracingSupport"])
)
let configuration = Target.Dependency.product(
    name: "Configuration",
    package: "swift-configuration",
    condition: .when(traits: ["ConfigurationSupport"])
)
let testKits: [Target.Dependency] = [
    .product(name: "InMemoryLogging", package: "swift-log"),
    .product(
        name: "MetricsTestKit",
        package: "swift-metrics",
        condition: .when(traits: ["MetricsSupport"])
    ),
    .product(
        name: "InMemoryTracing",
        package: "swift-distributed-tracing",
        condition: .when(traits: ["TracingSupport"])
    ),
    .product(
        name: "UnixSignals",
        package: "swift-service-lifecycle",
        condition: .when(traits: ["ServiceLifecycleSupport"])
    ),
]

let package = Package(
    name: "swift-amqp091",
    products: [
        .library(name: "EpollNetworking", targets: ["EpollNetworking"]),
        .library(name: "AMQP091", targets: ["AMQP091"]),
        .library(name: "AMQP091Foundation", targets: ["AMQP091Foundation"]),
        .library(name: "AMQP091Testing", targets: ["AMQP091Testing"]),
    ],
    traits: [
        .trait(name: "ServiceLifecycleSupport", description: "The client is a ServiceLifecycle.Service."),
        .trait(name: "MetricsSupport", description: "Counts and times what the client does, with swift-metrics."),
        .trait(name: "TracingSupport", description: "OpenTelemetry messaging spans, with swift-distributed-tracing."),
        .trait(name: "ConfigurationSupport", description: "Options read through swift-configuration."),
        .trait(name: "TLS", description: "TLS and amqps:// with OpenSSL 3; needs libssl-dev."),
        .default(enabledTraits: ["ServiceLifecycleSupport", "MetricsSupport", "TracingSupport"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.0"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: []),
    ],
    targets: [
        .target(name: "CEpoll", path: "CShims/CEpoll"),
        .target(name: "CTaskCancellation", path: "CShims/CTaskCancellation"),
        .systemLibrary(
            name: "COpenSSL",
            path: "CShims/COpenSSL",
            pkgConfig: "openssl",
            providers: [.apt(["libssl-dev"])]
        ),
        // Compiled by every build of this package, whoever depends on it: calls OpenSSL only if the trait is on.
        .target(
            name: "CTLS",
            dependencies: [.target(name: "COpenSSL", condition: .when(traits: ["TLS"]))],
            path: "CShims/CTLS",
            cSettings: [.define("TLS", .when(traits: ["TLS"]))]
        ),
        .target(name: "SecretValues", swiftSettings: settings),
        // Locks, waits and times: neither network nor AMQP.
        .target(
            name: "EpollConcurrency",
            dependencies: ["CEpoll", "CTaskCancellation", deque],
            swiftSettings: settings
        ),
        .target(
            name: "EpollNetworking",
            dependencies: [
                "EpollConcurrency", "SecretValues", "CEpoll", "CTLS", deque, system,
            ],
            swiftSettings: settings
        ),
        .target(name: "AMQP091Wire", swiftSettings: settings),
        .target(
            name: "AMQP091Protocol",
            dependencies: ["AMQP091Wire", "SecretValues", deque],
            swiftSettings: settings
        ),
        .target(
            name: "AMQP091",
            dependencies: [
                "AMQP091Protocol", "AMQP091Wire", "EpollConcurrency", "EpollNetworking", "SecretValues", logging, deque,
                system, lifecycle, metrics, tracing, configuration,
            ],
            swiftSettings: settings
        ),
        .target(name: "AMQP091Foundation", dependencies: ["AMQP091"], swiftSettings: settings),
        .target(
            name: "AMQP091Testing",
            dependencies: [
                "AMQP091", "AMQP091Protocol", "AMQP091Wire", "EpollConcurrency", "EpollNetworking", "SecretValues",
                logging, deque, system,
            ],
            swiftSettings: settings
        ),
        .executableTarget(name: "AMQP091Codegen", dependencies: [], swiftSettings: settings),
        // Here and not in the package Benchmarks: it reaches for parts that only this package may.
        .executableTarget(
            name: "LayerBenchmarks",
            dependencies: ["AMQP091Testing", "AMQP091Protocol", "AMQP091Wire", "EpollConcurrency", "EpollNetworking"],
            path: "Benchmarks/Layers",
            swiftSettings: settings
        ),

        .testTarget(
            name: "EpollNetworkingTests",
            dependencies: ["EpollConcurrency", "EpollNetworking", system],
            swiftSettings: settings
        ),
        .testTarget(
            name: "AMQP091WireTests",
            dependencies: ["AMQP091Wire", "AMQP091Codegen"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "AMQP091ProtocolTests",
            dependencies: ["AMQP091Protocol", "AMQP091Wire", "SecretValues"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "AMQP091Tests",
            dependencies: [
                "AMQP091", "AMQP091Protocol", "AMQP091Wire", "AMQP091Testing", "EpollConcurrency", "EpollNetworking",
                "SecretValues", logging,
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "AMQP091FoundationTests",
            dependencies: ["AMQP091Foundation", "AMQP091", "AMQP091Testing"],
            swiftSettings: settings
        ),
        .testTarget(name: "DocumentationTests", dependencies: [], swiftSettings: settings),
        .testTarget(
            name: "AMQP091ObservabilityTests",
            dependencies: ["AMQP091", "AMQP091Testing", logging, lifecycle, metrics, tracing, configuration] + testKits,
            swiftSettings: settings
        ),
        // The targets of scripts/fuzz, for the package Fuzzing; here to replay the corpus.
        .target(
            name: "AMQP091FuzzTargets",
            dependencies: [
                "AMQP091Testing", "AMQP091", "AMQP091Protocol", "AMQP091Wire", "EpollConcurrency", "EpollNetworking",
                "SecretValues",
            ],
            path: "Fuzzing/Targets",
            swiftSettings: settings
        ),
        // Tests that need the whole machine: scripts/test runs them in a separate process.
        .testTarget(
            name: "FaultTests",
            dependencies: [
                "AMQP091FuzzTargets", "AMQP091Testing", "AMQP091", "AMQP091Wire", "EpollConcurrency", "EpollNetworking",
            ],
            swiftSettings: settings
        ),
        .target(
            name: "AMQP091Conformance",
            dependencies: ["AMQP091Testing", "AMQP091", "AMQP091Wire", "EpollConcurrency", "EpollNetworking"],
            path: "Tests/AMQP091Conformance",
            swiftSettings: settings
        ),
        .testTarget(
            name: "AMQP091TestingTests",
            dependencies: [
                "AMQP091Testing", "AMQP091Conformance", "AMQP091", "AMQP091Wire", "EpollConcurrency", "EpollNetworking",
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "SimulationTests",
            dependencies: ["AMQP091Workloads", "AMQP091Testing", "AMQP091", "EpollConcurrency"],
            swiftSettings: settings
        ),
        // Applications in simulated worlds, for the tests and for scripts/simulate.
        .target(
            name: "AMQP091Workloads",
            dependencies: ["AMQP091Testing", "AMQP091"],
            path: "Tests/AMQP091Workloads",
            swiftSettings: settings
        ),
        .executableTarget(
            name: "Simulate",
            dependencies: ["AMQP091Workloads", "AMQP091Testing", "EpollConcurrency"],
            path: "Fuzzing/Simulate",
            swiftSettings: settings
        ),
        .testTarget(
            name: "IntegrationTests",
            dependencies: ["AMQP091", "AMQP091Conformance", "AMQP091Testing"],
            swiftSettings: settings
        ),
        .testTarget(name: "BrokerFaultTests", dependencies: ["AMQP091", "AMQP091Testing"], swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)

// For the package Fuzzing alone.
if Context.environment["AMQP091_FUZZING"] == "1" {
    package.products.append(.library(name: "AMQP091FuzzTargets", targets: ["AMQP091FuzzTargets"]))
}
