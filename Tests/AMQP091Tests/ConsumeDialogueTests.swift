// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// ConsumeDialogueTests: consumers from consume to cancel, deliveries whole and in pieces, settling, and basic.get.

@Suite("Consume", .timeLimit(.minutes(1)))
struct ConsumeDialogueTests {
    /// Runs `body` with a consumer that has started, and its tag.
    static func withConsumer(
        _ acknowledgement: AMQPAcknowledgement = .manual,
        _ body: (ScriptedBroker, AMQPChannel, AMQPDeliveries, String) async throws -> Void
    ) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let starting = channel.deliveries(from: "orders", acknowledgement: acknowledgement)
            let consume = try await broker.expect(Basic.Consume.self, on: 1)
            #expect(consume.queue == "orders")
            #expect(consume.noAck == (acknowledgement == .automatic))
            try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
            try await body(broker, channel, try await starting, consume.consumerTag)
        }
    }

    @Test("Deliveries that come in the same read as consume-ok are not missed")
    func sameRead() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let starting = channel.deliveries(from: "orders")
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.coalescing {
                try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
                for number: UInt64 in 1...3 { try broker.deliver("m\(number)", tag: number, consumer: tag) }
            }
            var iterator = try await starting.makeAsyncIterator()
            for number: UInt64 in 1...3 {
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect(delivery.body.string == "m\(number)")
                #expect(delivery.deliveryTag == DeliveryTag(number))
            }
        }
    }

    @Test("A loop that is left in the middle is continued by the next, and not by a concurrent one")
    func loopAfterLoop() async throws {
        try await Self.withConsumer { broker, _, deliveries, tag in
            try broker.coalescing {
                for number: UInt64 in 1...5 { try broker.deliver("m", tag: number, consumer: tag) }
            }
            var seen: [UInt64] = []
            for end in [2, 3, 5] as [UInt64] {
                for try await delivery in deliveries {
                    seen.append(delivery.deliveryTag.rawValue)
                    if seen.last == end { break }
                }
            }
            #expect(seen == [1, 2, 3, 4, 5])

            try broker.coalescing {
                for number: UInt64 in 6...7 { try broker.deliver("m", tag: number, consumer: tag) }
            }
            var first = deliveries.makeAsyncIterator()
            #expect(try await first.next(isolation: nil)?.deliveryTag == DeliveryTag(6))
            try broker.deliver("m", tag: 8, consumer: tag)
            var second = deliveries.makeAsyncIterator()
            #expect(try await second.next(isolation: nil)?.deliveryTag == DeliveryTag(8))
            #expect(try await first.next(isolation: nil)?.deliveryTag == DeliveryTag(7))
        }
    }

    @Test("A delivery cut at any octet is the same delivery")
    func cutAnywhere() async throws {
        try await Self.withConsumer(.automatic) { broker, _, deliveries, tag in
            var iterator = deliveries.makeAsyncIterator()
            let deliver = Basic.Deliver(
                consumerTag: tag,
                deliveryTag: DeliveryTag(1),
                redelivered: true,
                exchange: "logs",
                routingKey: "info"
            )
            let properties = BasicProperties(headers: ["n": 1], messageID: "id")
            let octets = try ScriptedBroker.octets(
                of: .basicDeliver(deliver),
                properties: properties,
                body: Array("hello".utf8),
                on: 1
            )
            for cut in 1..<octets.count {
                broker.send(octets, cutAfter: cut, "basic.deliver")
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect(delivery.body.string == "hello")
                #expect(delivery.redelivered)
                #expect(delivery.exchange == "logs")
                #expect(delivery.routingKey == "info")
                #expect(try delivery.properties() == properties)
            }
        }
    }

    @Test("A body in several frames, and contents of two channels between each other, come out whole")
    func pieces() async throws {
        try await Self.withConsumer(.automatic) { broker, _, deliveries, tag in
            var iterator = deliveries.makeAsyncIterator()
            let deliver = Basic.Deliver(
                consumerTag: tag,
                deliveryTag: DeliveryTag(1),
                redelivered: false,
                exchange: "",
                routingKey: ""
            )
            let body = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
            for maximum in [1000, 4096, 8192, 99_999, 131_072] {
                let octets = try ScriptedBroker.octets(
                    of: .basicDeliver(deliver),
                    body: body,
                    on: 1,
                    frameMaximum: maximum
                )
                broker.sendRaw(octets)
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect(delivery.body.copy().array == body)
            }
        }
    }

    @Test("Acks of one turn are merged; the broker sees the highest with multiple")
    func mergedAcks() async throws {
        try await Self.withConsumer { broker, _, deliveries, tag in
            try broker.coalescing {
                for number: UInt64 in 1...4 { try broker.deliver("m", tag: number, consumer: tag) }
            }
            var iterator = deliveries.makeAsyncIterator()
            var acked: UInt64 = 0
            for _ in 1...4 { try await iterator.next(isolation: nil)?.ack() }
            while acked < 4 {
                let ack = try await broker.expect(Basic.Ack.self, on: 1)
                #expect(ack.deliveryTag.rawValue > acked)
                #expect(ack.multiple || ack.deliveryTag.rawValue == acked + 1)
                acked = ack.deliveryTag.rawValue
            }
        }
    }

    @Test("What was acknowledged before a request goes out before it, because the broker may close the channel")
    func ackBeforeRequest() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let starting = channel.deliveries(from: "orders")
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            var iterator = try await starting.makeAsyncIterator()
            try broker.deliver("m", tag: 1, consumer: tag)
            let delivery = try #require(try await iterator.next(isolation: nil))
            // On the loop's thread nothing is written between the two.
            async let purged = withTaskExecutorPreference(connection.taskExecutor) {
                try delivery.ack()
                return try await channel.purgeQueue("orders")
            }
            try await broker.expect(Basic.Ack.self)
            try await broker.expect(Queue.Purge.self)
            try broker.send(.queuePurgeOk(.init(messageCount: 3)), on: 1)
            #expect(try await purged == 3)
        }
    }

    @Test("U5: settling twice sends nothing the second time")
    func settledTwice() async throws {
        try await Self.withConsumer { broker, channel, deliveries, tag in
            try broker.deliver("m", tag: 1, consumer: tag)
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try #require(try await iterator.next(isolation: nil))
            try delivery.nack(requeue: false)
            let error = #expect(throws: AMQPError.self) { try delivery.ack() }
            #expect(error?.code == .alreadySettled)
            let nack = try await broker.expect(Basic.Nack.self)
            #expect(nack == .init(deliveryTag: DeliveryTag(1), multiple: false, requeue: false))
            async let queue = channel.declareQueue("orders")
            try await broker.expect(Queue.Declare.self)
            try broker.send(ChannelDialogueTests.declareOk, on: 1)
            _ = try await queue
        }
    }

    @Test(
        "Refusing: reject sends basic.reject and nack sends basic.nack, with its requeue bit",
        arguments: [true, false]
    )
    func rejectAndNack(requeue: Bool) async throws {
        try await Self.withConsumer { broker, _, deliveries, tag in
            try broker.deliver("m", tag: 1, consumer: tag)
            try broker.deliver("m", tag: 2, consumer: tag)
            var iterator = deliveries.makeAsyncIterator()
            try await iterator.next(isolation: nil)?.reject(requeue: requeue)
            #expect(try await broker.expect(Basic.Reject.self) == .init(deliveryTag: DeliveryTag(1), requeue: requeue))
            try await iterator.next(isolation: nil)?.nack(requeue: requeue)
            let nack = try await broker.expect(Basic.Nack.self)
            #expect(nack == .init(deliveryTag: DeliveryTag(2), multiple: false, requeue: requeue))
        }
    }

    @Test("Refusing: a move-only and a streamed delivery send basic.reject; a dropped one returns with basic.nack")
    func rejectsOfOtherForms() async throws {
        struct Stop: Error {}
        try await Self.withConsumer { broker, _, deliveries, tag in
            for number: UInt64 in 1...3 { try broker.deliver("m", tag: number, consumer: tag) }
            let reading = Task {
                try await deliveries.forEach { delivery in
                    let number = delivery.deliveryTag.rawValue
                    if number == 1 { try delivery.reject(requeue: false) }
                    if number == 3 { throw Stop() }
                }
            }
            #expect(try await broker.expect(Basic.Reject.self) == .init(deliveryTag: DeliveryTag(1), requeue: false))
            for _ in 2...3 { #expect(try await broker.expect(Basic.Nack.self).requeue) }
            await #expect(throws: Stop.self) { try await reading.value }
            try broker.deliver("m", tag: 4, consumer: tag)
            var iterator = deliveries.streamed.makeAsyncIterator()
            try await iterator.next(isolation: nil)?.reject(requeue: true)
            #expect(try await broker.expect(Basic.Reject.self) == .init(deliveryTag: DeliveryTag(4), requeue: true))
        }
    }

    @Test("Refusing: a handler that failed rejects its message; a cancelled one returns it with basic.nack")
    func failedHandler() async throws {
        struct Failure: Error {}
        try await Self.withConsumer { broker, _, deliveries, tag in
            let (started, start) = AsyncStream<Void>.makeStream()
            let processing = Task {
                try await deliveries.process { delivery in
                    if delivery.deliveryTag.rawValue == 3 {
                        start.yield()
                        try await Task.sleep(for: .seconds(60))
                    }
                    throw Failure()
                }
            }
            try broker.deliver("m", tag: 1, consumer: tag)
            #expect(try await broker.expect(Basic.Reject.self) == .init(deliveryTag: DeliveryTag(1), requeue: true))
            try broker.deliver("m", tag: 2, consumer: tag)
            #expect(try await broker.expect(Basic.Reject.self) == .init(deliveryTag: DeliveryTag(2), requeue: true))
            try broker.deliver("m", tag: 3, consumer: tag)
            for await _ in started { break }
            processing.cancel()
            #expect(
                try await broker.expect(Basic.Nack.self)
                    == .init(deliveryTag: DeliveryTag(3), multiple: false, requeue: true)
            )
            _ = await processing.result
        }
    }

    @Test("F10: a cancel by the broker ends the consumer with a reason and leaves the channel usable")
    func cancelledByBroker() async throws {
        try await Self.withConsumer { broker, channel, deliveries, tag in
            try broker.deliver("last", tag: 1, consumer: tag)
            try broker.send(.basicCancel(.init(consumerTag: tag, noWait: true)), on: 1)
            var iterator = deliveries.makeAsyncIterator()
            #expect(try await iterator.next(isolation: nil)?.body.string == "last")
            let error = await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
            #expect(error?.code == .consumerCancelled)
            #expect(channel.isOpen)
            let answer = try await broker.expect(Basic.Cancel.self, on: 1)
            #expect(answer == .init(consumerTag: tag, noWait: true))
            async let queue = channel.declareQueue("orders")
            try await broker.expect(Queue.Declare.self)
            try broker.send(ChannelDialogueTests.declareOk, on: 1)
            _ = try await queue
        }
    }

    /// As `withConsumer`, of a broker that says it is RabbitMQ 4.3.
    static func withConsumerOn4_3(
        _ body: (ScriptedBroker, AMQPChannel, AMQPDeliveries, String) async throws -> Void
    ) async throws {
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect()
            try await broker.handshake(start: ScriptedBroker.rabbitMQ("4.3.6"))
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openChannel()
            try await broker.openChannel()
            let channel = try await opening
            async let starting = channel.deliveries(from: "orders")
            let tag = try await broker.expect(Basic.Consume.self, on: 1).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            try await body(broker, channel, try await starting, tag)
        }
    }

    @Test(
        "F13: a cancel by RabbitMQ 4.3 with open deliveries is a timeout where the queue is there, else its deletion",
        arguments: [true, false]
    )
    func cancelledFor(isTimeout: Bool) async throws {
        try await Self.withConsumerOn4_3 { broker, channel, deliveries, tag in
            try broker.deliver("held", tag: 1, consumer: tag)
            try broker.deliver("unread", tag: 2, consumer: tag)
            var iterator = deliveries.makeAsyncIterator()
            let held = try #require(try await iterator.next(isolation: nil))
            try broker.send(.basicCancel(.init(consumerTag: tag, noWait: true)), on: 1)
            #expect(try await broker.expect(Basic.Cancel.self, on: 1) == .init(consumerTag: tag, noWait: true))
            try await broker.openChannel(2)
            let asked = try await broker.expect(Queue.Declare.self, on: 2)
            #expect(asked.queue == "orders" && asked.passive)
            let declareOk = Method.queueDeclareOk(.init(queue: "orders", messageCount: 2, consumerCount: 0))
            // It may still be there for a moment when it is deleted, so it is asked for twice.
            try broker.send(declareOk, on: 2)
            try await broker.expect(Queue.Declare.self, on: 2)
            if isTimeout {
                try broker.send(declareOk, on: 2)
                try await broker.expect(Channel.Close.self, on: 2)
                try broker.send(.channelCloseOk(.init()), on: 2)
            } else {
                let text = "NOT_FOUND - no queue 'orders' in vhost '/'"
                try broker.closeChannel(.notFound, text, method: Queue.Declare.id, on: 2)
            }
            var bodies: [String] = []
            let error = await #expect(throws: AMQPError.self) {
                while let delivery = try await iterator.next(isolation: nil) { bodies.append(delivery.body.string) }
            }
            #expect(error?.code == (isTimeout ? .acknowledgementTimedOut : .consumerCancelled))
            #expect(error?.scope == .operation)
            #expect(channel.isOpen)
            _ = held
        }
    }

    @Test("F13: a cancel by RabbitMQ 4.3 with nothing open is the deletion of the queue, without a question")
    func cancelledWithNothingOpen() async throws {
        try await Self.withConsumerOn4_3 { broker, _, deliveries, tag in
            try broker.deliver("m", tag: 1, consumer: tag)
            var iterator = deliveries.makeAsyncIterator()
            try await iterator.next(isolation: nil)?.ack()
            try await broker.expect(Basic.Ack.self, on: 1)
            try broker.send(.basicCancel(.init(consumerTag: tag, noWait: true)), on: 1)
            let error = await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
            #expect(error?.code == .consumerCancelled)
        }
    }

    @Test("A message that fails again is rejected after a delay that holds up no other handler, nor the consumer's end")
    func delayedRejection() async throws {
        struct Failure: Error {}
        try await Self.withConsumer { broker, channel, deliveries, tag in
            let processing = Task { try await deliveries.process { if $0.redelivered { throw Failure() } } }
            try broker.deliver("bad", tag: 1, consumer: tag, redelivered: true)
            try broker.deliver("good", tag: 2, consumer: tag)
            // Its own delay is a second.
            #expect(try await broker.expect(Basic.Ack.self, on: 1) == .init(deliveryTag: DeliveryTag(2)))
            #expect(try await broker.expect(Basic.Reject.self) == .init(deliveryTag: DeliveryTag(1), requeue: true))
            async let cancelling: Void = channel.cancel(deliveries)
            try await broker.expect(Basic.Cancel.self, on: 1)
            try broker.deliver("bad", tag: 3, consumer: tag, redelivered: true)
            try broker.send(.basicCancelOk(.init(consumerTag: tag)), on: 1)
            #expect(try await broker.expect(Basic.Reject.self) == .init(deliveryTag: DeliveryTag(3), requeue: true))
            try await cancelling
            try await processing.value
        }
    }

    @Test("Cancelling ends the sequence after what came before cancel-ok")
    func cancel() async throws {
        try await Self.withConsumer { broker, channel, deliveries, tag in
            async let cancelling: Void = channel.cancel(deliveries)
            #expect(try await broker.expect(Basic.Cancel.self).consumerTag == tag)
            try broker.deliver("late", tag: 1, consumer: tag)
            try broker.send(.basicCancelOk(.init(consumerTag: tag)), on: 1)
            try await cancelling
            var iterator = deliveries.makeAsyncIterator()
            #expect(try await iterator.next(isolation: nil)?.body.string == "late")
            #expect(try await iterator.next(isolation: nil) == nil)
        }
    }

    @Test("F30: a task cancelled while it waits for a delivery is woken")
    func cancelledWait() async throws {
        try await Self.withConsumer { _, _, deliveries, _ in
            let waiting = Task {
                var iterator = deliveries.makeAsyncIterator()
                return try await iterator.next(isolation: nil)?.deliveryTag
            }
            waiting.cancel()
            let result = await waiting.result
            switch result {
            case .success(let tag): #expect(tag == nil)
            case .failure(let error): #expect((error as? AMQPError)?.code == .cancelled)
            }
        }
    }

    @Test("C30: a delivery for a consumer nobody knows goes back to its queue")
    func unknownConsumer() async throws {
        try await ScriptedBroker.withChannel { broker, _, _ in
            try broker.deliver("stray", tag: 1, consumer: "nobody")
            let nack = try await broker.expect(Basic.Nack.self, on: 1)
            #expect(nack == .init(deliveryTag: DeliveryTag(1), multiple: false, requeue: true))
        }
    }

    @Test("A consumer that starts after its caller gave up is cancelled again")
    func consumeTooLate() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let waiting = Task { _ = try await channel.deliveries(from: "orders") }
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            waiting.cancel()
            let error = await #expect(throws: AMQPError.self) { try await waiting.value }
            #expect(error?.code == .cancelled)
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            #expect(try await broker.expect(Basic.Cancel.self).consumerTag == tag)
            try broker.send(.basicCancelOk(.init(consumerTag: tag)), on: 1)
        }
    }

    @Test("The end of the channel ends its consumers with the broker's words")
    func channelClosed() async throws {
        try await Self.withConsumer { broker, _, deliveries, _ in
            try broker.closeChannel(.preconditionFailed, "PRECONDITION_FAILED - delivery acknowledgement timed out")
            var iterator = deliveries.makeAsyncIterator()
            let error = await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
            #expect(error?.code == .channelClosed)
            #expect(error?.replyText == "PRECONDITION_FAILED - delivery acknowledgement timed out")
        }
    }

    @Test("basic.get returns a message, or nothing when the queue is empty")
    func get() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let first = channel.get("orders")
            try await broker.expect(Basic.Get.self)
            try broker.send(.basicGetEmpty(.init()), on: 1)
            #expect(try await first == nil)
            async let second = channel.get("orders")
            try await broker.expect(Basic.Get.self)
            let ok = Basic.GetOk(
                deliveryTag: DeliveryTag(1),
                redelivered: true,
                exchange: "logs",
                routingKey: "info",
                messageCount: 4
            )
            try broker.send(.basicGetOk(ok), on: 1, body: Array("got".utf8))
            let delivery = try #require(try await second)
            #expect(delivery.body.string == "got")
            #expect(delivery.routingKey == "info")
            #expect(delivery.messageCount == 4)
            try delivery.ack()
            #expect(try await broker.expect(Basic.Ack.self).deliveryTag == DeliveryTag(1))
        }
    }

    @Test("A message got for a caller that has gone goes back to its queue")
    func getTooLate() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let waiting = Task { _ = try await channel.get("orders") }
            try await broker.expect(Basic.Get.self)
            waiting.cancel()
            let error = await #expect(throws: AMQPError.self) { try await waiting.value }
            #expect(error?.code == .cancelled)
            let ok = Basic.GetOk(
                deliveryTag: DeliveryTag(1),
                redelivered: false,
                exchange: "",
                routingKey: "orders",
                messageCount: 0
            )
            try broker.send(.basicGetOk(ok), on: 1, body: Array("got".utf8))
            let nack = try await broker.expect(Basic.Nack.self)
            #expect(nack.requeue)
        }
    }

    /// Waits for a condition that nobody announces.
    static func waitUntil(_ condition: () -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while !condition() {
            try #require(ContinuousClock.now < deadline)
            await Task.yield()
        }
    }
}
