// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Confirm decoder")
struct ConfirmDecoderTests {
    static let confirms: [(Method, ConfirmRecord)] = [
        (
            .basicAck(.init(deliveryTag: DeliveryTag(258), multiple: false)),
            ConfirmRecord(channel: 5, tag: 258, multiple: false, isAck: true)
        ),
        (
            .basicAck(.init(deliveryTag: DeliveryTag(0), multiple: true)),
            ConfirmRecord(channel: 5, tag: 0, multiple: true, isAck: true)
        ),
        (
            .basicNack(.init(deliveryTag: DeliveryTag(UInt64.max), multiple: true, requeue: true)),
            ConfirmRecord(channel: 5, tag: .max, multiple: true, isAck: false)
        ),
        (
            .basicNack(.init(deliveryTag: DeliveryTag(1), multiple: false, requeue: true)),
            ConfirmRecord(channel: 5, tag: 1, multiple: false, isAck: false)
        ),
    ]

    static func octets(_ method: Method) throws -> [UInt8] {
        var buffer = WireBuffer()
        try method.encodeFrame(channel: ChannelNumber(5), into: &buffer)
        return buffer.withUnsafeBytes { Array($0) }
    }

    @Test("A confirm is found, with octets before and after it", arguments: confirms)
    func whole(_ method: Method, _ record: ConfirmRecord) throws {
        let octets = try Self.octets(method)
        #expect(octets.count == ConfirmDecoder.size)
        for padding in [0, 1, 9] {
            let around = Array(repeating: UInt8(1), count: padding)
            let stream = around + octets + around
            #expect(ConfirmDecoder.find(in: stream.span.bytes, from: padding) == record)
        }
    }

    @Test("An incomplete or malformed confirm is not recognised", arguments: confirms)
    func damaged(_ method: Method, _: ConfirmRecord) throws {
        let octets = try Self.octets(method)
        for count in 0..<octets.count {
            let part = Array(octets[..<count])
            #expect(ConfirmDecoder.find(in: part.span.bytes, from: 0) == nil)
        }
        // The type, the size, the class and the method, and the end.
        for index in [0, 3, 4, 5, 6, 7, 8, 9, 10, 20] {
            var damaged = octets
            damaged[index] ^= 0x80
            #expect(ConfirmDecoder.find(in: damaged.span.bytes, from: 0) == nil, "octet \(index)")
        }
    }

    @Test("Another method of the same size is not recognised")
    func other() throws {
        let reject = try Self.octets(.basicReject(.init(deliveryTag: DeliveryTag(1), requeue: true)))
        #expect(reject.count == ConfirmDecoder.size)
        #expect(ConfirmDecoder.find(in: reject.span.bytes, from: 0) == nil)
    }
}
