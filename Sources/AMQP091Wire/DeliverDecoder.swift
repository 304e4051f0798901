// SPDX-License-Identifier: Apache-2.0

// DeliverDecoder: recognises one whole basic.deliver (60, 60) with its content in place, in one pass.
// The hot path of consuming. It accepts only three consecutive, well-formed frames of one channel;
// anything else is `.other`, which FrameDecoder and ContentAssembler examine. It never throws.
// Unsafe: loads and additions are unchecked. Each load follows a guard on the number of octets that
// covers it: the first 11 by `available`, the header frame up to its body size by `header + 19`, all else by `end`, the
// arguments of the method by `limit` before. No sum is above five times 2^32. A debug build checks each.

/// Where the parts of one delivery lie in its chunk: octet offsets from the chunk's start.
@frozen
@usableFromInline
package struct DeliveryRecord: Sendable {
    /// The delivery tag.
    @usableFromInline package var tag: UInt64
    /// First octet of the method's arguments: the consumer tag's length.
    @usableFromInline package var arguments: UInt32
    /// First octet of the property flags.
    @usableFromInline package var properties: UInt32
    /// Octets of property flags and values.
    @usableFromInline package var propertiesCount: UInt32
    /// First octet of the body; within the read octets even if the body is empty.
    @usableFromInline package var body: UInt32
    /// Size of the body in octets.
    @usableFromInline package var bodyCount: UInt32
    /// Octets of the method's arguments.
    @usableFromInline package var argumentsCount: UInt32

    @inlinable
    package init(
        tag: UInt64,
        arguments: UInt32,
        argumentsCount: UInt32,
        properties: UInt32,
        propertiesCount: UInt32,
        body: UInt32,
        bodyCount: UInt32
    ) {
        self.tag = tag
        self.arguments = arguments
        self.argumentsCount = argumentsCount
        self.properties = properties
        self.propertiesCount = propertiesCount
        self.body = body
        self.bodyCount = bodyCount
    }
}

/// Recognises whole deliveries.
@frozen
@usableFromInline
package enum DeliverDecoder {
    /// The result of examining an offset.
    @frozen
    @usableFromInline
    package enum Found {
        /// A whole delivery on `channel`; the next frame begins at `end`.
        case delivery(DeliveryRecord, channel: UInt16, end: Int)
        /// An incomplete delivery; more octets are needed.
        case incomplete
        /// Other or malformed octets, for the general decoder.
        case other
    }

    /// Examines the octets from `start`.
    ///
    /// - Parameters:
    ///   - octets: The read octets; offsets in the result count from their start.
    ///   - start: The offset of a frame.
    ///   - maximumFrameSize: Negotiated frame-max, octets.
    ///   - maximumContiguous: Largest delivery, with its frames in octets, to wait for in one piece.
    ///   - maximumBodySize: Largest body in octets; a delivery with a larger one is `.other`.
    /// - Returns: The delivery, or the reason why there is none.
    @inlinable
    @inline(__always)
    package static func find(
        in octets: RawSpan,
        from start: Int,
        maximumFrameSize: Int,
        maximumContiguous: Int,
        maximumBodySize: Int = .max
    ) -> Found {
        let available = octets.byteCount &- start
        guard available >= 11 else { return .other }
        // type 1, then class 60 method 60 at offset 7
        guard Self.octet(octets, start) == 1, Self.load32(octets, start &+ 7) == 60 << 16 | 60 else { return .other }
        let channel = Self.load16(octets, start &+ 1)
        let methodSize = Int(Self.load32(octets, start &+ 3))
        guard methodSize >= 16, methodSize &+ 8 <= maximumFrameSize else { return .other }
        let header = start &+ methodSize &+ 8
        // the whole header frame up to its body size: 7 + 2 + 2 + 8
        guard octets.byteCount >= header &+ 19 else {
            guard Self.mayBegin(2, in: octets, at: header) else { return .other }
            return available < maximumContiguous ? .incomplete : .other
        }
        guard Self.octet(octets, header &- 1) == 0xCE, Self.octet(octets, header) == 2,
            Self.load16(octets, header &+ 1) == channel, Self.load32(octets, header &+ 7) == 60 << 16
        else { return .other }
        let headerSize = Int(Self.load32(octets, header &+ 3))
        let bodySize64 = Self.load64(octets, header &+ 11)
        guard headerSize >= 14, headerSize &+ 8 <= maximumFrameSize,
            bodySize64 <= UInt64(min(maximumFrameSize &- 8, maximumBodySize))
        else { return .other }
        let bodySize = Int(bodySize64)
        let bodyFrame = header &+ headerSize &+ 8
        let end = bodySize == 0 ? bodyFrame : bodyFrame &+ bodySize &+ 8
        guard octets.byteCount >= end else {
            guard bodySize == 0 || Self.mayBegin(3, in: octets, at: bodyFrame) else { return .other }
            return end &- start <= maximumContiguous ? .incomplete : .other
        }
        guard Self.octet(octets, bodyFrame &- 1) == 0xCE else { return .other }
        if bodySize > 0 {
            guard Self.octet(octets, bodyFrame) == 3, Self.load16(octets, bodyFrame &+ 1) == channel,
                Int(Self.load32(octets, bodyFrame &+ 3)) == bodySize, Self.octet(octets, end &- 1) == 0xCE
            else { return .other }
        }
        // consumer-tag, delivery-tag, redelivered, exchange, routing-key must fill the method exactly
        let arguments = start &+ 11
        let limit = header &- 1
        let tagAt = arguments &+ 1 &+ Int(Self.octet(octets, arguments))
        guard tagAt &+ 10 < limit else { return .other }
        let exchangeAt = tagAt &+ 9
        let routingKeyAt = exchangeAt &+ 1 &+ Int(Self.octet(octets, exchangeAt))
        guard routingKeyAt < limit, routingKeyAt &+ 1 &+ Int(Self.octet(octets, routingKeyAt)) == limit else {
            return .other
        }
        return .delivery(
            DeliveryRecord(
                tag: Self.load64(octets, tagAt),
                arguments: UInt32(arguments),
                argumentsCount: UInt32(methodSize - 4),
                properties: UInt32(header + 19),
                propertiesCount: UInt32(headerSize - 12),
                // An empty body has no frame; its offset is the end of its header, which may be the end of the read octets.
                body: UInt32(bodySize == 0 ? bodyFrame : bodyFrame + 7),
                bodyCount: UInt32(bodySize)
            ),
            channel: channel,
            end: end
        )
    }

    /// True if the available octets of a frame end and the following frame type match; otherwise waiting is useless.
    @inlinable
    static func mayBegin(_ type: UInt8, in octets: RawSpan, at offset: Int) -> Bool {
        (octets.byteCount < offset || Self.octet(octets, offset &- 1) == 0xCE)
            && (octets.byteCount <= offset || Self.octet(octets, offset) == type)
    }

    @inlinable
    static func octet(_ octets: RawSpan, _ offset: Int) -> UInt8 {
        assert(offset >= 0 && offset < octets.byteCount)
        return octets.unsafeLoad(fromUncheckedByteOffset: offset, as: UInt8.self)
    }

    @inlinable
    static func load16(_ octets: RawSpan, _ offset: Int) -> UInt16 {
        assert(offset >= 0 && offset <= octets.byteCount - 2)
        return UInt16(bigEndian: octets.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt16.self))
    }

    @inlinable
    static func load32(_ octets: RawSpan, _ offset: Int) -> UInt32 {
        assert(offset >= 0 && offset <= octets.byteCount - 4)
        return UInt32(bigEndian: octets.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt32.self))
    }

    @inlinable
    static func load64(_ octets: RawSpan, _ offset: Int) -> UInt64 {
        assert(offset >= 0 && offset <= octets.byteCount - 8)
        return UInt64(bigEndian: octets.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self))
    }
}
