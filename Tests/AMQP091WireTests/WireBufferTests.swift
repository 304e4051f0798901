// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Wire buffer and reader")
struct WireBufferTests {
    @Test("Numbers are big endian and survive a round trip")
    func numbers() throws {
        let written = try octets { (buffer) throws(WireError) in
            buffer.append(1 as UInt8)
            buffer.appendUInt16(0x0203)
            buffer.appendUInt32(0x0405_0607)
            buffer.appendUInt64(0x0809_0A0B_0C0D_0E0F)
        }
        #expect(written == Array(1...15))
        try decode(written) { (reader) throws(WireError) in
            #expect(try reader.readUInt8() == 1)
            #expect(try reader.readUInt16() == 0x0203)
            #expect(try reader.readUInt32() == 0x0405_0607)
            #expect(reader.remaining == 8)
            #expect(try reader.readUInt64() == 0x0809_0A0B_0C0D_0E0F)
        }
    }

    @Test("A buffer keeps its octets while it grows", arguments: [0, 1, 63, 64, 65, 1000])
    func grows(_ capacity: Int) {
        var buffer = WireBuffer(capacity: capacity)
        let expected = (0..<5000).map { UInt8($0 % 251) }
        for octet in expected { buffer.append(octet) }
        #expect(buffer.count == 5000)
        #expect(buffer.capacity >= 5000)
        let found = buffer.withUnsafeBytes { Array($0) }
        #expect(found == expected)
    }

    @Test("Reserved octets do not count, committed ones do")
    func reserves() {
        var buffer = WireBuffer(capacity: 0)
        let room = buffer.reserve(100_000)
        #expect(buffer.count == 0)
        room.storeBytes(of: 7, toByteOffset: 99_999, as: UInt8.self)
        room.initializeMemory(as: UInt8.self, repeating: 1, count: 99_999)
        buffer.commit(100_000)
        let last = buffer.bytes.unsafeLoad(fromByteOffset: 99_999, as: UInt8.self)
        #expect(last == 7)
    }

    @Test("Octets are truncated, overwritten and removed")
    func edits() {
        var buffer = WireBuffer(capacity: 256)
        let source: [UInt8] = [1, 2, 3, 4, 5, 6]
        buffer.append(octets: source.span.bytes)
        buffer.truncate(to: 5)
        buffer.patchUInt32(0x0A0B_0C0D, at: 1)
        let found = buffer.withUnsafeBytes { Array($0) }
        #expect(found == [1, 10, 11, 12, 13])
        buffer.removeAll(keepingCapacity: true)
        #expect(buffer.count == 0)
        #expect(buffer.capacity == 256)
        buffer.removeAll(keepingCapacity: false)
        #expect(buffer.capacity == 64)
        buffer.append(9 as UInt8)
        #expect(buffer.count == 1)
    }

    @Test("A short string of 255 octets is written, one more is refused")
    func shortString() throws {
        let longest = String(repeating: "€", count: 85)
        let written = try octets { (buffer) throws(WireError) in try buffer.appendShortString(longest) }
        #expect(written == [255] + Array(longest.utf8))
        let read = try decode(written) { (reader) throws(WireError) in try reader.readShortString() }
        #expect(read == longest)
        #expect(throws: WireError(.shortStringTooLong(count: 256))) {
            try octets { (buffer) throws(WireError) in try buffer.appendShortString(longest + "x") }
        }
    }

    @Test("Text with NUL and an empty string pass", arguments: ["", "\0", "a\0b"])
    func oddStrings(_ text: String) throws {
        let written = try octets { (buffer) throws(WireError) in try buffer.appendShortString(text) }
        let read = try decode(written) { (reader) throws(WireError) in try reader.readShortString() }
        #expect(read == text)
    }

    @Test("A read beyond the end is an error and does not move the cursor")
    func truncated() throws {
        try decode([0, 0, 0]) { (reader) throws(WireError) in
            var failures = 0
            do throws(WireError) { _ = try reader.readUInt32() } catch { failures += 1 }
            do throws(WireError) { _ = try reader.readUInt64() } catch { failures += 1 }
            do throws(WireError) { _ = try reader.readOctets(4) } catch { failures += 1 }
            do throws(WireError) { _ = try reader.readOctets(-1) } catch { failures += 1 }
            #expect(failures == 4)
            #expect(reader.remaining == 3)
            #expect(try reader.readOctets(3) == [0, 0, 0])
        }
    }

    @Test("A long string's length is checked against the remaining octets")
    func longString() {
        let octets: [UInt8] = [255, 255, 255, 255, 1]
        #expect(throws: WireError(.truncated)) {
            try decode(octets) { (reader) throws(WireError) in try reader.readLongString() }
        }
    }

    static let badPayloads: [([UInt8], WireError.Kind, ReplyCode)] = [
        ([], .frameTooShort(size: 0), .frameError),
        ([0, 60, 0], .frameTooShort(size: 3), .frameError),
        ([0, 60, 0, 41], .unknownMethod(classID: 60, methodID: 41), .commandInvalid),
        ([0, 40, 0, 41], .unknownMethod(classID: 40, methodID: 41), .commandInvalid),
        ([255, 255, 255, 255], .unknownMethod(classID: 65535, methodID: 65535), .commandInvalid),
        ([0, 20, 0, 41, 0], .trailingOctets(count: 1), .syntaxError),
        ([0, 60, 0, 21, 5, 0x61], .truncated, .syntaxError),
    ]

    @Test("A malformed method is refused with the reply code to close with", arguments: badPayloads)
    func badPayload(octets: [UInt8], kind: WireError.Kind, code: ReplyCode) {
        #expect(throws: WireError(kind)) { try Method.decode(octets.span.bytes) }
        #expect(WireError(kind).replyCode == code)
        #expect(!WireError(kind).description.isEmpty)
    }
}
