// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Deliver decoder")
struct DeliverDecoderTests {
    /// One delivery on channel 5: consumer tag "c", delivery tag 258, redelivered, exchange "e", routing key "rk",
    /// two octets of property flags, body "hi".
    static let delivery: [UInt8] = [
        1, 0, 5, 0, 0, 0, 20,  // method frame
        0, 60, 0, 60, 1, 0x63, 0, 0, 0, 0, 0, 0, 1, 2, 1, 1, 0x65, 2, 0x72, 0x6B,
        0xCE,
        2, 0, 5, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xCE,
        3, 0, 5, 0, 0, 0, 2, 0x68, 0x69, 0xCE,
    ]

    static func find(_ octets: [UInt8], from start: Int = 0) -> DeliverDecoder.Found {
        DeliverDecoder.find(
            in: octets.span.bytes,
            from: start,
            maximumFrameSize: 131_072,
            maximumContiguous: 65_536
        )
    }

    @Test("A whole delivery is found, with octets before and after it", arguments: [0, 1, 9])
    func whole(_ padding: Int) {
        let octets =
            Array(repeating: UInt8(1), count: padding) + Self.delivery + Array(repeating: UInt8(2), count: padding)
        guard case .delivery(let record, let channel, let end) = Self.find(octets, from: padding) else {
            Issue.record("not found")
            return
        }
        #expect(channel == 5)
        #expect(record.tag == 258)
        #expect(end == padding + Self.delivery.count)
        #expect(Array(octets[Int(record.body)...].prefix(Int(record.bodyCount))) == [0x68, 0x69])
        #expect(Int(record.arguments) == padding + 11)
        #expect(record.argumentsCount == 16)
        #expect(Int(record.properties) == padding + 28 + 19)
        #expect(record.propertiesCount == 2)
    }

    @Test("An empty body is within the read octets, also at their end")
    func emptyBody() {
        // The header announces nothing, and no body frame follows.
        var octets = Array(Self.delivery[..<50])
        octets[46] = 0
        guard case .delivery(let record, _, let end) = Self.find(octets) else {
            Issue.record("not found")
            return
        }
        #expect(end == octets.count)
        #expect(record.bodyCount == 0)
        #expect(Int(record.body) <= octets.count)
    }

    @Test("An incomplete delivery is never recognised as whole", arguments: 0..<delivery.count)
    func split(_ count: Int) {
        if case .delivery = Self.find(Array(Self.delivery[..<count])) { Issue.record("found in \(count) octets") }
    }

    @Test(
        "With any one octet of a frame's envelope changed, the general decoder judges",
        arguments: [0, 8, 27, 28, 30, 36, 49, 50, 52, 59]
    )
    func damaged(_ index: Int) {
        var octets = Self.delivery
        octets[index] ^= 0x40
        if case .delivery = Self.find(octets) { Issue.record("found although octet \(index) is wrong") }
    }
}
