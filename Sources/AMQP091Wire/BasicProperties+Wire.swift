// SPDX-License-Identifier: Apache-2.0

// Encoding of the properties (AMQP 0-9-1 §4.2.6.1): 16 flags, then the values of the set properties, in flag order.
// The low two flags name no property and are ignored, as RabbitMQ does. Bit 0 would announce more flags in the
// specification; no class has more. A short string that is not UTF-8 is kept as octets and text.

extension BasicProperties {
    /// Appends flags and values.
    package func encode(into buffer: inout WireBuffer) throws(WireError) {
        guard let values = self.box?.values else { return buffer.appendUInt16(0) }
        buffer.appendUInt16(values.flags)
        try buffer.append(values.contentType, values, .contentType)
        try buffer.append(values.contentEncoding, values, .contentEncoding)
        if let headers = values.headers { try buffer.appendTable(headers) }
        if let deliveryMode = values.deliveryMode { buffer.append(deliveryMode) }
        if let priority = values.priority { buffer.append(priority) }
        try buffer.append(values.correlationID, values, .correlationID)
        try buffer.append(values.replyTo, values, .replyTo)
        try buffer.append(values.expiration, values, .expiration)
        try buffer.append(values.messageID, values, .messageID)
        if let timestamp = values.timestamp { buffer.appendUInt64(timestamp) }
        try buffer.append(values.type, values, .type)
        try buffer.append(values.userID, values, .userID)
        try buffer.append(values.appID, values, .appID)
        try buffer.append(values.clusterID, values, .clusterID)
    }

    /// Reads flags and values.
    package init(from reader: inout WireReader) throws(WireError) {
        let flags = try reader.readUInt16()
        var values = Values()
        if flags & 1 << 15 != 0 { values.contentType = try reader.read(.contentType, &values) }
        if flags & 1 << 14 != 0 { values.contentEncoding = try reader.read(.contentEncoding, &values) }
        if flags & 1 << 13 != 0 { values.headers = try reader.readTable() }
        if flags & 1 << 12 != 0 { values.deliveryMode = try reader.readUInt8() }
        if flags & 1 << 11 != 0 { values.priority = try reader.readUInt8() }
        if flags & 1 << 10 != 0 { values.correlationID = try reader.read(.correlationID, &values) }
        if flags & 1 << 9 != 0 { values.replyTo = try reader.read(.replyTo, &values) }
        if flags & 1 << 8 != 0 { values.expiration = try reader.read(.expiration, &values) }
        if flags & 1 << 7 != 0 { values.messageID = try reader.read(.messageID, &values) }
        if flags & 1 << 6 != 0 { values.timestamp = try reader.readUInt64() }
        if flags & 1 << 5 != 0 { values.type = try reader.read(.type, &values) }
        if flags & 1 << 4 != 0 { values.userID = try reader.read(.userID, &values) }
        if flags & 1 << 3 != 0 { values.appID = try reader.read(.appID, &values) }
        if flags & 1 << 2 != 0 { values.clusterID = try reader.read(.clusterID, &values) }
        self.init(values)
    }
}

extension BasicProperties.Values {
    var flags: UInt16 {
        var flags: UInt16 = 0
        if self.contentType != nil { flags |= 1 << 15 }
        if self.contentEncoding != nil { flags |= 1 << 14 }
        if self.headers != nil { flags |= 1 << 13 }
        if self.deliveryMode != nil { flags |= 1 << 12 }
        if self.priority != nil { flags |= 1 << 11 }
        if self.correlationID != nil { flags |= 1 << 10 }
        if self.replyTo != nil { flags |= 1 << 9 }
        if self.expiration != nil { flags |= 1 << 8 }
        if self.messageID != nil { flags |= 1 << 7 }
        if self.timestamp != nil { flags |= 1 << 6 }
        if self.type != nil { flags |= 1 << 5 }
        if self.userID != nil { flags |= 1 << 4 }
        if self.appID != nil { flags |= 1 << 3 }
        if self.clusterID != nil { flags |= 1 << 2 }
        return flags
    }
}

extension WireBuffer {
    /// Appends a short string unless it is nil.
    fileprivate mutating func append(
        _ string: String?,
        _ values: BasicProperties.Values,
        _ property: BasicProperties.TextProperty
    ) throws(WireError) {
        guard let string else { return }
        if !values.octets.isEmpty, let octets = values.octets[property] {
            try self.appendShortString(octets: octets)
        } else {
            try self.appendShortString(string)
        }
    }
}

extension WireReader {
    /// Returns the text of a property, and keeps its octets in `values` if they are not UTF-8.
    fileprivate mutating func read(
        _ property: BasicProperties.TextProperty,
        _ values: inout BasicProperties.Values
    ) throws(WireError) -> String {
        let text = try self.readText()
        if let octets = text.octets { values.octets[property] = octets }
        return text.string
    }
}
