// SPDX-License-Identifier: Apache-2.0

// ConfirmDecoder: recognises a confirm of publishes where it lies: there may be one for each publish. As DeliverDecoder,
// it only says yes to a whole and well-formed frame, and leaves everything else to FrameDecoder.
// Unsafe: it loads without a check of its own, from the 21 octets that the first guard has counted.

/// The broker's word on publishes: `basic.ack` (60, 80) or `basic.nack` (60, 120).
@frozen
@usableFromInline
package struct ConfirmRecord: Hashable, Sendable {
    @usableFromInline package let channel: UInt16
    /// The delivery tag.
    @usableFromInline package let tag: UInt64
    /// Whether all publishes up to the tag are meant.
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
    /// Octets of a confirm's frame: header, method, delivery tag, bits, frame end.
    @inlinable package static var size: Int { 7 + 4 + 8 + 1 + 1 }

    /// The confirm that stands at `start`, where a frame begins; nil for anything else, also for a part of one.
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
