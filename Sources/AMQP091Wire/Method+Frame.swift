// SPDX-License-Identifier: Apache-2.0

// The payload of a method frame (AMQP 0-9-1 §4.2.4): class, method, arguments.
// Not here: the arguments of each method and the enum of all (Generated/), and the envelope (Frame, FrameDecoder).

extension MethodID {
    /// Class and method numbers.
    @inlinable
    package var number: UInt32 { UInt32(self.classID) << 16 | UInt32(self.methodID) }
}

extension Method {
    /// Decodes the whole payload of a method frame; trailing octets are an error.
    package static func decode(_ payload: RawSpan) throws(WireError) -> Method {
        guard payload.byteCount >= 4 else { throw WireError(.frameTooShort(size: payload.byteCount)) }
        var reader = WireReader(payload)
        let classID = try reader.readUInt16()
        let methodID = try reader.readUInt16()
        let method = try Method(MethodID(classID: classID, methodID: methodID), from: &reader)
        try reader.expectEnd()
        return method
    }

    /// Appends class, method and arguments.
    package func encode(into buffer: inout WireBuffer) throws(WireError) {
        buffer.appendUInt32(self.id.number)
        try self.encodeArguments(into: &buffer)
    }

    /// Appends the whole method frame; an error leaves the buffer unchanged.
    ///
    /// The size limit is the negotiated frame-max, octets.
    package func encodeFrame(
        channel: ChannelNumber,
        into buffer: inout WireBuffer,
        maximumFrameSize: Int = Int(UInt32.max)
    ) throws(WireError) {
        try buffer.appendFrame(.method, channel: channel, maximumFrameSize: maximumFrameSize) {
            (buffer) throws(WireError) in
            try self.encode(into: &buffer)
        }
    }
}
