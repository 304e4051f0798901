// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Content header and properties")
struct ContentHeaderTests {
    struct Row: CustomTestStringConvertible {
        var testDescription: String
        var properties: BasicProperties
        var flags: UInt16
        var values: [UInt8]

        init(_ name: String, _ properties: BasicProperties, bit: Int?, _ values: [UInt8]) {
            self.testDescription = name
            self.properties = properties
            self.flags = bit.map { 1 << $0 } ?? 0
            self.values = values
        }
    }

    static let rows = [
        Row("none", BasicProperties(), bit: nil, []),
        Row("content-type", BasicProperties(contentType: "a"), bit: 15, [1, 0x61]),
        Row("content-encoding", BasicProperties(contentEncoding: ""), bit: 14, [0]),
        Row("headers", BasicProperties(headers: ["k": .void]), bit: 13, [0, 0, 0, 3, 1, 0x6B, 0x56]),
        Row("delivery-mode", BasicProperties(deliveryMode: 7), bit: 12, [7]),
        Row("priority", BasicProperties(priority: 255), bit: 11, [255]),
        Row("correlation-id", BasicProperties(correlationID: "a"), bit: 10, [1, 0x61]),
        Row("reply-to", BasicProperties(replyTo: "a"), bit: 9, [1, 0x61]),
        Row("expiration", BasicProperties(expiration: "10"), bit: 8, [2, 0x31, 0x30]),
        Row("message-id", BasicProperties(messageID: "a"), bit: 7, [1, 0x61]),
        Row("timestamp", BasicProperties(timestamp: .max), bit: 6, [UInt8](repeating: 255, count: 8)),
        Row("type", BasicProperties(type: "a"), bit: 5, [1, 0x61]),
        Row("user-id", BasicProperties(userID: "a"), bit: 4, [1, 0x61]),
        Row("app-id", BasicProperties(appID: "a"), bit: 3, [1, 0x61]),
        Row("cluster-id", BasicProperties(clusterID: "a"), bit: 2, [1, 0x61]),
    ]

    static let all = BasicProperties(
        contentType: "text/plain",
        contentEncoding: "gzip",
        headers: ["a": 1, "b": ["c": [true, 2.5]]],
        deliveryMode: 2,
        priority: 9,
        correlationID: "c",
        replyTo: "r",
        expiration: "60000",
        messageID: "m",
        timestamp: 1_700_000_000,
        type: "t",
        userID: "guest",
        appID: "app",
        clusterID: "x"
    )

    @Test("One property is encoded as its flag and its value", arguments: rows)
    func single(_ row: Row) throws {
        let written = try octets { (buffer) throws(WireError) in try row.properties.encode(into: &buffer) }
        #expect(written == [UInt8(row.flags >> 8), UInt8(row.flags & 255)] + row.values)
        let read = try decode(written) { (reader) throws(WireError) in try BasicProperties(from: &reader) }
        #expect(read == row.properties)
        #expect(read.isEmpty == (row.flags == 0))
    }

    @Test("All properties survive a round trip, and truncated ones are an error")
    func together() throws {
        let header = ContentHeader(bodySize: .max, properties: Self.all)
        let payload = try octets { (buffer) throws(WireError) in try header.encode(into: &buffer) }
        #expect(try ContentHeader.decode(payload.span.bytes) == header)
        for count in 0..<payload.count {
            #expect(throws: WireError.self) { try ContentHeader.decode(payload.span.bytes.extracting(first: count)) }
        }
        let longer = payload + [0]
        #expect(throws: WireError(.trailingOctets(count: 1))) { try ContentHeader.decode(longer.span.bytes) }
    }

    @Test("A header frame has these octets, within an exact frame-max")
    func frame() throws {
        let header = ContentHeader(bodySize: 3, properties: BasicProperties(deliveryMode: 2))
        let expected: [UInt8] = [
            2, 0, 1, 0, 0, 0, 15,  // type, channel, size
            0, 60, 0, 0,  // class, weight
            0, 0, 0, 0, 0, 0, 0, 3,  // body size
            0x10, 0,  // flags
            2,  // delivery-mode
            0xCE,
        ]
        let written = try octets { (buffer) throws(WireError) in
            try header.encodeFrame(channel: ChannelNumber(1), into: &buffer, maximumFrameSize: 23)
        }
        #expect(written == expected)
        #expect(throws: WireError(.frameTooLarge(size: 15, limit: 14))) {
            try octets { (buffer) throws(WireError) in
                try header.encodeFrame(channel: ChannelNumber(1), into: &buffer, maximumFrameSize: 22)
            }
        }
    }

    @Test("Another class, or a weight, is an unexpected frame", arguments: [(61, 0), (60, 1)] as [(UInt8, UInt8)])
    func invalid(classID: UInt8, weight: UInt8) {
        let payload: [UInt8] = [0, classID, 0, weight] + [UInt8](repeating: 0, count: 10)
        let error = WireError(.invalidContentHeader(classID: UInt16(classID), weight: UInt16(weight)))
        #expect(throws: error) { try ContentHeader.decode(payload.span.bytes) }
        #expect(error.replyCode == .unexpectedFrame)
    }

    @Test("Thirteen octets are too few for a header")
    func short() {
        let payload = [UInt8](repeating: 0, count: 13)
        #expect(throws: WireError(.frameTooShort(size: 13))) { try ContentHeader.decode(payload.span.bytes) }
    }

    @Test("The low two flags name no property and are ignored")
    func unknownFlags() throws {
        let read = try decode([0x10, 3, 2]) { (reader) throws(WireError) in try BasicProperties(from: &reader) }
        #expect(read == BasicProperties(deliveryMode: 2))
        let none = try decode([0, 3]) { (reader) throws(WireError) in try BasicProperties(from: &reader) }
        #expect(none.isEmpty)
    }

    @Test("A property that is not UTF-8 is shown with U+FFFD")
    func repaired() throws {
        let read = try decode([0x80, 0, 1, 0xFF]) { (reader) throws(WireError) in try BasicProperties(from: &reader) }
        #expect(read.contentType == "\u{FFFD}")
    }

    @Test("A copy does not change with the original, and removing the last property leaves none")
    func copies() {
        var first = BasicProperties()
        first.contentType = nil
        #expect(first.isEmpty)
        first.contentType = "a"
        first.priority = 1
        var second = first
        second.contentType = "b"
        #expect(first.contentType == "a")
        #expect(second.priority == 1)
        second.contentType = nil
        second.priority = nil
        #expect(second.isEmpty)
        #expect(second == BasicProperties())
        #expect(first != second)
        #expect(first == BasicProperties(contentType: "a", priority: 1))
        #expect(first.hashValue == BasicProperties(contentType: "a", priority: 1).hashValue)
    }

    @Test("Properties are one pointer wide")
    func size() {
        #expect(MemoryLayout<BasicProperties>.size == MemoryLayout<Int>.size)
    }
}
