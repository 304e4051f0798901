// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// OversizedBodyTests: bodies larger than maximumBodySize, in one frame and in many, and whoever would have got them. The
// broker allows them: its own limit is higher, as RabbitMQ's is.

@Suite("Oversized bodies", .timeLimit(.minutes(1)))
struct OversizedBodyTests {
    static let topology = AMQPTopology {
        $0.queue("dead")
        $0.queue("q", as: .classic(deadLetter: .queue("dead")))
    }

    /// Fits one frame, several, and several that another channel's frames lie between.
    static let sizes = [1001, 130_000, 1 << 20]

    static func configuration(
        _ broker: InProcessBroker,
        _ policy: AMQPOversizedDeliveryPolicy = .reject
    ) -> AMQPClientConfiguration {
        var configuration = AMQPClientTests.quick(broker)
        configuration.maximumBodySize = 1000
        configuration.oversizedDeliveries = policy
        return configuration
    }

    static func publish(_ sizes: [Int], to broker: InProcessBroker) async throws {
        let connection = try await broker.connect()
        try await connection.withPublisher { publisher in
            for size in sizes {
                let properties = BasicProperties(messageID: "\(size)")
                let message = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: size)), properties: properties)
                try await publisher.publish(message, to: .queue("q"))
            }
        }
        try await connection.close()
    }

    @Test("A body over the limit is dead-lettered, and its consumer continues", arguments: sizes)
    func rejected(_ size: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.configuration(broker), topology: Self.topology) { client in
                try await client.consume("q") { deliveries in
                    try await Self.publish([0, 1000, size, 999, size, 1], to: broker)
                    var seen: [Int] = []
                    for try await delivery in deliveries {
                        #expect(delivery.bodyError == nil)
                        seen.append(delivery.body.count)
                        try delivery.ack()
                        if seen.count == 4 { break }
                    }
                    #expect(seen == [0, 1000, 999, 1])
                }
                try await broker.waitUntil(depthOf: "dead", is: 2)
                #expect(await broker.queue("q")?.unacknowledged == 0)
                #expect(await broker.depth(of: "q") == 0)
                #expect(await broker.connections().count == 1)
            }
        }
    }

    @Test("A body over the limit is handed over without its octets where that is asked for", arguments: sizes)
    func delivered(_ size: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.configuration(broker, .deliver), topology: Self.topology) { client in
                try await client.consume("q") { deliveries in
                    try await Self.publish([10, size, 20], to: broker)
                    var seen: [(String?, Int)] = []
                    for try await delivery in deliveries {
                        seen.append((try delivery.properties().messageID, delivery.body.count))
                        #expect((delivery.bodyError?.code == .bodyTooLarge) == (seen.count == 2))
                        #expect(delivery.bodyError?.replyText.contains("\(size)") != false)
                        try delivery.ack()
                        if seen.count == 3 { break }
                    }
                    #expect(seen.map(\.0) == ["10", "\(size)", "20"])
                    #expect(seen.map(\.1) == [10, 0, 20])
                    try await Self.publish([size], to: broker)
                    for try await delivery in deliveries.streamed {
                        let error = await #expect(throws: AMQPError.self) { for try await _ in delivery.body {} }
                        #expect(error?.code == .bodyTooLarge)
                        try delivery.nack(requeue: false)
                        break
                    }
                }
                try await broker.waitUntil(depthOf: "dead", is: 1)
            }
        }
    }

    @Test("A consumer that acknowledges automatically misses the body over the limit alone", arguments: sizes)
    func automatic(_ size: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.configuration(broker), topology: Self.topology) { client in
                try await client.consume("q", acknowledgement: .automatic) { deliveries in
                    try await Self.publish([10, size, 20], to: broker)
                    var seen: [Int] = []
                    for try await delivery in deliveries {
                        seen.append(delivery.body.count)
                        if seen.count == 2 { break }
                    }
                    #expect(seen == [10, 20])
                }
            }
        }
    }

    @Test(
        "A get of a body over the limit throws, the message is dead-lettered, and the channel stays",
        arguments: sizes
    )
    func get(_ size: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await AMQPConnection.connect(Self.configuration(broker))
            #expect(try await connection.declare(Self.topology).isClean)
            try await Self.publish([size, 3], to: broker)
            try await connection.withChannel { channel in
                let error = await #expect(throws: AMQPError.self) { _ = try await channel.get("q") }
                #expect(error?.code == .bodyTooLarge)
                #expect(error?.scope == .operation)
                let next = try #require(try await channel.get("q"))
                #expect(next.body.count == 3)
                try next.ack()
            }
            try await broker.waitUntil(depthOf: "dead", is: 1)
            try await connection.close()
        }
    }

    @Test("A reply over the limit fails its call, and the next call is answered", arguments: sizes)
    func reply(_ size: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            let setUp = try await broker.connect()
            #expect(try await setUp.declare(Self.topology).isClean)
            let server = Task {
                try await setUp.serveRPC("q") { request in
                    AMQPMessage(AMQPBody([UInt8](repeating: 1, count: Int(request.body.string) ?? 0)))
                }
            }
            try await AMQPClient.withClient(Self.configuration(broker)) { client in
                try await client.withRPCClient { (rpc) async throws in
                    let error = await #expect(throws: AMQPError.self) {
                        _ = try await rpc.call("\(size)", to: .queue("q"))
                    }
                    #expect(error?.code == .bodyTooLarge)
                    let reply = try await rpc.call("1000", to: .queue("q"))
                    #expect(reply.body.count == 1000)
                }
            }
            server.cancel()
            _ = await server.result
            try await setUp.close()
        }
    }

    @Test(
        "C13: a body of any announced size is read past without room for it",
        arguments: [UInt64(1) << 32, 1 << 40, .max]
    )
    func absurd(_ size: UInt64) async throws {
        try await ConsumeDialogueTests.withConsumer { broker, _, deliveries, tag in
            let deliver = Basic.Deliver(
                consumerTag: tag,
                deliveryTag: DeliveryTag(1),
                redelivered: false,
                exchange: "",
                routingKey: "q"
            )
            var octets = try ScriptedBroker.octets(of: .basicDeliver(deliver), body: [1, 2, 3], on: 1)
            let method = Int(octets[3]) << 24 | Int(octets[4]) << 16 | Int(octets[5]) << 8 | Int(octets[6])
            // The method's frame, the header's frame header, class and weight stand before the body size.
            let offset = method + 8 + 7 + 4
            for index in 0..<8 { octets[offset + index] = UInt8(truncatingIfNeeded: size >> UInt64(56 - 8 * index)) }
            broker.sendRaw(octets)
            // The rest never comes: the end of the channel cuts it short.
            let close = Channel.Close(replyCode: .preconditionFailed, replyText: "no", classID: 0, methodID: 0)
            try broker.send(.channelClose(close), on: 1)
            let error = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(error?.replyCode == .preconditionFailed)
        }
    }
}
