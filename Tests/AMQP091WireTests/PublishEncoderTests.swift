// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Publish encoder")
struct PublishEncoderTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let exchange: String
        let routingKey: String
        let mandatory: Bool
        let body: [UInt8]
        let maximumPayload: Int
        let octets: [UInt8]
    }

    static let rows = [
        Row(
            testDescription: "an empty body has no body frame",
            exchange: "",
            routingKey: "q",
            mandatory: false,
            body: [],
            maximumPayload: 8184,
            octets: [
                1, 0, 7, 0, 0, 0, 10,  // method frame, channel 7, 10 octets
                0, 60, 0, 40, 0, 0,  // basic.publish, ticket 0
                0, 1, 0x71, 0,  // exchange, routing key, bits
                0xCE,
                2, 0, 7, 0, 0, 0, 14,  // header frame
                0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // class, weight, body size, no properties
                0xCE,
            ]
        ),
        Row(
            testDescription: "a body larger than a frame is split, the last frame exact",
            exchange: "e",
            routingKey: "",
            mandatory: true,
            body: [1, 2, 3],
            maximumPayload: 2,
            octets: [
                1, 0, 7, 0, 0, 0, 10, 0, 60, 0, 40, 0, 0,
                1, 0x65, 0, 1,  // exchange, routing key, mandatory
                0xCE,
                2, 0, 7, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0xCE,
                3, 0, 7, 0, 0, 0, 2, 1, 2, 0xCE,
                3, 0, 7, 0, 0, 0, 1, 3, 0xCE,
            ]
        ),
    ]

    @Test("A publish has exactly these octets", arguments: rows)
    func octets(_ row: Row) throws {
        var buffer = WireBuffer(capacity: 0)
        try row.body.withUnsafeBytes { body in
            try buffer.appendPublish(
                channel: 7,
                exchange: row.exchange,
                routingKey: .text(row.routingKey),
                mandatory: row.mandatory,
                properties: BasicProperties(),
                body: body,
                maximumPayload: row.maximumPayload
            )
        }
        let octets = buffer.withUnsafeBytes { Array($0) }
        #expect(octets == row.octets)
    }

    @Test("A name of 255 octets passes, one of 256 throws and leaves the buffer unchanged", arguments: [255, 256])
    func names(_ count: Int) throws {
        var buffer = WireBuffer(capacity: 0)
        let name = String(repeating: "é", count: count / 2) + (count % 2 == 1 ? "x" : "")
        do {
            try buffer.appendPublish(
                channel: 1,
                exchange: "",
                routingKey: .text(name),
                mandatory: false,
                properties: BasicProperties(),
                body: UnsafeRawBufferPointer(start: nil, count: 0),
                maximumPayload: 8184
            )
            #expect(count == 255)
        } catch {
            #expect(error == WireError(.shortStringTooLong(count: 256)))
            let count = buffer.count
            #expect(count == 0)
        }
    }
}
