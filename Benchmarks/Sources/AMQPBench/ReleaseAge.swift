// SPDX-License-Identifier: Apache-2.0

// ReleaseAge: whether a RabbitMQ is older than what people run, and how to have another. Pure.

/// The age of a RabbitMQ release.
enum ReleaseAge {
    /// The first major version that is maintained.
    private static let maintained = 4
    /// What `--broker rabbitmq:RELEASE` can start instead.
    static let current = "4.3"

    /// What to say of an old version; nil for one that is maintained, or not known.
    static func hint(forVersion version: String) -> String? {
        guard let major = version.split(separator: ".").first.flatMap({ Int($0) }), major < Self.maintained else {
            return nil
        }
        return "RabbitMQ \(version) is what this machine has installed, and it is no longer maintained. "
            + "For the release that people run today: --broker rabbitmq:\(Self.current)"
    }
}
