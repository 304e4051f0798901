// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollNetworking
import Testing

// ReleaseTests: a connection and its buffers go with their last owner, whatever ended the channels.

@Suite("Release", .timeLimit(.minutes(1)))
struct ReleaseTests {
    /// A step on which the broker closes the channel.
    static let steps: [MethodID] = [
        .basicConsume, .queueDeclare, .basicGet, .confirmSelect, .basicPublish, .basicCancel,
    ]

    @Test(
        "A connection is released after the broker closed its channel, whatever the channel waited for",
        arguments: steps
    )
    func closedChannel(_ step: MethodID) async throws {
        try await InProcessBroker.withBroker { broker in
            let released = Released(try await broker.connect())
            await broker.onNext(step, .refuse(.preconditionFailed, "on order"))
            await #expect(throws: AMQPError.self) {
                try await released.connection?.withChannel { channel in
                    try await channel.declareQueue("q")
                    try await channel.enableConfirms()
                    _ = try await channel.get("q")
                    let deliveries = try await channel.deliveries(from: "q")
                    try await channel.publishAndConfirm("m", to: .queue("q"))
                    try await channel.cancel(deliveries)
                }
            }
            try await released.connection?.close()
            released.connection = nil
            // Its loop may hold it for another turn.
            for _ in 0..<2000 where released.driver != nil {
                try await EventLoopGroup.shared.next().sleep(for: .milliseconds(1))
            }
            #expect(released.driver == nil)
        }
    }

    /// A connection, and whether its driver is still there.
    private final class Released {
        var connection: AMQPConnection?
        weak var driver: ConnectionDriver?

        init(_ connection: AMQPConnection) {
            self.connection = connection
            self.driver = connection.driver
        }
    }
}
