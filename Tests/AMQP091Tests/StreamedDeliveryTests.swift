// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// StreamedDeliveryTests: bodies that are read while they arrive: whole to the octet, bounded, dropped, and cut short.

@Suite("Streamed deliveries", .timeLimit(.minutes(1)))
struct StreamedDeliveryTests {
    /// Octets that do not repeat with any power of two.
    private static func octets(_ count: Int) -> [UInt8] {
        let block = (0..<1009).map { UInt8(truncatingIfNeeded: $0 * 31 + $0 / 256) }
        var octets: [UInt8] = []
        while octets.count < count { octets += block }
        return Array(octets.prefix(count))
    }

    private static func collect(_ body: AMQPStreamedBody) async throws -> [UInt8] {
        var octets: [UInt8] = []
        for try await piece in body { octets += piece.copy().array }
        return octets
    }

    private static func deliver(_ tag: String, _ number: UInt64) -> Basic.Deliver {
        Basic.Deliver(
            consumerTag: tag,
            deliveryTag: DeliveryTag(number),
            redelivered: false,
            exchange: "logs",
            routingKey: "info"
        )
    }

    @Test("Bodies of all sizes come out equal to the octet, in order, and are settled")
    func whole() async throws {
        try await KnownDefectTests.withBroker { broker, connection, channel in
            try await channel.declareQueue("q")
            let sizes = [0, 1, 1000, 240_000, 300_000, 131_064 * 3, 5_000_000, 3]
            for size in sizes {
                var message = AMQPMessage(AMQPBody(Self.octets(size)))
                message.properties.messageID = "\(size)"
                try await channel.publish(message, to: .queue("q"))
            }
            try await channel.consume("q") { deliveries in
                var count = 0
                for try await message in deliveries.streamed {
                    let size = sizes[count]
                    #expect(message.body.count == size)
                    #expect(try message.properties().messageID == "\(size)")
                    #expect(message.routingKey == "q")
                    let isEqual = try await Self.collect(message.body) == Self.octets(size)
                    #expect(isEqual)
                    try message.ack()
                    count += 1
                    if count == sizes.count { break }
                }
            }
            try await broker.waitUntil(depthOf: "q", is: 0)
        }
    }

    @Test("A body is there to be read before it has arrived whole")
    func early() async throws {
        try await ConsumeDialogueTests.withConsumer { broker, _, deliveries, tag in
            var iterator = deliveries.streamed.makeAsyncIterator()
            let body = Self.octets(400_000)
            let octets = try ScriptedBroker.octets(
                of: .basicDeliver(Self.deliver(tag, 1)),
                body: body,
                on: 1,
                frameMaximum: 100_000
            )
            let first = 220_000
            broker.sendRaw(Array(octets.prefix(first)))
            // Larger than what is waited for in one piece, so it is handed over with its header.
            let message = try #require(try await iterator.next(isolation: nil))
            #expect(message.body.count == body.count)
            var pieces = message.body.makeAsyncIterator()
            var read: [UInt8] = []
            while read.count < 2 * 99_992 {
                let piece = try #require(try await pieces.next(isolation: nil))
                read += piece.copy().array
            }
            broker.sendRaw(Array(octets.dropFirst(first)))
            while let piece = try await pieces.next(isolation: nil) { read += piece.copy().array }
            let isEqual = read == body
            #expect(isEqual)
        }
    }

    @Test("A reader that is behind stops the socket, and its reading starts it again")
    func backPressure() async throws {
        try await KnownDefectTests.withBroker({ $0.consumerBufferSize = 1 << 18 }) { broker, connection, channel in
            try await channel.declareQueue("q")
            let body = Self.octets(12 << 20)
            try await channel.publish(AMQPMessage(AMQPBody(body)), to: .queue("q"))
            try await channel.consume("q", acknowledgement: .automatic) { deliveries in
                var iterator = deliveries.streamed.makeAsyncIterator()
                let message = try #require(try await iterator.next(isolation: nil))
                await KnownDefectTests.eventually { deliveries.inbox.isFull }
                #expect(!deliveries.inbox.isOverfull)
                let isEqual = try await Self.collect(message.body) == body
                #expect(isEqual)
                #expect(!deliveries.inbox.isFull)
            }
        }
    }

    @Test("What is not read of a body is dropped with the next delivery, which comes all the same")
    func leftBehind() async throws {
        try await KnownDefectTests.withBroker({ $0.consumerBufferSize = 1 << 18 }) { broker, connection, channel in
            try await channel.declareQueue("q")
            let large = AMQPMessage(AMQPBody(Self.octets(3_000_000)))
            try await channel.publish(large, to: .queue("q"))
            try await channel.publish(large, to: .queue("q"))
            try await channel.publish("last", to: .queue("q"))
            try await channel.consume("q") { deliveries in
                var iterator = deliveries.streamed.makeAsyncIterator()
                let unread = try #require(try await iterator.next(isolation: nil))
                let begun = try #require(try await iterator.next(isolation: nil))
                var pieces = begun.body.makeAsyncIterator()
                #expect(try await pieces.next(isolation: nil) != nil)
                let last = try #require(try await iterator.next(isolation: nil))
                #expect(try await Self.collect(last.body) == Array("last".utf8))
                let error = await #expect(throws: AMQPError.self) { _ = try await Self.collect(unread.body) }
                #expect(error?.code == .invalidArgument)
                await #expect(throws: AMQPError.self) { _ = try await pieces.next(isolation: nil) }
                for message in [unread, begun, last] { try message.ack() }
            }
            try await broker.waitUntil(depthOf: "q", is: 0)
            // The channel and its connection stay open.
            #expect(try await channel.inspectQueue("q").messageCount == 0)
        }
    }

    @Test("Leaving the scope in the middle of a body cancels the consumer, and the message goes back")
    func leftInTheMiddle() async throws {
        try await KnownDefectTests.withBroker({ $0.consumerBufferSize = 1 << 18 }) { broker, connection, channel in
            try await channel.declareQueue("q")
            for _ in 0..<2 { try await channel.publish(AMQPMessage(AMQPBody(Self.octets(3_000_000))), to: .queue("q")) }
            try await channel.consume("q") { deliveries in
                for try await message in deliveries.streamed {
                    try message.nack()
                    break
                }
            }
            try await broker.waitUntil(depthOf: "q", is: 2)
            #expect(try await channel.inspectQueue("q").messageCount == 2)
        }
    }

    @Test("A body that is cut short by the end of the channel or the link says why", arguments: [true, false])
    func cutShort(_ byChannel: Bool) async throws {
        try await ConsumeDialogueTests.withConsumer { broker, _, deliveries, tag in
            var iterator = deliveries.streamed.makeAsyncIterator()
            let octets = try ScriptedBroker.octets(
                of: .basicDeliver(Self.deliver(tag, 1)),
                body: Self.octets(400_000),
                on: 1,
                frameMaximum: 50_000
            )
            // Whole frames: the method, the header and five frames of the body.
            broker.sendRaw(Array(octets.prefix(Self.end(ofFrames: 7, in: octets))))
            let message = try #require(try await iterator.next(isolation: nil))
            if byChannel {
                let close = Channel.Close(replyCode: .preconditionFailed, replyText: "no", classID: 0, methodID: 0)
                try broker.send(.channelClose(close), on: 1)
            } else {
                broker.drop()
            }
            let error = await #expect(throws: AMQPError.self) { _ = try await Self.collect(message.body) }
            #expect(error?.code == (byChannel ? .channelClosed : .connectionClosed))
            await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
        }
    }

    @Test("A body longer than its header said ends whoever reads it, with the connection")
    func tooLong() async throws {
        try await ConsumeDialogueTests.withConsumer { broker, _, deliveries, tag in
            var iterator = deliveries.streamed.makeAsyncIterator()
            let octets = try ScriptedBroker.octets(
                of: .basicDeliver(Self.deliver(tag, 1)),
                body: Self.octets(400_000),
                on: 1,
                frameMaximum: 50_000
            )
            broker.sendRaw(Array(octets.prefix(Self.end(ofFrames: 7, in: octets))))
            let message = try #require(try await iterator.next(isolation: nil))
            // 150,040 octets are left to come.
            let frame = [3, 0, 1, 0, 1, 0x80, 0] + [UInt8](repeating: 0, count: 98_304) + [0xCE]
            broker.sendRaw(frame + frame)
            let error = await #expect(throws: AMQPError.self) { _ = try await Self.collect(message.body) }
            #expect(error?.code == .protocolViolation)
            await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
        }
    }

    private static func end(ofFrames count: Int, in octets: [UInt8]) -> Int {
        var offset = 0
        for _ in 0..<count {
            let size = octets[offset + 3..<offset + 7].reduce(0) { $0 * 256 + Int($1) }
            offset += size + 8
        }
        return offset
    }

    @Test("The plain sequence yields the same bodies whole")
    func plain() async throws {
        try await KnownDefectTests.withBroker { broker, connection, channel in
            try await channel.declareQueue("q")
            let body = Self.octets(2_000_000)
            try await channel.publish(AMQPMessage(AMQPBody(body)), to: .queue("q"))
            try await channel.consume("q") { deliveries in
                for try await delivery in deliveries {
                    let isEqual = delivery.body.copy().array == body
                    #expect(isEqual)
                    try delivery.ack()
                    break
                }
            }
            try await broker.waitUntil(depthOf: "q", is: 0)
            // Settled once: nothing came back, and the channel was not closed for a second settlement.
            #expect(try await channel.inspectQueue("q").messageCount == 0)
        }
    }

    @Test("A consumer of a client streams again after its connection was lost")
    func recovers() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = broker.configuration
            configuration.recovery.initialDelay = .milliseconds(1)
            try await AMQPClient.withClient(configuration) { client in
                // More than the buffer and the kernel hold between them, so that it is cut short.
                let body = Self.octets(14 << 20)
                try await AMQPConnection.withConnection(broker.configuration) { connection in
                    try await connection.withChannel { try await $0.declareQueue("q", durable: true) }
                    try await connection.withPublisher { publisher in
                        try await publisher.publish(AMQPMessage(AMQPBody(body)), to: .queue("q"))
                    }
                }
                try await client.consume("q") { deliveries in
                    var iterator = deliveries.streamed.makeAsyncIterator()
                    let first = try #require(try await iterator.next(isolation: nil))
                    await broker.dropConnections("crash")
                    await #expect(throws: AMQPError.self) { _ = try await Self.collect(first.body) }
                    let second = try #require(try await iterator.next(isolation: nil))
                    #expect(second.redelivered)
                    let isEqual = try await Self.collect(second.body) == body
                    #expect(isEqual)
                    #expect(try second.ack() == .settled)
                }
                try await broker.waitUntil(depthOf: "q", is: 0)
            }
        }
    }
}
