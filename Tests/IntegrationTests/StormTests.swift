// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Conformance
import Synchronization
import Testing

// The storms of AMQP091Conformance against RabbitMQ: seconds, or as long as AMQP091_STORMS, AMQP091_SETTLEMENTS and
// AMQP091_RETURNS say. A failure prints its seed, for AMQP091_STORM_SEED.

@Suite(
    "Storms on RabbitMQ",
    .serialized,
    .enabled(if: TestBroker.uri != nil, TestBroker.isMissing),
    .timeLimit(.minutes(240))
)
struct StormTests {
    private static func configuration() throws -> AMQPClientConfiguration {
        try AMQPClientConfiguration(uri: try #require(TestBroker.uri))
    }

    @Test("Random calls of four tasks on one channel lose no connection, and the queues match the account")
    func calls() async throws {
        let configuration = try Self.configuration()
        let failures = await StormSize.run(StormSize.storms) { try await CallStorm.run(configuration, seed: $0) }
        #expect(failures == [])
    }

    @Test("The broker's account of random settlements is the application's", arguments: ["classic", "quorum"])
    func settlements(queueType: String) async throws {
        let configuration = try Self.configuration()
        let round = min(2000, StormSize.settlements)
        let failures = await StormSize.run(max(1, StormSize.settlements / 2 / round)) {
            _ = try await SettlementStorm.run(configuration, seed: $0, messages: round, queueType: queueType)
        }
        #expect(failures == [])
    }

    @Test("Mandatory publishes with one key: confirmed ones are in the queue and returned ones are not")
    func returns() async throws {
        let configuration = try Self.configuration()
        let round = min(2000, StormSize.returns)
        let sum = Mutex(ReturnStorm.Result())
        let failures = await StormSize.run(max(1, StormSize.returns / round)) {
            let result = try await ReturnStorm.run(configuration, seed: $0, publishes: round)
            sum.withLock { $0.add(result) }
        }
        #expect(failures == [])
        #expect(sum.withLock { $0.confirmed > 0 && $0.returned > 0 }, "the binding did not come and go")
    }
}
