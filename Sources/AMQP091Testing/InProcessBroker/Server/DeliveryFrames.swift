// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// The frames of a delivery, a get and a return, copied from a Message in one pass.
// Unsafe: writes through one cursor into room reserved before; `needed` counts every octet that it passes.

extension WireBuffer {
    /// Appends basic.deliver (60, 60) with its content.
    mutating func appendDelivery(
        of message: Message,
        channel: UInt16,
        consumerTag: [UInt8],
        tag: UInt64,
        redelivered: Bool,
        maximumPayload: Int
    ) {
        let head = message.header
        let methodSize = 4 + consumerTag.count + 9 + head.routeCount
        let headerSize = 12 + head.propertiesCount
        let needed = methodSize + 8 + headerSize + 8
        var cursor = self.reserve(needed)
        Self.putHeader(&cursor, 1, channel, methodSize)
        Self.put(&cursor, UInt32(60 << 16 | 60).bigEndian)
        consumerTag.withUnsafeBytes { Self.put(&cursor, octets: $0) }
        Self.put(&cursor, tag.bigEndian)
        Self.put(&cursor, redelivered ? 1 as UInt8 : 0)
        message.withRoute { Self.put(&cursor, octets: $0) }
        Self.put(&cursor, Frame.frameEnd)
        Self.putHeader(&cursor, 2, channel, headerSize)
        Self.put(&cursor, UInt32(60 << 16).bigEndian)
        Self.put(&cursor, UInt64(head.bodyCount).bigEndian)
        message.withProperties { Self.put(&cursor, octets: $0) }
        Self.put(&cursor, Frame.frameEnd)
        self.commit(needed)
        self.appendBody(of: message, channel: channel, maximumPayload: maximumPayload)
    }

    /// Appends basic.return (60, 50): 312 NO_ROUTE; exchange and routing key as they were published, of any octets.
    mutating func appendReturn(of message: Message, channel: UInt16) {
        let text = Array("NO_ROUTE".utf8)
        let methodSize = 4 + 2 + 1 + text.count + message.header.routeCount
        var cursor = self.reserve(methodSize + 8)
        Self.putHeader(&cursor, 1, channel, methodSize)
        Self.put(&cursor, UInt32(60 << 16 | 50).bigEndian)
        Self.put(&cursor, ReplyCode.noRoute.rawValue.bigEndian)
        Self.put(&cursor, UInt8(text.count))
        text.withUnsafeBytes { Self.put(&cursor, octets: $0) }
        message.withRoute { Self.put(&cursor, octets: $0) }
        Self.put(&cursor, Frame.frameEnd)
        self.commit(methodSize + 8)
    }

    /// Appends basic.get-ok (60, 71); exchange and routing key as they were published, of any octets.
    mutating func appendGetOk(
        of message: Message,
        channel: UInt16,
        tag: UInt64,
        redelivered: Bool,
        messageCount: UInt32
    ) {
        let methodSize = 4 + 9 + message.header.routeCount + 4
        var cursor = self.reserve(methodSize + 8)
        Self.putHeader(&cursor, 1, channel, methodSize)
        Self.put(&cursor, UInt32(60 << 16 | 71).bigEndian)
        Self.put(&cursor, tag.bigEndian)
        Self.put(&cursor, redelivered ? 1 as UInt8 : 0)
        message.withRoute { Self.put(&cursor, octets: $0) }
        Self.put(&cursor, messageCount.bigEndian)
        Self.put(&cursor, Frame.frameEnd)
        self.commit(methodSize + 8)
    }

    /// Appends a message's header and body after its method.
    mutating func appendContent(of message: Message, channel: UInt16, maximumPayload: Int) {
        let head = message.header
        let needed = 12 + head.propertiesCount + 8
        var cursor = self.reserve(needed)
        Self.putHeader(&cursor, 2, channel, 12 + head.propertiesCount)
        Self.put(&cursor, UInt32(60 << 16).bigEndian)
        Self.put(&cursor, UInt64(head.bodyCount).bigEndian)
        message.withProperties { Self.put(&cursor, octets: $0) }
        Self.put(&cursor, Frame.frameEnd)
        self.commit(needed)
        self.appendBody(of: message, channel: channel, maximumPayload: maximumPayload)
    }

    private mutating func appendBody(of message: Message, channel: UInt16, maximumPayload: Int) {
        guard message.header.bodyCount > 0 else { return }
        message.withBody { self.appendBodyFrames(channel: channel, body: $0, maximumPayload: maximumPayload) }
    }

    private static func putHeader(
        _ cursor: inout UnsafeMutableRawPointer,
        _ type: UInt8,
        _ channel: UInt16,
        _ size: Int
    ) {
        Self.put(&cursor, type)
        Self.put(&cursor, channel.bigEndian)
        Self.put(&cursor, UInt32(size).bigEndian)
    }

    private static func put<Value: FixedWidthInteger & BitwiseCopyable>(
        _ cursor: inout UnsafeMutableRawPointer,
        _ value: Value
    ) {
        cursor.storeBytes(of: value, as: Value.self)
        cursor += MemoryLayout<Value>.size
    }

    private static func put(_ cursor: inout UnsafeMutableRawPointer, octets: UnsafeRawBufferPointer) {
        guard let base = octets.baseAddress else { return }
        cursor.copyMemory(from: base, byteCount: octets.count)
        cursor += octets.count
    }
}
