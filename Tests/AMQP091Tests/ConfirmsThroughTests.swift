// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

@Suite("Confirms through a number", .timeLimit(.minutes(1)))
struct ConfirmsThroughTests {
    /// A channel with confirms and the queue `q`.
    static func withChannel(
        _ broker: InProcessBroker,
        _ body: (AMQPChannel) async throws -> Void
    ) async throws {
        try await AMQPConnection.withConnection(broker.configuration) { connection in
            try await connection.withChannel { channel in
                try await channel.declareQueue("q", durable: true)
                try await channel.enableConfirms()
                try await body(channel)
            }
        }
    }

    @Test("A wait ends when its publish is confirmed, though later ones are not")
    func through() async throws {
        try await InProcessBroker.withBroker { broker in
            try await Self.withChannel(broker) { channel in
                for _ in 0..<3 { try await channel.publish("1", to: .queue("q")) }
                try await channel.waitForConfirms(through: 3)
                #expect(channel.confirmCounts.confirmed == 3)
                await broker.confirm(.hold)
                try await channel.publish("4", to: .queue("q"))
                try await channel.waitForConfirms(through: 3)
                let error = await #expect(throws: AMQPError.self) {
                    try await channel.waitForConfirms(through: 4, timeout: .milliseconds(20))
                }
                #expect(error?.code == .timedOut)
                await broker.confirm(.release)
                try await channel.waitForConfirms(through: 4)
            }
        }
    }

    @Test("A number that is still to be published is waited for")
    func ahead() async throws {
        try await InProcessBroker.withBroker { broker in
            try await Self.withChannel(broker) { channel in
                async let wait: Void = channel.waitForConfirms(through: 2)
                try await channel.publish("1", to: .queue("q"))
                try await channel.publish("2", to: .queue("q"))
                try await wait
                #expect(channel.confirmCounts.confirmed == 2)
            }
        }
    }

    @Test("Without confirms, and after the end of the channel, the wait fails with the reason")
    func refused() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                let channel = try await connection.openChannel()
                let off = await #expect(throws: AMQPError.self) { try await channel.waitForConfirms(through: 1) }
                #expect(off?.code == .invalidArgument)
                try await channel.enableConfirms()
                try await channel.close()
                let closed = await #expect(throws: AMQPError.self) { try await channel.waitForConfirms(through: 1) }
                #expect(closed?.code == .channelClosed)
            }
        }
    }
}
