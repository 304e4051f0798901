// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// GivenUpConsumeTests: consume-ok and cancel-ok that come late, out of order or for nobody, as RabbitMQ's queues send them.

@Suite("Consumers that are given up or answered out of order", .timeLimit(.minutes(1)))
struct GivenUpConsumeTests {
    static let declareOk = Method.queueDeclareOk(.init(queue: "q", messageCount: 0, consumerCount: 0))

    private static func answersDeclare(_ broker: ScriptedBroker, _ channel: AMQPChannel) async throws {
        async let queue = channel.declareQueue("q")
        try await broker.expect(Queue.Declare.self, on: 1)
        try broker.send(Self.declareOk, on: 1)
        _ = try await queue
    }

    @Test("A slow consume-ok holds up no other request, and comes after their replies")
    func slowConsumeOk() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let first = Task { try await channel.deliveries(from: "a", consumerTag: "a") }
            try await broker.expect(Basic.Consume.self, on: 1)
            let second = Task { try await channel.deliveries(from: "b", consumerTag: "b") }
            try await broker.expect(Basic.Consume.self, on: 1)
            try await Self.answersDeclare(broker, channel)
            try broker.send(.basicConsumeOk(.init(consumerTag: "b")), on: 1)
            let late = try await second.value
            let cancel = Task { try await channel.cancel(late) }
            try await broker.expect(Basic.Cancel.self, on: 1)
            try await Self.answersDeclare(broker, channel)
            try broker.send(.basicConsumeOk(.init(consumerTag: "a")), on: 1)
            try await Self.answersDeclare(broker, channel)
            try broker.send(.basicCancelOk(.init(consumerTag: "b")), on: 1)
            try await cancel.value
            #expect(try await first.value.consumerTag == "a")
            #expect(connection.isOpen)
        }
    }

    @Test("A delivery that comes before its consume-ok is its consumer's")
    func deliveryFirst() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let starting = Task { try await channel.deliveries(from: "q", consumerTag: "c") }
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.deliver("first", tag: 1, consumer: "c")
            try broker.send(
                .basicDeliver(.init(consumerTag: "c", deliveryTag: DeliveryTag(2), exchange: "", routingKey: "q")),
                on: 1,
                body: [UInt8](repeating: 65, count: 200_000)
            )
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            var iterator = try await starting.value.makeAsyncIterator()
            let first = try #require(try await iterator.next(isolation: nil))
            #expect(first.body.string == "first")
            let second = try #require(try await iterator.next(isolation: nil))
            #expect(second.body.count == 200_000)
        }
    }

    @Test("A given-up consume is cancelled after its consume-ok, and what it got goes back", arguments: [true, false])
    func givenUp(isCancelled: Bool) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let starting = Task {
                try await channel.deliveries(
                    from: "q",
                    consumerTag: "c",
                    timeout: isCancelled ? nil : .milliseconds(20)
                )
            }
            try await broker.expect(Basic.Consume.self, on: 1)
            if isCancelled { starting.cancel() }
            let error = await #expect(throws: AMQPError.self) { try await starting.value }
            #expect(error?.code == (isCancelled ? .cancelled : .timedOut))
            #expect(error?.isSafeToRetry == false)
            // A cancel before consume-ok would crash RabbitMQ 3.10's channel.
            try broker.deliver("early", tag: 1, consumer: "c")
            try await Self.answersDeclare(broker, channel)
            let inUse = await #expect(throws: AMQPError.self) {
                try await channel.deliveries(from: "q", consumerTag: "c")
            }
            #expect(inUse?.code == .invalidArgument)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            let cancel = try await broker.expect(Basic.Cancel.self, on: 1)
            #expect(cancel.consumerTag == "c" && !cancel.noWait)
            try broker.deliver("between", tag: 2, consumer: "c")
            try broker.send(.basicCancelOk(.init(consumerTag: "c")), on: 1)
            for tag in UInt64(1)...2 {
                let nack = try await broker.expect(Basic.Nack.self, on: 1)
                #expect(nack.deliveryTag == DeliveryTag(tag) && nack.requeue && !nack.multiple)
            }
            // The tag is free again.
            let again = Task { try await channel.deliveries(from: "q", consumerTag: "c") }
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            #expect(try await again.value.consumerTag == "c")
            #expect(connection.isOpen)
        }
    }

    @Test("Deliveries for a consumer that was given up do not stop reading, however many")
    func keepsReading() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.consumerBufferSize = 64 << 10
        try await ScriptedBroker.withChannel(configuration) { broker, _, channel in
            let starting = Task { try await channel.deliveries(from: "q", consumerTag: "c") }
            try await broker.expect(Basic.Consume.self, on: 1)
            starting.cancel()
            await #expect(throws: AMQPError.self) { try await starting.value }
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            try await broker.expect(Basic.Cancel.self, on: 1)
            let body = String(repeating: "x", count: 60_000)
            for tag in UInt64(1)...100 { try broker.deliver(body, tag: tag, consumer: "c") }
            try await Self.answersDeclare(broker, channel)
            try broker.send(.basicCancelOk(.init(consumerTag: "c")), on: 1)
            for tag in UInt64(1)...100 {
                #expect(try await broker.expect(Basic.Nack.self, on: 1).deliveryTag == DeliveryTag(tag))
            }
        }
    }

    @Test("A consume that waits behind a commit and is given up is not sent, and frees its tag")
    func unsent() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let transaction = Task { try await channel.withTransaction { _ in } }
            try await broker.expect(Tx.Select.self, on: 1)
            try broker.send(.txSelectOk(.init()), on: 1)
            try await broker.expect(Tx.Commit.self, on: 1)
            let error = await #expect(throws: AMQPError.self) {
                try await channel.deliveries(from: "q", consumerTag: "c", timeout: .milliseconds(20))
            }
            #expect(error?.code == .timedOut)
            #expect(error?.isSafeToRetry == true)
            let again = Task { try await channel.deliveries(from: "q", consumerTag: "c") }
            try broker.send(.txCommitOk(.init()), on: 1)
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            _ = try await again.value
            try await transaction.value
        }
    }

    @Test("consume-ok with a tag that was not asked for ends the connection, and the caller learns why")
    func otherTag() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let starting = Task { try await channel.deliveries(from: "q", consumerTag: "mine") }
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "other")), on: 1)
            let error = await #expect(throws: AMQPError.self) { try await starting.value }
            #expect(error?.code == .protocolViolation)
            #expect(error?.description.contains("'other'") == true)
            #expect(try await broker.expect(Connection.Close.self, on: 0).replyCode == .commandInvalid)
        }
    }

    @Test("A tag that both sides cancel is in use until cancel-ok, which ends no later consumer of that name")
    func crossingCancels() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let starting = Task { try await channel.deliveries(from: "q", consumerTag: "c") }
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            let deliveries = try await starting.value
            let cancels = (0..<2).map { _ in Task { try await channel.cancel(deliveries) } }
            try await broker.expect(Basic.Cancel.self, on: 1)
            try broker.send(.basicCancel(.init(consumerTag: "c", noWait: true)), on: 1)
            let ending = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(ending?.code == .consumerCancelled)
            // To the broker a consumer of that name would be a duplicate, or be ended by the cancel: 530.
            let early = await #expect(throws: AMQPError.self) {
                try await channel.deliveries(from: "other", consumerTag: "c")
            }
            #expect(early?.code == .invalidArgument)
            try broker.send(.basicCancelOk(.init(consumerTag: "c")), on: 1)
            for cancel in cancels { try await cancel.value }
            let again = Task { try await channel.deliveries(from: "other", consumerTag: "c") }
            // The second cancel was not sent: its consumer had ended by then.
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            try broker.deliver("for the new one", tag: 1, consumer: "c")
            var iterator = try await again.value.makeAsyncIterator()
            #expect(try await iterator.next(isolation: nil)?.body.string == "for the new one")
        }
    }

    @Test("A consumer that the broker cancels before its consume-ok starts and ends with the reason")
    func cancelledBeforeOk() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let starting = Task { try await channel.deliveries(from: "q", consumerTag: "c") }
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicCancel(.init(consumerTag: "c", noWait: true)), on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            let deliveries = try await starting.value
            let error = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(error?.code == .consumerCancelled)
            #expect(try await broker.expect(Basic.Cancel.self, on: 1).noWait)
            let again = Task { try await channel.deliveries(from: "q", consumerTag: "c") }
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            _ = try await again.value
        }
    }

    @Test("The cancel of a scope that times out is followed: what comes until cancel-ok goes back")
    func scopeTimesOut() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let consuming = Task {
                try await channel.consume("q", consumerTag: "c", timeout: .seconds(2)) { deliveries in
                    for try await _ in deliveries { break }
                }
            }
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "c")), on: 1)
            try broker.deliver("read", tag: 1, consumer: "c")
            try await broker.expect(Basic.Cancel.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await consuming.value }
            #expect(error?.code == .timedOut)
            try broker.deliver("late", tag: 2, consumer: "c")
            try broker.send(.basicCancelOk(.init(consumerTag: "c")), on: 1)
            #expect(try await broker.expect(Basic.Nack.self, on: 1).deliveryTag == DeliveryTag(2))
        }
    }
}
