// SPDX-License-Identifier: Apache-2.0

// ConfirmDecoder: recognises a publisher confirm in place; hot, as there may be one per publish. Like DeliverDecoder
// it accepts only a whole, well-formed frame and leaves all other octets to FrameDecoder.
// Unsafe: loads are unchecked; the first guard ensures that 21 octets are present.

/// A publisher confirm: `basic.ack` (60, 80) or `basic.nack` (60, 120).
@frozen
@usableFromInline
package struct ConfirmRecord: Hashable, Sendable {
    @usableFromInline package let channel: UInt16
    /// The delivery tag.
    @usableFromInline package let tag: UInt64
    /// True if it covers all publishes up to the tag.
    @usableFromInline package let multiple: Bool
    @usableFromInline package let isAck: Bool

    @inlinable
    package init(channel: UInt16, tag: UInt64, multiple: Bool, isAck: Bool) {
        self.channel = channel
        self.tag = tag
        self.multiple = multiple
        self.isAck = isAck
    }
}

/// Recognises confirms.
@frozen
@usableFromInline
package enum ConfirmDecoder {
    /// Size of a confirm's frame in octets: header, method, delivery tag, bits, frame end.
    @inlinable package static var size: Int { 7 + 4 + 8 + 1 + 1 }

    /// Returns the confirm that begins at `start`, a frame boundary; nil for anything else and for an incomplete frame.
    @inlinable
    @inline(__always)
    package static func find(in octets: RawSpan, from start: Int) -> ConfirmRecord? {
        guard octets.byteCount &- start >= Self.size else { return nil }
        guard DeliverDecoder.octet(octets, start) == 1, DeliverDecoder.load32(octets, start &+ 3) == 13,
            DeliverDecoder.octet(octets, start &+ 20) == 0xCE
        else { return nil }
        let id = DeliverDecoder.load32(octets, start &+ 7)
        guard id == 60 << 16 | 80 || id == 60 << 16 | 120 else { return nil }
        return ConfirmRecord(
            channel: DeliverDecoder.load16(octets, start &+ 1),
            tag: DeliverDecoder.load64(octets, start &+ 11),
            multiple: DeliverDecoder.octet(octets, start &+ 19) & 1 == 1,
            isAck: id == 60 << 16 | 80
        )
    }
}
