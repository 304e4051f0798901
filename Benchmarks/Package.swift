// swift-tools-version: 6.3
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

// A package of its own, so that whoever embeds the client does not resolve what only the tool needs.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

let package = Package(
    name: "amqp-bench",
    products: [
        .executable(name: "amqp-bench", targets: ["AMQPBench"]),
        .executable(name: "amqp-driver", targets: ["AMQPDriver"]),
    ],
    traits: [
        .trait(name: "TLS", description: "amqps:// URIs; needs libssl-dev.")
    ],
    dependencies: [
        .package(
            name: "swift-amqp091",
            path: "..",
            traits: [.trait(name: "TLS", condition: .when(traits: ["TLS"]))]
        ),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
    ],
    targets: [
        .executableTarget(
            name: "AMQPBench",
            dependencies: [
                .product(name: "AMQP091", package: "swift-amqp091"),
                .product(name: "AMQP091Testing", package: "swift-amqp091"),
                .product(name: "EpollNetworking", package: "swift-amqp091"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            // The tests import the release build: the tool is never measured, nor tested, in another one.
            swiftSettings: settings + [.unsafeFlags(["-enable-testing"])]
        ),
        .executableTarget(
            name: "AMQPDriver",
            dependencies: [
                .product(name: "AMQP091", package: "swift-amqp091"),
                .product(name: "AMQP091Testing", package: "swift-amqp091"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "AMQPBenchTests",
            dependencies: [
                "AMQPBench",
                .product(name: "AMQP091", package: "swift-amqp091"),
                .product(name: "AMQP091Testing", package: "swift-amqp091"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            swiftSettings: settings
        ),
        .target(name: "CHotPath", path: "Tests/CHotPath"),
        .testTarget(
            name: "HotPathTests",
            dependencies: [
                "CHotPath",
                .product(name: "AMQP091", package: "swift-amqp091"),
                .product(name: "EpollNetworking", package: "swift-amqp091"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
