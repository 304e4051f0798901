// SPDX-License-Identifier: Apache-2.0

// FieldDecimal: a decimal number in a table (AMQP 0-9-1 §4.2.5.5).
// RabbitMQ reads the digits unsigned, the errata call them signed: both readings are offered, the octets are kept.

/// A decimal number: an integer and the place of its point.
@frozen
public struct FieldDecimal: Hashable, Sendable {
    /// Digits behind the point, 0...255.
    public var scale: UInt8
    /// The digits, as RabbitMQ reads them.
    public var digits: UInt32

    /// A number of these digits.
    @inlinable
    public init(scale: UInt8, digits: UInt32) {
        self.scale = scale
        self.digits = digits
    }

    /// The digits read as a signed number.
    @inlinable
    public var signedDigits: Int32 { Int32(bitPattern: self.digits) }
}

extension FieldDecimal: CustomStringConvertible {
    /// The digits and the power of ten they are divided by, such as "314e-2".
    public var description: String { "\(self.digits)e-\(self.scale)" }
}
