// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Conformance
import AMQP091Testing
import EpollConcurrency
import EpollNetworking
import Testing

// The storms of AMQP091Conformance against the in-process broker; IntegrationTests runs the same ones against RabbitMQ.

@Suite("Storms on the in-process broker", .serialized, .timeLimit(.minutes(60)))
struct StormTests {
    @Test("Random calls of four tasks on one channel lose no connection, and the queues match the account")
    func calls() async throws {
        let failures = await StormSize.run(StormSize.storms) { seed in
            try await InProcessBroker.withBroker { try await CallStorm.run($0.configuration, seed: seed) }
        }
        #expect(failures == [])
    }

    @Test("The broker's account of random settlements is the application's")
    func settlements() async throws {
        let round = min(1000, StormSize.settlements)
        try await InProcessBroker.withBroker { broker in
            let failures = await StormSize.run(max(1, StormSize.settlements / round)) {
                _ = try await SettlementStorm.run(broker.configuration, seed: $0, messages: round)
            }
            #expect(failures == [])
        }
    }

    @Test("Mandatory publishes with one key: confirmed ones are in the queue and returned ones are not")
    func returns() async throws {
        let round = min(1000, StormSize.returns)
        let sum = Locked(ReturnStorm.Result())
        try await InProcessBroker.withBroker { broker in
            let failures = await StormSize.run(max(1, StormSize.returns / round)) {
                let result = try await ReturnStorm.run(broker.configuration, seed: $0, publishes: round)
                sum.withLock { $0.add(result) }
            }
            #expect(failures == [])
            #expect(sum.withLock { $0.confirmed > 0 && $0.returned > 0 }, "the binding did not come and go")
        }
    }
}
