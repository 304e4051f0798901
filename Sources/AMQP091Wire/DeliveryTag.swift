// SPDX-License-Identifier: Apache-2.0

// DeliveryTag: the number of a delivery, or of a publish in confirm mode (AMQP 0-9-1 §3.1.8).
// Valid only on the channel that it came from.

/// The number of a delivery on its channel, from 1.
@frozen
public struct DeliveryTag: RawRepresentable, Hashable, Comparable, Sendable {
    /// The number on the wire; 0 with `multiple` means all outstanding deliveries.
    public var rawValue: UInt64

    /// Creates a delivery tag.
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Creates a delivery tag.
    @inlinable
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// Compares the numbers; the lower tag was assigned earlier.
    @inlinable
    public static func < (left: DeliveryTag, right: DeliveryTag) -> Bool { left.rawValue < right.rawValue }
}

extension DeliveryTag: CustomStringConvertible {
    /// The number.
    public var description: String { "\(self.rawValue)" }
}
