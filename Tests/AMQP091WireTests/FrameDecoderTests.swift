// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Frame decoder")
struct FrameDecoderTests {
    struct Row: CustomTestStringConvertible {
        var testDescription: String
        var octets: [UInt8]
        var frame: DecodedFrame

        init(_ name: String, _ octets: [UInt8], _ type: FrameType, _ channel: UInt16, _ payload: Range<Int>) {
            self.testDescription = name
            self.octets = octets
            self.frame = DecodedFrame(
                type: type,
                channel: ChannelNumber(channel),
                payload: payload,
                end: payload.upperBound + 1
            )
        }
    }

    static let rows = [
        Row("heartbeat", [8, 0, 0, 0, 0, 0, 0, 0xCE], .heartbeat, 0, 7..<7),
        Row("method", [1, 1, 2, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE], .method, 258, 7..<11),
        Row("body", [3, 0, 1, 0, 0, 0, 2, 0xCE, 0xCE, 0xCE], .body, 1, 7..<9),
        Row("empty body", [3, 0, 1, 0, 0, 0, 0, 0xCE], .body, 1, 7..<7),
        Row(
            "header",
            [2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xCE],
            .header,
            1,
            7..<21
        ),
    ]

    static let decoder = FrameDecoder(maximumFrameSize: 4096)

    @Test("A frame decodes whole, and with other octets before and after it", arguments: rows)
    func whole(_ row: Row) throws {
        #expect(try Self.decoder.next(in: row.octets.span.bytes, from: 0) == row.frame)
        let longer = [9, 9, 9] + row.octets + [0xFF]
        let moved = try #require(try Self.decoder.next(in: longer.span.bytes, from: 3))
        #expect(moved.payload == row.frame.payload.lowerBound + 3..<row.frame.payload.upperBound + 3)
        #expect(moved.end == row.frame.end + 3)
    }

    @Test("A frame is incomplete until its last octet", arguments: rows)
    func splits(_ row: Row) throws {
        for count in 0..<row.octets.count {
            #expect(try Self.decoder.next(in: row.octets.span.bytes.extracting(first: count), from: 0) == nil)
        }
    }

    @Test("The largest frame passes, one octet more is refused by its header")
    func limit() throws {
        let decoder = FrameDecoder(maximumFrameSize: 108)
        let largest: [UInt8] = [3, 0, 1, 0, 0, 0, 100]
        let larger: [UInt8] = [3, 0, 1, 0, 0, 0, 101]
        let whole = largest + [UInt8](repeating: 7, count: 100) + [0xCE]
        #expect(try decoder.next(in: largest.span.bytes, from: 0) == nil)
        #expect(try decoder.next(in: whole.span.bytes, from: 0)?.payload == 7..<107)
        #expect(throws: WireError(.frameTooLarge(size: 101, limit: 100))) {
            try decoder.next(in: larger.span.bytes, from: 0)
        }
    }

    @Test("A protocol header is recognised once its eight octets have arrived")
    func protocolHeader() throws {
        let header: [UInt8] = [0x41, 0x4D, 0x51, 0x50, 0, 0, 9, 1]
        for count in 0..<8 {
            #expect(try Self.decoder.next(in: header.span.bytes.extracting(first: count), from: 0) == nil)
        }
        #expect(throws: WireError(.protocolMismatch(header))) { try Self.decoder.next(in: header.span.bytes, from: 0) }
    }

    struct BadRow: CustomTestStringConvertible {
        var testDescription: String
        var octets: [UInt8]
        var kind: WireError.Kind
        var code: ReplyCode

        init(_ name: String, _ octets: [UInt8], _ kind: WireError.Kind, _ code: ReplyCode = .frameError) {
            self.testDescription = name
            self.octets = octets
            self.kind = kind
            self.code = code
        }
    }

    static let bad = [
        BadRow("wrong frame-end", [3, 0, 1, 0, 0, 0, 1, 5, 0xCD], .malformedFrameEnd(0xCD)),
        BadRow("size 0xFFFFFFFF", [3, 0, 1, 255, 255, 255, 255], .frameTooLarge(size: 0xFFFF_FFFF, limit: 4088)),
        BadRow("size 0x80000000", [1, 0, 1, 128, 0, 0, 0], .frameTooLarge(size: 0x8000_0000, limit: 4088)),
        BadRow("method of 3 octets", [1, 0, 1, 0, 0, 0, 3], .frameTooShort(size: 3)),
        BadRow("header of 13 octets", [2, 0, 1, 0, 0, 0, 13], .frameTooShort(size: 13)),
        BadRow("type 0", [0], .unknownFrameType(0)),
        BadRow("type 4", [4, 0, 0, 0, 0, 0, 0, 0xCE], .unknownFrameType(4)),
        BadRow("HTTP banner", Array("HTTP/1.1 400".utf8), .unknownFrameType(0x48)),
        BadRow("SSH banner", Array("SSH-2.0".utf8), .unknownFrameType(0x53)),
        BadRow("TLS alert", [0x15, 3, 3], .unknownFrameType(0x15)),
        BadRow("'A' but not AMQP", Array("AB".utf8), .unknownFrameType(0x41)),
        BadRow("heartbeat on channel 1", [8, 0, 1, 0, 0, 0, 0], .invalidHeartbeat),
        BadRow("heartbeat with payload", [8, 0, 0, 0, 0, 0, 1], .invalidHeartbeat),
    ]

    @Test("A malformed frame is refused as early as possible, with the reply code to close with", arguments: bad)
    func refuses(_ row: BadRow) throws {
        #expect(throws: WireError(row.kind)) { try Self.decoder.next(in: row.octets.span.bytes, from: 0) }
        for count in 0..<(row.octets.count - 1) {
            // never a frame before the error shows
            if let early = try? Self.decoder.next(in: row.octets.span.bytes.extracting(first: count), from: 0) {
                Issue.record("found \(early)")
            }
        }
        #expect(WireError(row.kind).replyCode == row.code)
    }

    @Test("Random octets are frames or refused, and never trap")
    func noise() {
        var generator = SeededGenerator(state: 1)
        for _ in 0..<2000 {
            var octets = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            if !octets.isEmpty { octets[0] = UInt8.random(in: 0...9, using: &generator) }
            var offset = 0
            while let frame = try? Self.decoder.next(in: octets.span.bytes, from: offset) {
                #expect(frame.end > offset && frame.end <= octets.count)
                offset = frame.end
            }
        }
    }

    @Test("A heartbeat is eight octets")
    func heartbeat() throws {
        #expect(try octets { (buffer) throws(WireError) in buffer.appendHeartbeat() } == [8, 0, 0, 0, 0, 0, 0, 0xCE])
    }
}
