// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// ServerVersion: the version of RabbitMQ, for the few rules that depend on it. Pure: server properties to a value.

/// The version of a RabbitMQ node, from the properties it sends with `connection.start` (10, 10).
package struct ServerVersion: Hashable, Comparable, Sendable {
    package let major: Int
    package let minor: Int

    package init(_ major: Int, _ minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Parses the server properties; nil for another product, or a version that is not two numbers.
    ///
    /// The in-process broker names itself as the product, and RabbitMQ under `behaves_as`.
    package init?(_ serverProperties: FieldTable) {
        guard (serverProperties["behaves_as"] ?? serverProperties["product"])?.stringValue == "RabbitMQ",
            let text = serverProperties["version"]?.stringValue
        else { return nil }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count >= 2, let major = Int(parts[0]), let minor = Int(parts[1].prefix { $0.isNumber }) else {
            return nil
        }
        self.init(major, minor)
    }

    package static func < (left: ServerVersion, right: ServerVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }

    /// The first version that cancels the consumer of a quorum queue for a late acknowledgement, and that
    /// counts a prefetch of the whole channel for each consumer.
    package static let v4_3 = ServerVersion(4, 3)
}
