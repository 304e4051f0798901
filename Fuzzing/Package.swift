// swift-tools-version: 6.3
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

// The fuzzer and the soak, a package of their own so that nobody who depends on the client ever sees them; built by
// scripts/fuzz and scripts/soak. What is fuzzed (Targets) is a target of the package above, whose unit tests replay the
// corpus; it is a product there only with AMQP091_FUZZING=1 in the environment.

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
            dependencies: Context.environment["AMQP091_FUZZING"] == "1"
                ? [.product(name: "AMQP091FuzzTargets", package: "swift-amqp091")] : [],
            path: "Entry",
            swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]
        ),
        .executableTarget(name: "AMQPSoak", dependencies: products, path: "Soak", swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
