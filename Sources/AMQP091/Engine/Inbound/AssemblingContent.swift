// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// AssemblingContent: an inbound content whose frames did not lie side by side in one read: several body frames, or
// interleaved with other channels. Loop thread only. Not here: the order of the frames (ContentAssembler).

/// The octets of a delivery that came in pieces: interleaved with other channels, or in more than one body frame.
struct AssemblingContent {
    var assembler: ContentAssembler
    let method: Method
    let arguments: [UInt8]
    /// The `basic.get` it answers; nil for any other content.
    let get: ChannelMachine.Requests.Request?
    var properties: [UInt8] = []
    var body: [UInt8] = []
    /// Of a returned message, what is kept of its body.
    var returnedBody: OctetHash?
    /// Where the body goes instead, when its consumer reads it while it arrives.
    var pieces: BodyPieces?
    /// Octets of a body that is larger than the limit and is read past; nil for one that is kept.
    var skippedSize: UInt64?

    /// The properties; nil when they cannot be decoded.
    var decodedProperties: BasicProperties? {
        self.properties.withUnsafeBytes { octets in
            var reader = WireReader(RawSpan(_unsafeBytes: octets))
            return try? BasicProperties(from: &reader)
        }
    }

    /// The parts side by side in a chunk of their own.
    func chunk(tag: UInt64, arguments: [UInt8]? = nil) -> (InboundChunk, DeliveryRecord) {
        let parts = [arguments ?? self.arguments, self.properties, self.body]
        let chunk = InboundChunk(capacity: parts.reduce(0) { $0 + $1.count })
        var offset = 0
        for part in parts {
            part.withUnsafeBytes { octets in
                if let base = octets.baseAddress {
                    (chunk.base + offset).copyMemory(from: base, byteCount: octets.count)
                }
            }
            offset += part.count
        }
        let record = DeliveryRecord(
            tag: tag,
            arguments: 0,
            argumentsCount: UInt32(parts[0].count),
            properties: UInt32(parts[0].count),
            propertiesCount: UInt32(parts[1].count),
            body: UInt32(parts[0].count + parts[1].count),
            bodyCount: UInt32(parts[2].count)
        )
        return (chunk, record)
    }

    /// As `chunk`, for `basic.get-ok`, whose arguments have no consumer tag: an empty one is put before them.
    func getChunk(tag: UInt64) -> (InboundChunk, DeliveryRecord) {
        self.chunk(tag: tag, arguments: [0] + self.arguments)
    }
}
