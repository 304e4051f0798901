// SPDX-License-Identifier: Apache-2.0
import AMQP091Conformance
import AMQP091Testing
import Testing

// OtherClientTests: clients of other languages find in the in-process broker what they find in the RabbitMQ it imitates.
// IntegrationTests run the same checks against RabbitMQ.

@Suite(
    "In-process broker, seen by other clients",
    .enabled(if: !OtherClient.asked.isEmpty, "AMQP091_TEST_OTHER_CLIENTS names no client"),
    .serialized,
    .timeLimit(.minutes(3))
)
struct OtherClientTests {
    @Test("Every check of another client passes", arguments: OtherClient.asked, ConformanceTests.versions)
    func checks(client: OtherClient, version: InProcessBroker.RabbitMQVersion) async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(version)) { broker in
            let result = try await client.run(host: "127.0.0.1", port: try #require(broker.port))
            #expect(result.status == 0, "\(result.output)")
        }
    }
}
