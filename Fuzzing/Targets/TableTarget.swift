// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// TableTarget: a table, an array or the properties of a content, as the first octet says. What was read is used in every
// way the API offers, and what can be written is read again as the same.

enum TableTarget {
    static func run(_ octets: [UInt8]) {
        var input = FuzzInput(octets)
        let kind = input.octet()
        let stream = input.rest()
        var reader = WireReader(stream.span.bytes)
        if kind & 1 == 0 {
            guard let table = try? reader.readTable() else { return }
            Self.use(table)
            Self.readAgain(table)
        } else {
            guard let properties = try? BasicProperties(from: &reader) else { return }
            _ = "\(properties)"
            if let headers = properties.headers { Self.use(headers) }
            var buffer = WireBuffer()
            guard (try? properties.encode(into: &buffer)) != nil else { return }
            var again = WireReader(buffer.bytes)
            let copy = try? BasicProperties(from: &again)
            promise(copy == properties && again.isAtEnd, "properties were read again as others")
        }
    }

    private static func readAgain(_ table: FieldTable) {
        var buffer = WireBuffer()
        // NaN, and names that grew when they were repaired, cannot be written.
        guard (try? buffer.appendTable(table)) != nil else { return }
        var again = WireReader(buffer.bytes)
        let copy = try? again.readTable()
        promise(copy == table && again.isAtEnd, "a table was read again as another: \(table)")
        promise(copy?.hashValue == table.hashValue, "equal tables with different hashes")
    }

    private static func use(_ table: FieldTable) {
        promise("\(table)".utf8.count >= 2, "a table without a description")
        promise(table.names.count == table.count && table.isEmpty == (table.count == 0), "a table miscounts")
        for (name, value) in table {
            promise(table[name] != nil, "a name without a value")
            Self.use(value)
        }
        guard let name = table.names.first else { return }
        var changed = table
        changed[name] = .bool(true)
        promise(changed[name] == .bool(true), "a value that was set")
        changed[name] = nil
        promise(changed[name] == nil, "a value that was removed")
    }

    private static func use(_ value: FieldValue) {
        _ = (value.stringValue, value.integerValue, value.doubleValue, value.boolValue, value.octets)
        for element in value.arrayValue ?? [] { Self.use(element) }
        if let table = value.tableValue { Self.use(table) }
        _ = "\(value)"
    }
}
