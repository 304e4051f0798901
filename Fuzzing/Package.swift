// swift-tools-version: 6.3
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

// Fuzz targets and the soak, a package of their own so that nobody who depends on the client ever sees them; built by
// scripts/fuzz and scripts/soak.
// The bodies (Sources/Targets) are compiled by the package above too: its unit tests replay the corpus.

/// What the package above is called where it lies: its parts that are `package` are for this one too.
let above = String(Context.packageDirectory.split(separator: "/").dropLast().last ?? "")
let packageName = String(above.lowercased().map { $0.isLetter || $0.isNumber ? $0 : "_" })

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableExperimentalFeature("Lifetimes"),
]
let products: [Target.Dependency] = [
    .product(name: "AMQP091", package: "swift-amqp091"),
    .product(name: "AMQP091Testing", package: "swift-amqp091"),
    .product(name: "EpollNetworking", package: "swift-amqp091"),
]

let package = Package(
    name: "Fuzzing",
    traits: [
        .trait(name: "TLS", description: "The target of the TLS engine; needs libssl-dev."),
        .default(enabledTraits: ["TLS"]),
    ],
    dependencies: [
        .package(
            name: "swift-amqp091",
            path: "..",
            traits: [.trait(name: "TLS", condition: .when(traits: ["TLS"]))]
        )
    ],
    targets: [
        .executableTarget(
            name: "FuzzAMQP091",
            dependencies: products,
            path: "Sources",
            swiftSettings: settings + [.unsafeFlags(["-package-name", packageName, "-parse-as-library"])]
        ),
        .executableTarget(name: "AMQPSoak", dependencies: products, path: "Soak", swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
