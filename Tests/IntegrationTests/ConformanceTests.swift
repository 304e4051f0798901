// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Conformance
import Testing

// The cases of AMQP091Conformance against RabbitMQ: what they expect of the in-process broker is what RabbitMQ does. The
// release of the broker chooses the cases.

@Suite("Conformance of RabbitMQ", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct RabbitMQConformanceTests {
    private static func cases<Case>(_ cases: (ConformanceSubject) -> [Case]) async throws -> [Case] {
        guard let uri = TestBroker.uri else { return [] }
        return cases(try await ConformanceSubject(asking: try AMQPClientConfiguration(uri: uri)))
    }

    @Test("A request is refused with RabbitMQ's code and text", arguments: try await cases(RefusalCase.cases))
    func refusal(_ row: RefusalCase) async throws {
        let configuration = try AMQPClientConfiguration(uri: try #require(TestBroker.uri))
        let difference = try await row.run(configuration)
        #expect(difference == nil)
    }

    @Test("RabbitMQ does what the cases say", arguments: try await cases(BehaviourCase.cases))
    func behaviour(_ row: BehaviourCase) async throws {
        try await row.run(try AMQPClientConfiguration(uri: try #require(TestBroker.uri)))
    }
}
