// SPDX-License-Identifier: Apache-2.0

// ContentHeader: the header frame between a method with content and its body (AMQP 0-9-1 §4.2.6.1).
// It cannot be split: properties that do not fit into one frame cannot be sent.
//
//   class u16 = 60 | weight u16 = 0 | body size u64 | property flags u16 | property values

/// The body size and the properties of a content.
package struct ContentHeader: Hashable, Sendable {
    /// The class of the method before it; always 60, basic.
    package var classID: UInt16
    /// Total size of the body frames in octets.
    package var bodySize: UInt64
    /// The properties.
    package var properties: BasicProperties

    package init(classID: UInt16 = 60, bodySize: UInt64, properties: BasicProperties = BasicProperties()) {
        self.classID = classID
        self.bodySize = bodySize
        self.properties = properties
    }

    /// Decodes the whole payload of a header frame; trailing octets are an error.
    package static func decode(_ payload: RawSpan) throws(WireError) -> ContentHeader {
        guard payload.byteCount >= 14 else { throw WireError(.frameTooShort(size: payload.byteCount)) }
        var reader = WireReader(payload)
        let classID = try reader.readUInt16()
        let weight = try reader.readUInt16()
        guard classID == 60, weight == 0 else {
            throw WireError(.invalidContentHeader(classID: classID, weight: weight))
        }
        let bodySize = try reader.readUInt64()
        let properties = try BasicProperties(from: &reader)
        try reader.expectEnd()
        return ContentHeader(classID: classID, bodySize: bodySize, properties: properties)
    }

    /// Decodes the body size without the properties.
    package static func bodySize(of payload: RawSpan) throws(WireError) -> UInt64 {
        guard payload.byteCount >= 14 else { throw WireError(.frameTooShort(size: payload.byteCount)) }
        var reader = WireReader(payload)
        let classID = try reader.readUInt16()
        let weight = try reader.readUInt16()
        guard classID == 60, weight == 0 else {
            throw WireError(.invalidContentHeader(classID: classID, weight: weight))
        }
        return try reader.readUInt64()
    }

    /// Appends the payload.
    package func encode(into buffer: inout WireBuffer) throws(WireError) {
        buffer.appendUInt16(self.classID)
        buffer.appendUInt16(0)
        buffer.appendUInt64(self.bodySize)
        try self.properties.encode(into: &buffer)
    }

    /// Appends the whole header frame; an error leaves the buffer unchanged.
    ///
    /// The size limit is the negotiated frame-max, octets.
    package func encodeFrame(
        channel: ChannelNumber,
        into buffer: inout WireBuffer,
        maximumFrameSize: Int = Int(UInt32.max)
    ) throws(WireError) {
        try buffer.appendFrame(.header, channel: channel, maximumFrameSize: maximumFrameSize) {
            (buffer) throws(WireError) in
            try self.encode(into: &buffer)
        }
    }
}
