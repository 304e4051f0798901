// SPDX-License-Identifier: Apache-2.0
import AMQP091Conformance
import AMQP091Testing
import Testing

// ConformanceTests: the cases of AMQP091Conformance against the in-process broker. IntegrationTests runs the same ones
// against RabbitMQ.

@Suite("Conformance of the in-process broker", .timeLimit(.minutes(1)))
struct ConformanceTests {
    @Test("A request is refused with RabbitMQ's code and text", arguments: RefusalCase.all)
    func refusal(_ row: RefusalCase) async throws {
        try await InProcessBroker.withBroker { broker in
            let difference = try await row.run(broker.configuration)
            #expect(difference == nil)
        }
    }

    @Test("It does what RabbitMQ does", arguments: BehaviourCase.all)
    func behaviour(_ row: BehaviourCase) async throws {
        try await InProcessBroker.withBroker { broker in try await row.run(broker.configuration) }
    }
}
