// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// RabbitMQ's names of field types, its text form of values, and its equality of values.

extension FieldValue {
    /// RabbitMQ's name of the type.
    var typeName: String {
        switch self {
        case .bool: "bool"
        case .int8: "byte"
        case .uint8: "unsignedbyte"
        case .int16: "short"
        case .uint16: "unsignedshort"
        case .int32: "signedint"
        case .uint32: "unsignedint"
        case .int64: "long"
        case .float: "float"
        case .double: "double"
        case .decimal: "decimal"
        case .longString: "longstr"
        case .bytes: "binary"
        case .timestamp: "timestamp"
        case .array: "array"
        case .table: "table"
        case .void: "void"
        }
    }

    /// The value in RabbitMQ's text form.
    var plainText: String {
        switch self {
        case .longString(let octets), .bytes(let octets): String(decoding: octets, as: UTF8.self)
        case .bool(let value): "\(value)"
        default: self.integerValue.map { "\($0)" } ?? self.doubleValue.map { "\($0)" } ?? "\(self)"
        }
    }

    /// Compares as RabbitMQ does: integers of any width by value, others by type and value.
    func isEquivalent(to other: FieldValue) -> Bool {
        if let left = self.integerValue, let right = other.integerValue { return left == right }
        if let left = self.doubleValue, let right = other.doubleValue { return left == right }
        return self == other
    }
}

extension FieldTable {
    /// Throws if a key of `keys` differs between the existing and the new arguments.
    func requireEquivalent(
        _ new: FieldTable,
        keys: [String],
        _ kind: String,
        _ name: String,
        _ virtualHost: String
    ) throws(Refusal) {
        for key in keys {
            let received: String
            let current: String
            switch (self[key], new[key]) {
            case (nil, nil): continue
            case (let old?, let new?):
                if old.isEquivalent(to: new) { continue }
                received = "'\(new.plainText)'"
                current = "'\(old.plainText)'"
            case (let old, let new):
                received = Self.typed(new)
                current = Self.typed(old)
            }
            throw .unequal(key, kind, name, virtualHost, new: received, old: current)
        }
    }

    private static func typed(_ value: FieldValue?) -> String {
        value.map { "the value '\($0.plainText)' of type '\($0.typeName)'" } ?? "none"
    }
}
