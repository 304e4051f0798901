// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Logging
import Testing

// Consumers, deliveries and their settlement.

extension PitfallTests {
    @Test("Server-sent cancel: it is not answered with cancel-ok")
    func cancelByBroker() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            try broker.send(.basicCancel(.init(consumerTag: deliveries.consumerTag, noWait: true)), on: 1)
            let error = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(error?.code == .consumerCancelled)
            // RabbitMQ 4.3 keeps the consumer until the client cancels it, too.
            let answer = try await broker.expect(Basic.Cancel.self, on: 1)
            #expect(answer == .init(consumerTag: deliveries.consumerTag, noWait: true))
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Deliveries after cancel: deliveries before cancel-ok are requeued when the scope ends")
    func deliveriesAfterCancel() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let scope = Task { try await channel.consume("q") { _ in } }
            let consume = try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
            try await broker.expect(Basic.Cancel.self, on: 1)
            try broker.deliver("late", tag: 1, consumer: consume.consumerTag)
            try broker.send(.basicCancelOk(.init(consumerTag: consume.consumerTag)), on: 1)
            let nack = try await broker.expect(Basic.Nack.self, on: 1)
            #expect(nack == .init(deliveryTag: DeliveryTag(1), multiple: false, requeue: true))
            try await scope.value
        }
    }

    @Test("Unread deliveries: they are requeued when the scope ends, and read ones stay unsettled")
    func unreadInBatch() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let scope = Task {
                try await channel.consume("q") { deliveries in
                    var iterator = deliveries.makeAsyncIterator()
                    _ = try await iterator.next(isolation: nil)
                    return try await iterator.next(isolation: nil)
                }
            }
            let consume = try await broker.expect(Basic.Consume.self, on: 1)
            try broker.coalescing {
                try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
                for tag in UInt64(1)...4 { try broker.deliver("x", tag: tag, consumer: consume.consumerTag) }
            }
            try await broker.expect(Basic.Cancel.self, on: 1)
            try broker.send(.basicCancelOk(.init(consumerTag: consume.consumerTag)), on: 1)
            var returned: [UInt64] = []
            for _ in 0..<2 { returned.append(try await broker.expect(Basic.Nack.self, on: 1).deliveryTag.rawValue) }
            #expect(returned == [3, 4])
            let held = try #require(try await scope.value)
            try held.ack()
            #expect(try await broker.expect(Basic.Ack.self, on: 1).deliveryTag == DeliveryTag(2))
        }
    }

    @Test("No-ack: deliveries without acknowledgement are never settled, whatever the application says")
    func automatic() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel, acknowledgement: .automatic)
            try broker.deliver("x", tag: 1, consumer: deliveries.consumerTag)
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try #require(try await iterator.next(isolation: nil))
            let error = #expect(throws: AMQPError.self) { try delivery.ack() }
            #expect(error?.code == .alreadySettled)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("U12: Duplicate consumer tag: it is refused locally, because the broker would close the connection")
    func consumerTag() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            let error = await #expect(throws: AMQPError.self) {
                try await channel.deliveries(from: "q", consumerTag: deliveries.consumerTag)
            }
            #expect(error?.code == .invalidArgument)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Recover: no earlier tag is sent after it, even if settled before recover-ok")
    func recover() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            for tag in UInt64(1)...3 { try broker.deliver("x", tag: tag, consumer: deliveries.consumerTag) }
            var iterator = deliveries.makeAsyncIterator()
            var held: [AMQPDelivery] = []
            for _ in 0..<3 { held.append(try #require(try await iterator.next(isolation: nil))) }
            let recovering = Task { try await channel.recover() }
            let recover = try await broker.expect(Basic.Recover.self, on: 1)
            #expect(recover.requeue)
            for settle in [{ try held[0].ack() }, { try held[1].nack() }] {
                let error = #expect(throws: AMQPError.self) { _ = try settle() }
                #expect(error?.code == .alreadySettled)
            }
            try broker.send(.basicRecoverOk(.init()), on: 1)
            try await recovering.value
            let error = #expect(throws: AMQPError.self) { try held[2].ack() }
            #expect(error?.code == .alreadySettled)
            try broker.deliver("again", tag: 4, consumer: deliveries.consumerTag, redelivered: true)
            try #require(try await iterator.next(isolation: nil)).ack()
            let ack = try await broker.expect(Basic.Ack.self, on: 1)
            #expect(ack.deliveryTag == DeliveryTag(4))
        }
    }

    @Test("F13: Acknowledgement timeout: it has a separate error code, and a warning comes before it")
    func acknowledgementTimeout() async throws {
        let warnings = Warnings()
        let configuration = {
            var configuration = AMQPClientConfiguration()
            configuration.acknowledgementTimeout = .milliseconds(100)
            return configuration
        }()
        let logger = Logger(label: "test") { _ in warnings }
        let text =
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 100 ms. "
            + "This timeout value can be configured, see consumers doc guide to learn more"
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect(configuration, logger: logger)
            try await broker.handshake()
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openChannel()
            try await broker.openChannel()
            let deliveries = try await Self.consume(broker, try await opening)
            try broker.deliver("held", tag: 1, consumer: deliveries.consumerTag)
            var iterator = deliveries.makeAsyncIterator()
            var late = connection.lateDeliveries.makeAsyncIterator()
            let held = try await iterator.next(isolation: nil)
            let event = try #require(await late.next(isolation: nil))
            #expect(event.channel.rawValue == 1)
            #expect(event.deliveryTag == DeliveryTag(1))
            #expect(event.limit == .milliseconds(100))
            #expect(event.age >= .milliseconds(80))
            #expect(await warnings.first() == "1")
            try broker.closeChannel(.preconditionFailed, text)
            let error = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(error?.code == .acknowledgementTimedOut)
            #expect(error?.replyCode == .preconditionFailed)
            #expect(error?.scope == .channel)
            #expect(held != nil)
            connection.abort()
            // The events end with the connection, also for a later subscriber.
            #expect(await late.next(isolation: nil) == nil)
            var later = connection.lateDeliveries.makeAsyncIterator()
            #expect(await later.next(isolation: nil) == nil)
        }
    }

    @Test("F13: Acknowledgement timeout: RabbitMQ 4.3 has it for quorum queues only, and other queues cause no warning")
    func noTimeoutOn4_3() async throws {
        let warnings = Warnings()
        let configuration = {
            var configuration = AMQPClientConfiguration()
            configuration.acknowledgementTimeout = .milliseconds(100)
            return configuration
        }()
        let logger = Logger(label: "test") { _ in warnings }
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect(configuration, logger: logger)
            try await broker.handshake(start: ScriptedBroker.rabbitMQ("4.3.6"))
            let connection = try await connecting
            defer { connection.abort() }
            var late = connection.lateDeliveries.makeAsyncIterator()
            // A classic queue on channel 1, a quorum queue on channel 2: only the second is reported.
            for (number, queue) in [(UInt16(1), "classic"), (2, "quorum")] {
                async let opening = connection.openChannel()
                try await broker.openChannel(number)
                let channel = try await opening
                async let declaring =
                    number == 1
                    ? channel.declareQueue(queue, as: .classic()) : channel.declareQueue(queue, as: .quorum())
                try await broker.expect(Queue.Declare.self, on: number)
                let ok = Queue.DeclareOk(queue: queue, messageCount: 0, consumerCount: 0)
                try broker.send(.queueDeclareOk(ok), on: number)
                _ = try await declaring
                async let starting = channel.deliveries(from: queue)
                let tag = try await broker.expect(Basic.Consume.self, on: number).consumerTag
                try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: number)
                let deliveries = try await starting
                try broker.deliver("held", tag: 1, consumer: tag, on: number)
                var iterator = deliveries.makeAsyncIterator()
                _ = try await iterator.next(isolation: nil)
                // Longer than a warning takes.
                if number == 1 { try await Task.sleep(for: .milliseconds(250)) }
            }
            let event = try #require(await late.next(isolation: nil))
            #expect(event.channel.rawValue == 2)
        }
    }

    @Test("Consumer tag: the client generates a unique one, and requests consume-ok")
    func ownConsumerTag() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            var tags: Set<String> = []
            for _ in 0..<3 {
                async let starting = channel.deliveries(from: "q")
                let consume = try await broker.expect(Basic.Consume.self, on: 1)
                #expect(!consume.consumerTag.isEmpty)
                #expect(!consume.noWait)
                tags.insert(consume.consumerTag)
                try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
                #expect(try await starting.consumerTag == consume.consumerTag)
            }
            #expect(tags.count == 3)
        }
    }

    @Test("Gets of several tasks: each reply reaches its caller")
    func concurrentGets() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let calls = (1...3).map { number in Task { try await channel.get("\(number)")?.body.string } }
            for _ in 1...3 {
                let number = Int(try await broker.expect(Basic.Get.self, on: 1).queue) ?? 0
                if number == 2 {
                    // The reserved short string, formerly a cluster ID, may hold anything.
                    broker.sendRaw(ViolationTests.frame(1, 1, [0, 60, 0, 72, 2, 65, 0xFF]))
                    continue
                }
                let ok = Basic.GetOk(deliveryTag: DeliveryTag(UInt64(number)), exchange: "", routingKey: "q")
                try broker.send(.basicGetOk(ok), on: 1, body: Array("\(number)".utf8))
            }
            #expect(try await calls[0].value == "1")
            #expect(try await calls[1].value == nil)
            #expect(try await calls[2].value == "3")
        }
    }

    @Test("U7: Tag 0: all outstanding deliveries are settled by the highest tag, and a second call sends nothing")
    func tagZero() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            for tag in UInt64(1)...3 { try broker.deliver("x", tag: tag, consumer: deliveries.consumerTag) }
            var iterator = deliveries.makeAsyncIterator()
            var held: [AMQPDelivery] = []
            for _ in 0..<3 { held.append(try #require(try await iterator.next(isolation: nil))) }
            try held[2].ack(multiple: true)
            #expect(
                try await broker.expect(Basic.Ack.self, on: 1) == .init(deliveryTag: DeliveryTag(3), multiple: true)
            )
            for delivery in held {
                let error = #expect(throws: AMQPError.self) { try delivery.ack(multiple: true) }
                #expect(error?.code == .alreadySettled)
            }
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("U8: Prefetch: the size is always 0, and the count is per consumer")
    func prefetch() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let setting: Void = channel.setPrefetch(count: 65_535)
            let qos = try await broker.expect(Basic.Qos.self, on: 1)
            #expect(qos.prefetchSize == 0)
            #expect(qos.prefetchCount == 65_535)
            #expect(!qos.global)
            try broker.send(.basicQosOk(.init()), on: 1)
            try await setting
        }
    }

    @Test("Streams: they are declared durable, not exclusive and not auto-delete")
    func streams() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let declaring = channel.declareQueue("s", as: .stream())
            let declare = try await broker.expect(Queue.Declare.self, on: 1)
            #expect(declare.durable)
            #expect(!declare.exclusive)
            #expect(!declare.autoDelete)
            try broker.send(.queueDeclareOk(.init(queue: "s")), on: 1)
            #expect(try await declaring.name == "s")
        }
    }

    @Test("Names of a delivery: exchange, routing key and redelivered are those of each delivery, also within one read")
    func namesOfADelivery() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            let rows = [("a", "k", false), ("", "", true), ("a", "another key", false), ("b", "k", true)]
            try broker.coalescing {
                for (index, row) in rows.enumerated() {
                    let deliver = Basic.Deliver(
                        consumerTag: deliveries.consumerTag,
                        deliveryTag: DeliveryTag(UInt64(index + 1)),
                        redelivered: row.2,
                        exchange: row.0,
                        routingKey: row.1
                    )
                    try broker.send(.basicDeliver(deliver), on: 1, body: [1])
                }
            }
            var iterator = deliveries.makeAsyncIterator()
            for row in rows {
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect((delivery.exchange, delivery.routingKey, delivery.redelivered) == row)
                #expect(delivery.consumerTag == deliveries.consumerTag)
            }
        }
    }
}

/// Collects the delivery tags of warnings.
private struct Warnings: LogHandler {
    private let stream: AsyncStream<String>
    private let continuation: AsyncStream<String>.Continuation
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .warning

    init() { (self.stream, self.continuation) = AsyncStream.makeStream() }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func first() async -> String? { await self.stream.first { _ in true } }

    func log(event: LogEvent) {
        if let tag = event.metadata?["amqp.delivery_tag"] { self.continuation.yield("\(tag)") }
    }
}
