// SPDX-License-Identifier: Apache-2.0

// DeliveryTag: the number of a delivery, or of a publish in confirm mode (AMQP 0-9-1 §3.1.8).
// Means something on the channel it came from only.

/// The number of a delivery on its channel, from 1.
@frozen
public struct DeliveryTag: RawRepresentable, Hashable, Comparable, Sendable {
    /// The number on the wire; 0 stands for all outstanding where `multiple` is set.
    public var rawValue: UInt64

    /// A tag with this number.
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// A tag with this number.
    @inlinable
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// Whether the left tag was given out earlier.
    @inlinable
    public static func < (left: DeliveryTag, right: DeliveryTag) -> Bool { left.rawValue < right.rawValue }
}

extension DeliveryTag: CustomStringConvertible {
    /// The number.
    public var description: String { "\(self.rawValue)" }
}
