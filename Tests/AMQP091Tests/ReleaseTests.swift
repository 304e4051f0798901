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

    /// Frames that the broker sends in one write with a delivery.
    enum Ending: CaseIterable {
        case close
        case violation
        /// A body in frames of which the last never comes, and that nobody reads.
        case unfinishedBody
    }

    @Test("A connection is released after an end in one read with a delivery nobody takes", arguments: Ending.allCases)
    func endedBehindDelivery(_ ending: Ending) async throws {
        weak var driver: ConnectionSession?
        try await ScriptedBroker.withChannel { broker, connection, channel in
            driver = connection.driver
            async let starting = channel.deliveries(from: "orders")
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            let deliveries = try await starting
            let deliver = Basic.Deliver(consumerTag: tag, deliveryTag: DeliveryTag(2), exchange: "", routingKey: "k")
            if case .unfinishedBody = ending {
                let body = [UInt8](repeating: 7, count: 400_000)
                let octets = try ScriptedBroker.octets(of: .basicDeliver(deliver), body: body, on: 1).prefix(300_000)
                broker.send(Array(octets), cutAfter: octets.count, "a delivery")
                broker.finish()
            } else {
                try broker.coalescing {
                    try broker.deliver("m", tag: 1, consumer: tag)
                    try broker.send(
                        ending == .close
                            ? .connectionClose(.init(replyCode: .connectionForced, replyText: "on order"))
                            : .queuePurgeOk(.init(messageCount: 0))
                    )
                }
                switch ending {
                case .close: try await broker.expect(Connection.CloseOk.self)
                default: try await broker.expect(Connection.Close.self)
                }
                broker.drop()
            }
            _ = try await connection.waitUntilClosed()
            withExtendedLifetime(deliveries) {}
        }
        for _ in 0..<2000 where driver != nil {
            try await EventLoopGroup.shared.next().sleep(for: .milliseconds(1))
        }
        #expect(driver == nil)
    }

    /// A connection, and whether its driver is still there.
    private final class Released {
        var connection: AMQPConnection?
        weak var driver: ConnectionSession?

        init(_ connection: AMQPConnection) {
            self.connection = connection
            self.driver = connection.driver
        }
    }
}
