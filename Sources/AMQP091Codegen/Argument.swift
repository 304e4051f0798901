// SPDX-License-Identifier: Apache-2.0

// Argument: one `name:type` of MethodTable, and its Swift source.

struct Argument {
    enum WireType: String {
        case bit, octet, short, long, longlong, shortstr, longstr, table
        case replyCode = "reply-code"
        case deliveryTag = "delivery-tag"

        var swiftName: String {
            switch self {
            case .bit: "Bool"
            case .octet: "UInt8"
            case .short: "UInt16"
            case .long: "UInt32"
            case .longlong: "UInt64"
            case .shortstr: "String"
            case .longstr: "[UInt8]"
            case .table: "FieldTable"
            case .replyCode: "ReplyCode"
            case .deliveryTag: "DeliveryTag"
            }
        }
    }

    var name: String
    var type: WireType
    var isReserved: Bool
    var defaultValue: String?

    /// The arguments of one method, separated by spaces.
    static func parse(_ text: String) -> [Argument] {
        text.split(separator: " ").map { Argument(String($0)) }
    }

    /// Parses one argument; an error in the table stops the generator.
    init(_ text: String) {
        let halves = text.split(separator: ":", maxSplits: 1).map(String.init)
        guard halves.count == 2 else { fatalError("not name:type: \(text)") }
        let parts = halves[1].split(separator: "=", maxSplits: 1).map(String.init)
        let required = parts[0].hasSuffix("!")
        guard let type = WireType(rawValue: String(parts[0].prefix { $0 != "!" })) else {
            fatalError("unknown type: \(text)")
        }
        self.name = Self.propertyName(halves[0])
        self.type = type
        self.isReserved = halves[0] == "-"
        self.defaultValue = parts.count == 2 ? parts[1] : required ? nil : Self.naturalDefault(of: type)
    }

    private static func naturalDefault(of type: WireType) -> String? {
        switch type {
        case .bit: "false"
        case .table: "FieldTable()"
        default: nil
        }
    }

    /// "class-id" as "classID".
    private static func propertyName(_ name: String) -> String {
        let words = name.split(separator: "-").map(String.init)
        return words.prefix(1).joined()
            + words.dropFirst().map { $0 == "id" ? "ID" : Renderer.typeName($0) }.joined()
    }

    var defaultClause: String { self.defaultValue.map { " = \($0)" } ?? "" }

    /// The name, escaped if it is a keyword.
    var escapedName: String { self.name == "internal" ? "`internal`" : self.name }

    /// A statement that reads the argument; Renderer reads a run of bits as a whole.
    var decoding: String {
        let call =
            switch self.type {
            case .bit, .octet: "try reader.readUInt8()"
            case .short: "try reader.readUInt16()"
            case .long: "try reader.readUInt32()"
            case .longlong: "try reader.readUInt64()"
            case .shortstr: "try reader.readShortString()"
            case .longstr: "try reader.readLongString()"
            case .table: "try reader.readTable()"
            case .replyCode: "ReplyCode(try reader.readUInt16())"
            case .deliveryTag: "DeliveryTag(try reader.readUInt64())"
            }
        return self.isReserved ? "_ = \(call)" : "self.\(self.name) = \(call)"
    }

    /// A statement that appends the argument; reserved ones are zero or empty.
    var encoding: String {
        let value = self.isReserved ? nil : "self.\(self.name)"
        return switch self.type {
        case .bit, .octet: "buffer.append(\(value ?? "0"))"
        case .short: "buffer.appendUInt16(\(value ?? "0"))"
        case .long: "buffer.appendUInt32(\(value ?? "0"))"
        case .longlong: "buffer.appendUInt64(\(value ?? "0"))"
        case .shortstr: "try buffer.appendShortString(\(value ?? "\"\""))"
        case .longstr: "try buffer.appendLongString(\(value ?? "[]"))"
        case .table: "try buffer.appendTable(\(value ?? "FieldTable()"))"
        case .replyCode: "buffer.appendUInt16(self.\(self.name).rawValue)"
        case .deliveryTag: "buffer.appendUInt64(self.\(self.name).rawValue)"
        }
    }
}
