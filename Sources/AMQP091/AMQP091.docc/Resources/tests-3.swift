import AMQP091
import AMQP091Testing
import Testing

@Suite struct OrderTests {
    static let topology = AMQPTopology { $0.queue("orders") }

    @Test func ordersAreDone() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(broker.configuration, topology: Self.topology) { client in
                try await client.withPublisher { publisher in
                    try await publisher.publish("a chair", to: .queue("orders"), mandatory: true)
                }
                try await broker.waitUntil(depthOf: "orders", is: 1)
            }
        }
    }
}
