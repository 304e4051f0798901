// SPDX-License-Identifier: Apache-2.0

// PublishEncoder: encodes one publish in one pass: basic.publish (60, 40), content header, body frames (§4.2.6).
// The hot path of publishing; every other method is encoded by its generated struct.
// Unsafe: writes through one raw cursor into room reserved before. `needed` below counts every octet that the cursor
// passes, so it ends exactly at the end of that room; debug builds check it.
//
//   1 | channel | size | 60 40 ticket=0 exchange routing-key bits | CE
//   2 | channel | size | 60 weight=0 body-size flags values       | CE
//   3 | channel | size | up to frame-max - 8 octets               | CE     as often as needed, never for an empty body

extension WireBuffer {
    /// Appends all frames of one publish; an error leaves the buffer unchanged.
    ///
    /// - Parameters:
    ///   - channel: The channel.
    ///   - exchange: The exchange, at most 255 octets.
    ///   - routingKey: The routing key, at most 255 octets.
    ///   - mandatory: The `mandatory` bit.
    ///   - properties: The properties, which must fit into one frame.
    ///   - body: The body's octets.
    ///   - maximumPayload: Largest frame payload, octets: the negotiated frame-max less 8.
    /// - Throws: `WireError` for a name that is too long or properties that do not fit.
    package mutating func appendPublish(
        channel: UInt16,
        exchange: String,
        routingKey: RoutingKey,
        mandatory: Bool,
        properties: BasicProperties,
        body: UnsafeRawBufferPointer,
        maximumPayload: Int
    ) throws(WireError) {
        let exchangeCount = exchange.utf8.count
        let routingKeyCount = routingKey.count
        guard exchangeCount <= 255 else { throw WireError(.shortStringTooLong(count: exchangeCount)) }
        guard routingKeyCount <= 255 else { throw WireError(.shortStringTooLong(count: routingKeyCount)) }
        let start = self.count
        let methodSize = 9 + exchangeCount + routingKeyCount
        let needed = methodSize + 8
        let room = self.reserve(needed + 22)
        var cursor = room
        Self.putFrameHeader(&cursor, type: 1, channel: channel, size: methodSize)
        Self.put(&cursor, UInt32(60 << 16 | 40).bigEndian)
        Self.put(&cursor, UInt16(0))
        Self.putShortString(&cursor, exchange, count: exchangeCount)
        switch routingKey {
        case .text(let text): Self.putShortString(&cursor, text, count: routingKeyCount)
        case .octets(let octets): Self.putShortString(&cursor, octets, count: routingKeyCount)
        }
        Self.put(&cursor, UInt8(mandatory ? 1 : 0))
        Self.put(&cursor, UInt8(0xCE))
        if properties.isEmpty {
            Self.putFrameHeader(&cursor, type: 2, channel: channel, size: 14)
            Self.put(&cursor, UInt32(60 << 16).bigEndian)
            Self.put(&cursor, UInt64(body.count).bigEndian)
            Self.put(&cursor, UInt16(0))
            Self.put(&cursor, UInt8(0xCE))
            assert(cursor == room + needed + 22)
            self.commit(needed + 22)
        } else {
            assert(cursor == room + needed)
            self.commit(needed)
            do {
                try self.appendPublishHeader(
                    channel: channel,
                    properties: properties,
                    bodySize: body.count,
                    maximumPayload: maximumPayload
                )
            } catch {
                self.truncate(to: start)
                throw error
            }
        }
        self.appendBodyFrames(channel: channel, body: body, maximumPayload: maximumPayload)
    }

    // The content header with properties: its size is known only afterwards.
    package mutating func appendPublishHeader(
        channel: UInt16,
        properties: BasicProperties,
        bodySize: Int,
        maximumPayload: Int
    ) throws(WireError) {
        let start = self.count
        self.append(2 as UInt8)
        self.appendUInt16(channel)
        self.appendUInt32(0)
        self.appendUInt16(60)
        self.appendUInt16(0)
        self.appendUInt64(UInt64(bodySize))
        // The broker would close the channel and so fail every unconfirmed publish on it.
        if let expiration = properties.expiration, !Self.isMilliseconds(expiration) {
            throw WireError(.unencodable("expiration is not a number of milliseconds, 0 to 4294967295"))
        }
        try properties.encode(into: &self)
        let size = self.count - start - 7
        guard size <= maximumPayload else { throw WireError(.frameTooLarge(size: size, limit: maximumPayload)) }
        self.patchUInt32(UInt32(size), at: start + 3)
        self.append(0xCE as UInt8)
    }

    private static func isMilliseconds(_ text: String) -> Bool {
        text.utf8.allSatisfy { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 } && UInt32(text) != nil
    }

    @inline(__always)
    package mutating func appendBodyFrames(channel: UInt16, body: UnsafeRawBufferPointer, maximumPayload: Int) {
        var offset = 0
        while offset < body.count {
            let size = min(maximumPayload, body.count - offset)
            let room = self.reserve(size + 8)
            var cursor = room
            Self.putFrameHeader(&cursor, type: 3, channel: channel, size: size)
            if let base = body.baseAddress { cursor.copyMemory(from: base + offset, byteCount: size) }
            cursor += size
            Self.put(&cursor, UInt8(0xCE))
            self.commit(size + 8)
            offset += size
        }
    }

    @inline(__always)
    static func putFrameHeader(_ cursor: inout UnsafeMutableRawPointer, type: UInt8, channel: UInt16, size: Int) {
        Self.put(&cursor, type)
        Self.put(&cursor, channel.bigEndian)
        Self.put(&cursor, UInt32(size).bigEndian)
    }

    @inline(__always)
    static func put<Value: FixedWidthInteger & BitwiseCopyable>(_ cursor: inout UnsafeMutableRawPointer, _ value: Value)
    {
        cursor.storeBytes(of: value, as: Value.self)
        cursor += MemoryLayout<Value>.size
    }

    /// Stores the length and the octets of a name whose UTF-8 has `count` octets.
    @inline(__always)
    static func putShortString(_ cursor: inout UnsafeMutableRawPointer, _ string: String, count: Int) {
        Self.put(&cursor, UInt8(truncatingIfNeeded: count))
        guard count > 0 else { return }
        let target = cursor
        // Not `utf8Span`: its accessors are two calls, this is inlined. Native strings, all there are on Linux, have storage.
        let isCopied: Void? = string.utf8.withContiguousStorageIfAvailable { octets in
            if let base = octets.baseAddress { target.copyMemory(from: base, byteCount: count) }
        }
        if isCopied == nil {
            string.utf8Span.span.withUnsafeBytes { octets in
                if let base = octets.baseAddress { target.copyMemory(from: base, byteCount: count) }
            }
        }
        cursor += count
    }

    @inline(__always)
    static func putShortString(_ cursor: inout UnsafeMutableRawPointer, _ octets: [UInt8], count: Int) {
        Self.put(&cursor, UInt8(truncatingIfNeeded: count))
        let target = cursor
        octets.withUnsafeBytes { octets in
            if let base = octets.baseAddress { target.copyMemory(from: base, byteCount: count) }
        }
        cursor += count
    }
}
