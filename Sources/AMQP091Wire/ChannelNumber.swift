// SPDX-License-Identifier: Apache-2.0

// ChannelNumber: the number of a channel in every frame (AMQP 0-9-1 §4.2.3).
// Not here: allocation of numbers (ChannelNumbers).

/// The number of a channel on its connection, 1...65535; 0 is the connection itself.
@frozen
public struct ChannelNumber: RawRepresentable, Hashable, Comparable, Sendable {
    /// The number on the wire.
    public var rawValue: UInt16

    /// Creates a channel number.
    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Creates a channel number.
    @inlinable
    public init(_ rawValue: UInt16) { self.rawValue = rawValue }

    /// Channel 0: the connection itself.
    @inlinable
    public static var connection: ChannelNumber { ChannelNumber(0) }

    /// Compares the numbers.
    @inlinable
    public static func < (left: ChannelNumber, right: ChannelNumber) -> Bool { left.rawValue < right.rawValue }
}

extension ChannelNumber: CustomStringConvertible {
    /// The number.
    public var description: String { "\(self.rawValue)" }
}
