// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import EpollConcurrency
import EpollNetworking
import Testing

// BinaryNamesTests: ids and routing keys that are not UTF-8 pass a server of requests and a forwarder unchanged.

@Suite("Ids and routing keys of any octets", .timeLimit(.minutes(1)))
struct BinaryNamesTests {
    static let ids: [[UInt8]] = [
        [0xFF, 0xFE, 0x00, 0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        Array(repeating: 0xFF, count: 200),
        Array(repeating: 0xC0, count: 255),
    ]

    @Test("A reply has its request's correlation id octet for octet", arguments: ids, [true, false])
    func rpc(_ id: [UInt8], _ isClient: Bool) async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            try await connection.withChannel { channel in
                _ = try await channel.declareQueue("rpc")
                let replies = try await channel.declareQueue(exclusive: true).name
                let handled = Locked(0)
                let client = AMQPClient(AMQPClientTests.quick(broker))
                let running = Task { try await client.run() }
                let server = Task {
                    let handler: @Sendable (AMQPDelivery) async throws -> AMQPMessage = { _ in
                        handled.withLock { $0 += 1 }
                        return "reply"
                    }
                    if isClient {
                        try await client.serveRPC("rpc", handler)
                    } else {
                        try await connection.serveRPC("rpc", handler)
                    }
                }
                var properties = BasicProperties(replyTo: replies)
                properties.setOctets(id, of: .correlationID)
                try await channel.publish(AMQPMessage("request", properties: properties), to: .queue("rpc"))
                try await broker.waitUntil(depthOf: replies, is: 1)
                let reply = try #require(try await channel.get(replies, acknowledgement: .automatic))
                #expect(try reply.properties().octets(of: .correlationID) == id)
                try await broker.waitUntil(queue: "rpc") { $0?.unacknowledged == 0 && $0?.ready == 0 }
                #expect(handled.withLock { $0 } == 1)
                server.cancel()
                _ = await server.result
                await client.shutdown()
                try await running.value
            }
            try await connection.close()
        }
    }

    @Test("A message is forwarded octet for octet", arguments: ids)
    func forwarded(_ id: [UInt8]) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    for queue in ["a", "b"] { _ = try await channel.declareQueue(queue) }
                    try await channel.bindQueue("a", to: "amq.fanout")
                    var properties = BasicProperties(headers: ["n": 1])
                    for property in BasicProperties.TextProperty.allCases
                    where ![.expiration, .userID].contains(property) {
                        properties.setOctets(id, of: property)
                    }
                    let destination = AMQPDestination(exchange: "amq.fanout", routingKeyOctets: id)
                    try await channel.publish(AMQPMessage("m", properties: properties), to: destination)
                    for _ in 0..<2 {
                        let delivery = try #require(try await channel.get("a", acknowledgement: .automatic))
                        #expect(delivery.routingKeyOctets == id)
                        #expect(delivery.routingKey == String(decoding: id, as: UTF8.self))
                        let found = try delivery.properties()
                        #expect(found == properties)
                        let message = AMQPMessage(delivery.body.copy(), properties: found)
                        try await channel.publish(message, to: delivery.destination)
                    }
                    let streamed = try await channel.deliveries(from: "a")
                    for try await delivery in streamed {
                        #expect(delivery.destination == destination)
                        try delivery.ack()
                        break
                    }
                }
            }
        }
    }

    @Test("A returned message with a routing key of any octets is told by its publish", arguments: ids)
    func returned(_ id: [UInt8]) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withPublisher { publisher in
                    let destination = AMQPDestination(exchange: "amq.direct", routingKeyOctets: id)
                    let error = await #expect(throws: AMQPError.self) {
                        try await publisher.publish("m", to: destination, mandatory: true)
                    }
                    #expect(error?.code == .returned)
                }
            }
        }
    }

    @Test("Setting the text of a routing key replaces its octets")
    func text() {
        var destination = AMQPDestination(exchange: "e", routingKeyOctets: [0xFF])
        #expect(destination.routingKey == "\u{FFFD}")
        destination.routingKey = "\u{FFFD}"
        #expect(destination == .exchange("e", routingKey: "\u{FFFD}"))
        #expect(destination.routingKeyOctets == [0xEF, 0xBF, 0xBD])
    }
}
