// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Conformance
import Testing

// OtherClientTests: what the in-process broker is compared with.

@Suite(
    "RabbitMQ, seen by other clients",
    .enabled(if: TestBroker.uri != nil && !OtherClient.asked.isEmpty, "AMQP091_TEST_OTHER_CLIENTS names no client"),
    .timeLimit(.minutes(3))
)
struct OtherClientTests {
    @Test("Every check of another client passes", arguments: OtherClient.asked)
    func checks(client: OtherClient) async throws {
        let address = try AMQPURI(try #require(TestBroker.uri))
        let result = try await client.run(host: address.host, port: address.port)
        #expect(result.status == 0, "\(result.output)")
    }
}
