// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// SettleDialogueTests: the frames in which settlements reach the broker, alone and among transactions and recover.

@Suite("Settle", .timeLimit(.minutes(1)))
struct SettleDialogueTests {
    /// Runs `body` with some deliveries of one consumer.
    static func withDeliveries(
        _ count: UInt64,
        _ body: (ScriptedBroker, AMQPChannel, [AMQPDelivery]) async throws -> Void
    ) async throws {
        try await ConsumeDialogueTests.withConsumer { broker, channel, deliveries, tag in
            try broker.coalescing {
                for number in 1...count { try broker.deliver("m\(number)", tag: number, consumer: tag) }
            }
            var iterator = deliveries.makeAsyncIterator()
            var taken: [AMQPDelivery] = []
            for _ in 1...count { taken.append(try #require(try await iterator.next(isolation: nil))) }
            try await body(broker, channel, taken)
        }
    }

    static func expectAck(_ broker: ScriptedBroker, _ tag: UInt64, multiple: Bool = false) async throws {
        #expect(try await broker.expect(Basic.Ack.self) == .init(deliveryTag: DeliveryTag(tag), multiple: multiple))
    }

    static func expectNack(_ broker: ScriptedBroker, _ tag: UInt64, multiple: Bool = false, requeue: Bool) async throws
    {
        let nack = try await broker.expect(Basic.Nack.self)
        #expect(nack == .init(deliveryTag: DeliveryTag(tag), multiple: multiple, requeue: requeue))
    }

    @Test("A nack with multiple refuses what is unsettled, and acknowledges nothing that was not")
    func multiple() async throws {
        try await Self.withDeliveries(5) { broker, _, deliveries in
            try deliveries[1].ack()
            try deliveries[2].ack()
            try deliveries[3].nack(requeue: false, multiple: true)
            try deliveries[4].ack()
            // The first two may have left before the others were given: then one frame each, as here.
            try await Self.expectAck(broker, 2)
            try await Self.expectAck(broker, 3)
            try await Self.expectNack(broker, 4, multiple: true, requeue: false)
            try await Self.expectAck(broker, 5)
        }
    }

    @Test("A nack with multiple on a settled delivery names the last unsettled one before it")
    func multipleOnSettled() async throws {
        try await Self.withDeliveries(3) { broker, _, deliveries in
            try deliveries[2].ack()
            try deliveries[2].nack(requeue: true, multiple: true)
            #expect(throws: AMQPError.self) { try deliveries[2].nack(multiple: true) }
            try await Self.expectAck(broker, 3)
            try await Self.expectNack(broker, 2, multiple: true, requeue: true)
        }
    }

    @Test("What is settled while the broker commits follows commit-ok in the order of the calls")
    func commit() async throws {
        try await Self.withDeliveries(4) { broker, channel, deliveries in
            async let transaction: Void = channel.withTransaction { _ in }
            try await broker.expect(Tx.Select.self)
            try broker.send(.txSelectOk(.init()), on: 1)
            try await broker.expect(Tx.Commit.self)
            try deliveries[1].ack()
            try deliveries[2].nack(requeue: false, multiple: true)
            try deliveries[3].ack()
            try broker.send(.txCommitOk(.init()), on: 1)
            try await Self.expectAck(broker, 2)
            try await Self.expectNack(broker, 3, multiple: true, requeue: false)
            try await Self.expectAck(broker, 4)
            try await transaction
        }
    }

    @Test("A rollback sends back what the transaction settled before what was settled meanwhile, and commits that")
    func rollback() async throws {
        struct Odd: Error {}
        try await Self.withDeliveries(4) { broker, channel, deliveries in
            let transaction = Task {
                try await channel.withTransaction { _ in
                    try deliveries[0].ack()
                    try deliveries[1].nack(requeue: false)
                    throw Odd()
                }
            }
            try await broker.expect(Tx.Select.self)
            try broker.send(.txSelectOk(.init()), on: 1)
            try await Self.expectAck(broker, 1)
            try await Self.expectNack(broker, 2, requeue: false)
            try await broker.expect(Tx.Rollback.self)
            try deliveries[3].nack(requeue: false, multiple: true)
            try broker.send(.txRollbackOk(.init()), on: 1)
            try await Self.expectNack(broker, 1, requeue: true)
            try await Self.expectNack(broker, 2, requeue: true)
            try await Self.expectNack(broker, 4, multiple: true, requeue: false)
            try await broker.expect(Tx.Commit.self)
            try broker.send(.txCommitOk(.init()), on: 1)
            await #expect(throws: Odd.self) { try await transaction.value }
        }
    }

    @Test("While the broker takes deliveries back, settling one says so and sends nothing")
    func recover() async throws {
        try await Self.withDeliveries(3) { broker, channel, deliveries in
            try deliveries[0].ack()
            try await Self.expectAck(broker, 1)
            async let recovering: Void = channel.recover()
            try await broker.expect(Basic.Recover.self)
            for delivery in deliveries {
                #expect(#expect(throws: AMQPError.self) { try delivery.ack() }?.code == .alreadySettled)
                #expect(#expect(throws: AMQPError.self) { try delivery.nack(multiple: true) }?.code == .alreadySettled)
            }
            try broker.send(.basicRecoverOk(.init()), on: 1)
            try await recovering
            #expect(throws: AMQPError.self) { try deliveries[2].ack() }
            async let got = channel.get("q")
            try await broker.expect(Basic.Get.self)
            let ok = Basic.GetOk(
                deliveryTag: DeliveryTag(4),
                redelivered: true,
                exchange: "",
                routingKey: "q",
                messageCount: 0
            )
            try broker.send(.basicGetOk(ok), on: 1, body: [1])
            try await got?.ack()
            try await Self.expectAck(broker, 4)
        }
    }

    @Test("After connection.close was sent, settling says so and sends nothing")
    func closingConnection() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let starting = channel.deliveries(from: "orders")
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            var iterator = try await starting.makeAsyncIterator()
            try broker.deliver("m", tag: 1, consumer: tag)
            let delivery = try #require(try await iterator.next(isolation: nil))
            #expect(channel.isOpen)
            async let closing: Void = connection.close()
            try await broker.expect(Connection.Close.self)
            #expect(!channel.isOpen && !connection.isOpen)
            let error = #expect(throws: AMQPError.self) { try delivery.ack() }
            #expect(error?.code == .connectionClosed)
            #expect(error?.isSafeToRetry == true)
            try broker.send(.connectionCloseOk(.init()))
            try await closing
        }
    }
}
