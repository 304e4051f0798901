// SPDX-License-Identifier: Apache-2.0

// Frame: the envelope of all octets after the protocol header (AMQP 0-9-1 §4.2.3). Constants and the header only;
// FrameDecoder finds frames in read octets, Method and ContentHeader write theirs.
//
//   type u8 | channel u16 | size u32 | size octets of payload | 0xCE

/// Constants of the frame envelope.
@frozen
package enum Frame {
    /// The protocol header that opens a connection: "AMQP", 0, 0, 9, 1.
    package static let protocolHeader: [UInt8] = [0x41, 0x4D, 0x51, 0x50, 0, 0, 9, 1]
    /// The octet after every payload.
    @inlinable package static var frameEnd: UInt8 { 0xCE }
    /// Size of the frame header in octets.
    @inlinable package static var headerSize: Int { 7 }
    /// Size of header and frame end in octets; frame-max includes them.
    @inlinable package static var overhead: Int { 8 }
    /// The smallest frame-max the specification allows, octets.
    @inlinable package static var minimumSize: Int { 4096 }
    /// The smallest frame-max RabbitMQ accepts, octets.
    @inlinable package static var rabbitMQMinimumSize: Int { 8192 }
}

/// Frame types by their octet.
@frozen
package enum FrameType: UInt8, Hashable, Sendable {
    case method = 1
    case header = 2
    case body = 3
    case heartbeat = 8
}

/// The seven octets of a frame header.
@frozen
package struct FrameHeader: Hashable, Sendable {
    /// The type octet, known or unknown.
    package var type: UInt8
    /// The channel.
    package var channel: UInt16
    /// Size of the payload in octets.
    package var size: Int

    @inlinable
    package init(type: UInt8, channel: UInt16, size: Int) {
        self.type = type
        self.channel = channel
        self.size = size
    }

    /// Decodes the seven octets at `offset`, which must exist.
    @inlinable
    package init(in octets: RawSpan, at offset: Int) {
        self.type = octets.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
        self.channel = UInt16(bigEndian: octets.unsafeLoadUnaligned(fromByteOffset: offset + 1, as: UInt16.self))
        self.size = Int(UInt32(bigEndian: octets.unsafeLoadUnaligned(fromByteOffset: offset + 3, as: UInt32.self)))
    }
}

extension WireBuffer {
    /// Appends a whole heartbeat frame (AMQP 0-9-1 §4.2.7; type 8, errata).
    package mutating func appendHeartbeat() {
        self.append(FrameType.heartbeat.rawValue)
        self.appendUInt16(0)
        self.appendUInt32(0)
        self.append(Frame.frameEnd)
    }

    /// Appends one frame whose payload `write` appends; an error leaves the buffer unchanged.
    package mutating func appendFrame(
        _ type: FrameType,
        channel: ChannelNumber,
        maximumFrameSize: Int = Int(UInt32.max),
        _ write: (inout WireBuffer) throws(WireError) -> Void
    ) throws(WireError) {
        let start = self.count
        self.append(type.rawValue)
        self.appendUInt16(channel.rawValue)
        self.appendUInt32(0)
        do throws(WireError) {
            try write(&self)
            let size = self.count - start - Frame.headerSize
            let limit = maximumFrameSize - Frame.overhead
            guard size <= limit, let size32 = UInt32(exactly: size) else {
                throw WireError(.frameTooLarge(size: size, limit: limit))
            }
            self.patchUInt32(size32, at: start + 3)
        } catch {
            self.truncate(to: start)
            throw error
        }
        self.append(Frame.frameEnd)
    }
}
