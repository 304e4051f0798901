// SPDX-License-Identifier: Apache-2.0

// FieldValue: one value in a table or array, in RabbitMQ's type letters (AMQP 0-9-1 §4.2.5.5 and errata §3).
// The letters differ from the specification's: `s` is a 16-bit number, `l` is signed. `L` is read, never written.
// Not here: the octets (WireReader, WireBuffer+Values).

/// One value in a ``FieldTable``.
public enum FieldValue: Hashable, Sendable {
    /// `t`
    case bool(Bool)
    /// `b`
    case int8(Int8)
    /// `B`
    case uint8(UInt8)
    /// `s`
    case int16(Int16)
    /// `u`
    case uint16(UInt16)
    /// `I`
    case int32(Int32)
    /// `i`
    case uint32(UInt32)
    /// `l`
    case int64(Int64)
    /// `f`; only finite numbers can be sent.
    case float(Float)
    /// `d`; only finite numbers can be sent.
    case double(Double)
    /// `D`
    case decimal(FieldDecimal)
    /// `S`: octets, usually but not necessarily UTF-8.
    case longString([UInt8])
    /// `x`: binary octets.
    case bytes([UInt8])
    /// `T`: seconds since 1970.
    case timestamp(UInt64)
    /// `A`
    case array([FieldValue])
    /// `F`
    case table(FieldTable)
    /// `V`: no value.
    case void

    /// Creates a long string in UTF-8.
    public static func string(_ text: String) -> FieldValue { .longString(Array(text.utf8)) }

    /// Compares values, with the fields of tables in order.
    func isEqualInOrder(to other: FieldValue) -> Bool {
        switch (self, other) {
        case (.table(let table), .table(let other)): table.isEqualInOrder(to: other)
        case (.array(let values), .array(let others)):
            values.elementsEqual(others) { $0.isEqualInOrder(to: $1) }
        default: self == other
        }
    }

    /// The type letter that precedes the value on the wire.
    var typeLetter: UInt8 {
        switch self {
        case .bool: UInt8(ascii: "t")
        case .int8: UInt8(ascii: "b")
        case .uint8: UInt8(ascii: "B")
        case .int16: UInt8(ascii: "s")
        case .uint16: UInt8(ascii: "u")
        case .int32: UInt8(ascii: "I")
        case .uint32: UInt8(ascii: "i")
        case .int64: UInt8(ascii: "l")
        case .float: UInt8(ascii: "f")
        case .double: UInt8(ascii: "d")
        case .decimal: UInt8(ascii: "D")
        case .longString: UInt8(ascii: "S")
        case .bytes: UInt8(ascii: "x")
        case .timestamp: UInt8(ascii: "T")
        case .array: UInt8(ascii: "A")
        case .table: UInt8(ascii: "F")
        case .void: UInt8(ascii: "V")
        }
    }
}

extension FieldValue {
    /// The text of a long string; nil for other types and for octets that are not UTF-8.
    public var stringValue: String? {
        guard case .longString(let octets) = self else { return nil }
        return String(validating: octets, as: UTF8.self)
    }

    /// The number of any integer type; nil for other types.
    public var integerValue: Int64? {
        switch self {
        case .int8(let value): Int64(value)
        case .uint8(let value): Int64(value)
        case .int16(let value): Int64(value)
        case .uint16(let value): Int64(value)
        case .int32(let value): Int64(value)
        case .uint32(let value): Int64(value)
        case .int64(let value): value
        default: nil
        }
    }

    /// The number of a float or double; nil for other types.
    public var doubleValue: Double? {
        switch self {
        case .float(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// The boolean; nil for other types.
    public var boolValue: Bool? {
        guard case .bool(let value) = self else { return nil }
        return value
    }

    /// The octets of a long string or of bytes; nil for other types.
    public var octets: [UInt8]? {
        switch self {
        case .longString(let octets), .bytes(let octets): octets
        default: nil
        }
    }

    /// The elements of an array; nil for other types.
    public var arrayValue: [FieldValue]? {
        guard case .array(let values) = self else { return nil }
        return values
    }

    /// The nested table; nil for other types.
    public var tableValue: FieldTable? {
        guard case .table(let table) = self else { return nil }
        return table
    }
}

extension FieldValue: ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    /// Creates a long string.
    public init(stringLiteral value: String) { self = .string(value) }
    /// Creates a 64-bit integer.
    public init(integerLiteral value: Int64) { self = .int64(value) }
    /// Creates a double.
    public init(floatLiteral value: Double) { self = .double(value) }
    /// Creates a boolean.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// Creates an array.
    public init(arrayLiteral elements: FieldValue...) { self = .array(elements) }
    /// A table.
    public init(dictionaryLiteral elements: (String, FieldValue)...) { self = .table(FieldTable(elements)) }
}

extension FieldValue: CustomStringConvertible {
    /// The value; text in quotes, octets as their count.
    public var description: String {
        switch self {
        case .bool(let value): "\(value)"
        case .int8(let value): "\(value)"
        case .uint8(let value): "\(value)"
        case .int16(let value): "\(value)"
        case .uint16(let value): "\(value)"
        case .int32(let value): "\(value)"
        case .uint32(let value): "\(value)"
        case .int64(let value): "\(value)"
        case .float(let value): "\(value)"
        case .double(let value): "\(value)"
        case .decimal(let value): "\(value)"
        case .longString(let octets): self.stringValue.map { "\"\($0)\"" } ?? "\(octets.count) octets"
        case .bytes(let octets): "\(octets.count) octets"
        case .timestamp(let seconds): "\(seconds) s"
        case .array(let values): "\(values)"
        case .table(let table): "\(table)"
        case .void: "void"
        }
    }
}
