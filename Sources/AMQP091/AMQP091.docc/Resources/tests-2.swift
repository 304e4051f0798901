import AMQP091
import AMQP091Testing
import Testing

@Suite struct OrderTests {
    static let topology = AMQPTopology { $0.queue("orders") }

    @Test func ordersAreDone() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(broker.configuration, topology: Self.topology) { client in
                try await client.withChannel { _ in }
                #expect(await broker.connections().count == 1)
            }
        }
    }
}
