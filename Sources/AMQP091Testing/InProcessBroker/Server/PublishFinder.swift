// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// PublishFinder: recognises one whole basic.publish (60, 40) with its content in place, in one pass, as the client's
// DeliverDecoder does for deliveries. It accepts only consecutive, well-formed frames of one channel; for
// anything else it returns nil, and the general decoder examines the octets. It never throws and never waits.

struct PublishFinder {
    /// Offsets of the parts of a publish, in octets.
    struct Found {
        var channel: UInt16
        /// Exchange and routing key, as short strings.
        var route: Range<Int>
        var bits: UInt8
        /// Property flags and values.
        var properties: Range<Int>
        var body: Range<Int>
        var end: Int
    }

    static func find(in octets: UnsafeRawBufferPointer, from start: Int, maximumFrameSize: Int) -> Found? {
        // Frame header, method id and ticket, two lengths and bits, frame end; then the smallest header frame.
        guard octets.count - start >= 17 + 22, octets[start] == 1, Self.load32(octets, start + 7) == 60 << 16 | 40
        else {
            return nil
        }
        let channel = Self.load16(octets, start + 1)
        let methodSize = Int(Self.load32(octets, start + 3))
        guard channel > 0, methodSize >= 9, methodSize + 8 <= maximumFrameSize else { return nil }
        let header = start + methodSize + 8
        guard octets.count >= header + 22 else { return nil }
        // The lengths of the two names must fill the method exactly.
        let route = start + 13
        let key = route + 1 + Int(octets[route])
        guard key < header - 2, key + 1 + Int(octets[key]) == header - 2 else { return nil }
        guard octets[header - 1] == 0xCE, octets[header] == 2, Self.load16(octets, header + 1) == channel,
            Self.load32(octets, header + 7) == 60 << 16
        else { return nil }
        let headerSize = Int(Self.load32(octets, header + 3))
        let bodySize64 = UInt64(Self.load32(octets, header + 11)) << 32 | UInt64(Self.load32(octets, header + 15))
        guard headerSize >= 14, headerSize + 8 <= maximumFrameSize, bodySize64 <= UInt64(maximumFrameSize - 8) else {
            return nil
        }
        let bodySize = Int(bodySize64)
        let body = header + headerSize + 8
        let end = bodySize == 0 ? body : body + bodySize + 8
        guard octets.count >= end, octets[body - 1] == 0xCE else { return nil }
        if bodySize > 0 {
            guard octets[body] == 3, Self.load16(octets, body + 1) == channel,
                Int(Self.load32(octets, body + 3)) == bodySize, octets[end - 1] == 0xCE
            else { return nil }
        }
        return Found(
            channel: channel,
            route: route..<(header - 2),
            bits: octets[header - 2],
            properties: (header + 19)..<(body - 1),
            body: bodySize == 0 ? body..<body : (body + 7)..<(body + 7 + bodySize),
            end: end
        )
    }

    private static func load16(_ octets: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
        UInt16(bigEndian: octets.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    private static func load32(_ octets: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
        UInt32(bigEndian: octets.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}
