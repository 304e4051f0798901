// SPDX-License-Identifier: Apache-2.0

// Frame: the envelope all octets travel in (AMQP 0-9-1 §4.2.3). Constants and the header only;
// FrameDecoder finds frames in what was read, Method and ContentHeader write theirs.
//
//   type u8 | channel u16 | size u32 | size octets of payload | 0xCE

/// Constants of the frame envelope.
@frozen
package enum Frame {
    /// What begins a connection: "AMQP", 0, 0, 9, 1.
    package static let protocolHeader: [UInt8] = [0x41, 0x4D, 0x51, 0x50, 0, 0, 9, 1]
    /// The octet behind every payload.
    @inlinable package static var frameEnd: UInt8 { 0xCE }
    /// Octets before the payload.
    @inlinable package static var headerSize: Int { 7 }
    /// Octets of a frame besides its payload; frame-max counts them.
    @inlinable package static var overhead: Int { 8 }
    /// The smallest frame-max the specification allows, octets.
    @inlinable package static var minimumSize: Int { 4096 }
    /// The smallest frame-max RabbitMQ accepts, octets.
    @inlinable package static var rabbitMQMinimumSize: Int { 8192 }
}

/// The kinds of frame, by their octet.
@frozen
package enum FrameType: UInt8, Hashable, Sendable {
    case method = 1
    case header = 2
    case body = 3
    case heartbeat = 8
}

/// The seven octets before a payload.
@frozen
package struct FrameHeader: Hashable, Sendable {
    /// The octet of the type, known or not.
    package var type: UInt8
    /// The channel.
    package var channel: UInt16
    /// Octets of payload.
    package var size: Int

    @inlinable
    package init(type: UInt8, channel: UInt16, size: Int) {
        self.type = type
        self.channel = channel
        self.size = size
    }

    /// Reads the seven octets at `offset`, which must be there.
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

    /// Appends one frame whose payload `write` appends; on an error the buffer is as it was.
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
