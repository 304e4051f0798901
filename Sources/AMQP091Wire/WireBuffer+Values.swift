// SPDX-License-Identifier: Apache-2.0

// The data types of AMQP 0-9-1 §4.2.5 appended to a WireBuffer: strings and tables. WireReader reads them back.
// A call that throws may leave a partial value; the writer of a frame truncates it (`appendFrame` does).

extension WireBuffer {
    /// Appends a short string: one octet of length and at most 255 octets of UTF-8.
    package mutating func appendShortString(_ string: String) throws(WireError) {
        let count = string.utf8.count
        guard let length = UInt8(exactly: count) else { throw WireError(.shortStringTooLong(count: count)) }
        self.append(length)
        self.append(octets: string.utf8Span.span.bytes)
    }

    /// Appends a short string of arbitrary octets, at most 255.
    package mutating func appendShortString(octets: [UInt8]) throws(WireError) {
        guard let length = UInt8(exactly: octets.count) else {
            throw WireError(.shortStringTooLong(count: octets.count))
        }
        self.append(length)
        self.append(octets: octets.span.bytes)
    }

    /// Appends a long string: four octets of length and arbitrary octets.
    package mutating func appendLongString(_ octets: [UInt8]) throws(WireError) {
        guard let length = UInt32(exactly: octets.count) else {
            throw WireError(.unencodable("a long string of \(octets.count) octets"))
        }
        self.appendUInt32(length)
        self.append(octets: octets.span.bytes)
    }

    /// Appends a table: its length in octets, then its fields.
    package mutating func appendTable(_ table: FieldTable) throws(WireError) {
        try self.appendTable(table, depth: 1)
    }

    private mutating func appendTable(_ table: FieldTable, depth: Int) throws(WireError) {
        try self.appendSized(depth: depth) { (buffer) throws(WireError) in
            for field in table.fields {
                if let octets = field.octets {
                    try buffer.appendShortString(octets: octets)
                } else {
                    try buffer.appendShortString(field.name)
                }
                try buffer.appendFieldValue(field.value, depth: depth)
            }
        }
    }

    private mutating func appendArray(_ values: [FieldValue], depth: Int) throws(WireError) {
        try self.appendSized(depth: depth) { (buffer) throws(WireError) in
            for value in values { try buffer.appendFieldValue(value, depth: depth) }
        }
    }

    private mutating func appendSized(
        depth: Int,
        _ write: (inout WireBuffer) throws(WireError) -> Void
    ) throws(WireError) {
        guard depth <= FieldTable.maximumDepth else { throw WireError(.nestingTooDeep) }
        let start = self.count
        self.appendUInt32(0)
        try write(&self)
        let count = self.count - start - 4
        guard let length = UInt32(exactly: count) else {
            throw WireError(.unencodable("a table of \(count) octets"))
        }
        self.patchUInt32(length, at: start)
    }

    private mutating func appendFieldValue(_ value: FieldValue, depth: Int) throws(WireError) {
        self.append(value.typeLetter)
        switch value {
        case .bool(let value): self.append(value ? 1 : 0)
        case .int8(let value): self.append(UInt8(bitPattern: value))
        case .uint8(let value): self.append(value)
        case .int16(let value): self.appendUInt16(UInt16(bitPattern: value))
        case .uint16(let value): self.appendUInt16(value)
        case .int32(let value): self.appendUInt32(UInt32(bitPattern: value))
        case .uint32(let value): self.appendUInt32(value)
        case .int64(let value): self.appendUInt64(UInt64(bitPattern: value))
        case .float(let value):
            // RabbitMQ's parser matches finite numbers only; its channel process fails on others.
            guard value.isFinite else { throw WireError(.unencodable("a field value of \(value)")) }
            self.appendUInt32(value.bitPattern)
        case .double(let value):
            guard value.isFinite else { throw WireError(.unencodable("a field value of \(value)")) }
            self.appendUInt64(value.bitPattern)
        case .decimal(let value):
            self.append(value.scale)
            self.appendUInt32(value.digits)
        case .longString(let octets), .bytes(let octets): try self.appendLongString(octets)
        case .timestamp(let seconds): self.appendUInt64(seconds)
        case .array(let values): try self.appendArray(values, depth: depth + 1)
        case .table(let table): try self.appendTable(table, depth: depth + 1)
        case .void: break
        }
    }
}
