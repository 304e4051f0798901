// SPDX-License-Identifier: Apache-2.0

// FieldDecimal: a decimal number in a table (AMQP 0-9-1 §4.2.5.5).
// RabbitMQ reads the digits as unsigned, the errata call them signed: both readings exist, the octets are kept.

/// A decimal number: an integer and a scale.
@frozen
public struct FieldDecimal: Hashable, Sendable {
    /// Digits after the decimal point, 0...255.
    public var scale: UInt8
    /// The digits as an unsigned number, as RabbitMQ reads them.
    public var digits: UInt32

    /// Creates a decimal number.
    @inlinable
    public init(scale: UInt8, digits: UInt32) {
        self.scale = scale
        self.digits = digits
    }

    /// The digits as a signed number.
    @inlinable
    public var signedDigits: Int32 { Int32(bitPattern: self.digits) }
}

extension FieldDecimal: CustomStringConvertible {
    /// The number in exponent form, such as "314e-2".
    public var description: String { "\(self.digits)e-\(self.scale)" }
}
