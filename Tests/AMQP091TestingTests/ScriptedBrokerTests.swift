// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// ScriptedBrokerTests: the scripted broker itself: what it says when the client does not keep to the script.

@Suite("Scripted broker", .timeLimit(.minutes(1)))
struct ScriptedBrokerTests {
    @Test("A failed expectation names what was expected, what came, and the dialogue, without credentials")
    func failureText() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let declared = channel.declareQueue("orders")
            let failure = await #expect(throws: ScriptFailure.self) {
                try await broker.expect(Queue.Delete.self, on: 1)
            }
            let text = try #require(failure).description
            #expect(text.contains("expected Delete on channel 1, found 1: queue.declare(queue: \"orders\")"))
            #expect(text.contains("client -> 0: connection.start-ok(credentials)"))
            #expect(text.contains("broker <- 1: channel.open-ok"))
            #expect(!text.contains("guest"))
            broker.drop()
            _ = try? await declared
        }
    }

    @Test("An expectation ends at its deadline")
    func patience() async throws {
        try await ScriptedBroker.withBroker(patience: .milliseconds(20)) { broker in
            let failure = await #expect(throws: ScriptFailure.self) { try await broker.expectProtocolHeader() }
            #expect(failure?.found == "nothing for 0.02 seconds")
        }
    }

    @Test("A cancelled expectation ends at once")
    func cancellation() async throws {
        try await ScriptedBroker.withBroker { broker in
            let waiting = Task { try await broker.expectProtocolHeader() }
            waiting.cancel()
            await #expect(throws: ScriptFailure.self) { try await waiting.value }
        }
    }
}
