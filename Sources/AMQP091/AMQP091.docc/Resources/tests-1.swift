import AMQP091
import AMQP091Testing
import Testing

@Suite struct OrderTests {
    @Test func ordersAreDone() async throws {
        try await InProcessBroker.withBroker { broker in
            #expect(await broker.connections().isEmpty)
        }
    }
}
