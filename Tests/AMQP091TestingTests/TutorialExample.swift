// SPDX-License-Identifier: Apache-2.0
// TutorialExample: the tests at the end of the tutorial "Test it without RabbitMQ", as they stand there.
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
                try await client.consume("orders") { deliveries in
                    for try await delivery in deliveries {
                        #expect(delivery.body.string == "a chair")
                        guard delivery.redelivered else {
                            await broker.dropConnections("a cut cable")
                            continue
                        }
                        #expect(try delivery.ack() == .settled)
                        break
                    }
                }
                try await broker.waitUntil(depthOf: "orders", is: 0)
            }
        }
    }

    @Test func refusedOrdersAreTold() async throws {
        try await InProcessBroker.withBroker { broker in
            await broker.confirm(.nackNext(1))
            try await AMQPClient.withClient(broker.configuration, topology: Self.topology) { client in
                try await client.withPublisher { publisher in
                    let error = await #expect(throws: AMQPError.self) {
                        try await publisher.publish("a chair", to: .queue("orders"))
                    }
                    #expect(error?.code == .nacked)
                }
            }
        }
    }
}
