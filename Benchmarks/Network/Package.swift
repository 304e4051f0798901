// swift-tools-version: 6.3
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

// A package of its own beside amqp-bench, so that neither resolves or builds what the other compares itself with.

let package = Package(
    name: "net-bench",
    dependencies: [
        .package(name: "swift-amqp091", path: "../..", traits: ["TLS"]),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        .target(name: "CEcho"),
        .target(name: "CSecure", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .executableTarget(
            name: "net-bench",
            dependencies: [
                "CEcho",
                "CSecure",
                .product(name: "EpollNetworking", package: "swift-amqp091"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            path: "Sources/NetBench",
            swiftSettings: [
                .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("MemberImportVisibility"),
                .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
