// SPDX-License-Identifier: Apache-2.0

// RabbitMQVersion: the release of RabbitMQ whose behaviour an in-process broker has. Differences between releases are in
// RabbitMQVersion+Rules; each rule was measured on 3.10.8, 4.0.5 and 4.3.6.

extension InProcessBroker {
    /// A release of RabbitMQ, such as 4.3.6.
    public struct RabbitMQVersion: Hashable, Comparable, Sendable, CustomStringConvertible {
        /// The first number.
        public let major: Int
        /// The second number.
        public let minor: Int
        /// The third number.
        public let patch: Int

        /// RabbitMQ 3.10.8, with its default configuration.
        public static let v3_10 = RabbitMQVersion(major: 3, minor: 10, patch: 8)
        /// RabbitMQ 4.0.5, with its default configuration.
        public static let v4_0 = RabbitMQVersion(major: 4, minor: 0, patch: 5)
        /// RabbitMQ 4.3.6, with the default configuration of the RabbitMQ project's own packages and images.
        public static let v4_3 = RabbitMQVersion(major: 4, minor: 3, patch: 6)

        package init(major: Int, minor: Int, patch: Int = 0) {
            self.major = major
            self.minor = minor
            self.patch = patch
        }

        /// Parses the version of `server-properties`, such as `4.3.6` or `4.1.0-beta.2`; nil for anything else.
        package init?(_ text: String) {
            let parts = text.split(separator: ".", maxSplits: 2).map { Int($0.prefix { "0"..."9" ~= $0 }) }
            guard parts.count >= 2, let major = parts[0], let minor = parts[1] else { return nil }
            self.init(major: major, minor: minor, patch: parts.count > 2 ? parts[2] ?? 0 : 0)
        }

        /// Compares releases; the lower is older.
        public static func < (left: RabbitMQVersion, right: RabbitMQVersion) -> Bool {
            (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
        }

        /// The three numbers.
        public var description: String { "\(self.major).\(self.minor).\(self.patch)" }
    }
}

/// The short name in this module.
typealias RabbitMQVersion = InProcessBroker.RabbitMQVersion
