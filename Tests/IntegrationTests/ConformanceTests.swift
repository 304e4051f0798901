// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Conformance
import Testing

// The cases of AMQP091Conformance against RabbitMQ: what they expect of the in-process broker is what RabbitMQ does.

@Suite("Conformance of RabbitMQ", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct RabbitMQConformanceTests {
    @Test("A request is refused with RabbitMQ's code and text", arguments: RefusalCase.all)
    func refusal(_ row: RefusalCase) async throws {
        let configuration = try AMQPClientConfiguration(uri: try #require(TestBroker.uri))
        let difference = try await row.run(configuration)
        #expect(difference == nil)
    }

    @Test("RabbitMQ does what the cases say", arguments: BehaviourCase.all)
    func behaviour(_ row: BehaviourCase) async throws {
        try await row.run(try AMQPClientConfiguration(uri: try #require(TestBroker.uri)))
    }
}
