// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// ScriptedBrokerTests: the scripted broker itself: what it says when the client does not keep to the script.

@Suite("Scripted broker", .timeLimit(.minutes(1)))
struct ScriptedBrokerTests {
    @Test("A failed expectation shows the expected and the actual event, and the dialogue, without credentials")
    func failureText() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let declared = channel.declareQueue("orders")
            let failure = await #expect(throws: ScriptFailure.self) {
                try await broker.expect(Queue.Delete.self, on: 1)
            }
            let text = try #require(failure).description
            #expect(text.contains("expected Delete on channel 1, found 1: queue.declare(queue: \"orders\""))
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

    @Test("Writes split at every size, coalesced or unchanged are equal to a client", arguments: 0..<12)
    func pieces(size: Int) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let starting = channel.deliveries(from: "q", acknowledgement: .automatic)
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            var iterator = try await starting.makeAsyncIterator()
            if size > 0 { broker.splitWrites(every: size) }
            try broker.coalescing {
                for number: UInt64 in 1...3 { try broker.deliver("body \(number)", tag: number, consumer: tag) }
                broker.sendHeartbeat()
            }
            for number in 1...3 {
                #expect(try await iterator.next(isolation: nil)?.body.string == "body \(number)")
            }
        }
    }

    @Test("Malformed octets, silence and the end of the link are injected at any step of the dialogue")
    func faults() async throws {
        let faults: [@Sendable (ScriptedBroker) throws -> Void] = [
            { $0.sendRaw([1, 0, 1, 0, 0, 0, 4, 0, 20, 0, 11, 0]) },  // a wrong frame end
            { $0.sendRaw([3, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF]) },  // a frame of 2 GiB
            { try $0.sendBeginning(of: .channelOpenOk(.init()), on: 1, count: 5) },
            { try $0.ack(1) },  // a confirm of nothing
            { $0.finish() }, { $0.drop() },
        ]
        for fault in faults {
            try await ScriptedBroker.withChannel { broker, connection, channel in
                async let declared = channel.declareQueue("q")
                try await broker.expect(Queue.Declare.self, on: 1)
                try fault(broker)
                broker.finish()
                // Each ends the request and the connection with an error, and none with a trap.
                let failure: (any Error)?
                do {
                    _ = try await declared
                    failure = nil
                } catch {
                    failure = error
                }
                #expect((failure as? AMQPError)?.scope == .connection)
                #expect(!connection.isOpen)
            }
        }
    }
}
