// SPDX-License-Identifier: Apache-2.0

// FrameDecoder: finds the next frame in place in the read octets (AMQP 0-9-1 §4.2.3).
// Its only state is a limit: the caller keeps incomplete octets and calls again with more.
// A frame is validated by its seven header octets, before its payload is waited for or allocated.

/// A whole frame, as offsets into the octets it was found in.
@frozen
package struct DecodedFrame: Hashable, Sendable {
    /// The frame type.
    package var type: FrameType
    /// The channel.
    package var channel: ChannelNumber
    /// Range of the payload.
    package var payload: Range<Int>
    /// Offset of the next frame.
    package var end: Int

    @inlinable
    package init(type: FrameType, channel: ChannelNumber, payload: Range<Int>, end: Int) {
        self.type = type
        self.channel = channel
        self.payload = payload
        self.end = end
    }
}

/// Finds frames in read octets.
@frozen
package struct FrameDecoder: Sendable {
    /// Largest accepted frame in octets, overhead included: a fixed limit before tune, then frame-max.
    package var maximumFrameSize: Int

    @inlinable
    package init(maximumFrameSize: Int) { self.maximumFrameSize = maximumFrameSize }

    /// Returns the frame that begins at `offset`; nil while it is incomplete.
    ///
    /// After an error nothing from `offset` on may be parsed.
    @inlinable
    package func next(in octets: RawSpan, from offset: Int) throws(WireError) -> DecodedFrame? {
        let available = octets.byteCount - offset
        guard available > 0 else { return nil }
        guard let type = FrameType(rawValue: octets.unsafeLoad(fromByteOffset: offset, as: UInt8.self)) else {
            return try Self.rejectType(octets, from: offset)
        }
        guard available >= Frame.headerSize else { return nil }
        let header = FrameHeader(in: octets, at: offset)
        guard header.size <= self.maximumFrameSize - Frame.overhead else {
            throw WireError(.frameTooLarge(size: header.size, limit: self.maximumFrameSize - Frame.overhead))
        }
        switch type {
        case .method:
            guard header.size >= 4 else { throw WireError(.frameTooShort(size: header.size)) }
        case .header:
            guard header.size >= 14 else { throw WireError(.frameTooShort(size: header.size)) }
        case .body: break
        case .heartbeat:
            guard header.size == 0, header.channel == 0 else { throw WireError(.invalidHeartbeat) }
        }
        guard available - Frame.overhead >= header.size else { return nil }
        let payload = offset + Frame.headerSize
        let last = payload + header.size
        let end = octets.unsafeLoad(fromByteOffset: last, as: UInt8.self)
        guard end == Frame.frameEnd else { throw WireError(.malformedFrameEnd(end)) }
        return DecodedFrame(
            type: type,
            channel: ChannelNumber(header.channel),
            payload: payload..<last,
            end: last + 1
        )
    }

    /// Distinguishes a protocol header, once it is complete, from an unknown type.
    @usableFromInline
    static func rejectType(_ octets: RawSpan, from offset: Int) throws(WireError) -> DecodedFrame? {
        let available = octets.byteCount - offset
        var found: [UInt8] = []
        for index in 0..<min(8, available) {
            found.append(octets.unsafeLoad(fromByteOffset: offset + index, as: UInt8.self))
        }
        guard zip(found, Frame.protocolHeader.prefix(4)).allSatisfy({ $0 == $1 }) else {
            throw WireError(.unknownFrameType(octets.unsafeLoad(fromByteOffset: offset, as: UInt8.self)))
        }
        guard found.count == 8 else { return nil }
        throw WireError(.protocolMismatch(found))
    }
}
