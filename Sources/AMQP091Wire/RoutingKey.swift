// SPDX-License-Identifier: Apache-2.0

// RoutingKey: a routing key of a publish. AMQP allows any octets (§4.2.5.3); nearly every key is UTF-8.

/// A routing key: text, or octets that are not UTF-8.
@frozen
@usableFromInline
package enum RoutingKey: Hashable, Sendable {
    case text(String)
    /// Octets that are not UTF-8.
    case octets([UInt8])

    /// Number of octets.
    @inlinable
    package var count: Int {
        switch self {
        case .text(let text): text.utf8.count
        case .octets(let octets): octets.count
        }
    }

    /// The key as text; invalid UTF-8 is shown as U+FFFD.
    @inlinable
    package var text: String {
        switch self {
        case .text(let text): text
        case .octets(let octets): String(decoding: octets, as: UTF8.self)
        }
    }
}
