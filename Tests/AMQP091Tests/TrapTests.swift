// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Logging
import Synchronization
import Testing

// TrapTests: what clients of this protocol are known to get wrong, each trap by its name, as far as the dialogues of the
// other suites do not show it already. Against a scripted peer, which can do what a broker does only now and then.

@Suite("Traps", .timeLimit(.minutes(1)))
struct TrapTests {
    private static func consume(
        _ broker: ScriptedBroker,
        _ channel: AMQPChannel,
        acknowledgement: AMQPAcknowledgement = .manual
    ) async throws -> AMQPDeliveries {
        async let starting = channel.deliveries(from: "q", acknowledgement: acknowledgement)
        let consume = try await broker.expect(Basic.Consume.self, on: 1)
        try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
        return try await starting
    }

    // MARK: handshake and channels

    @Test("The number of open channels is a limit of ours: one more is refused without a word to the broker")
    func channelMax() async throws {
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect()
            try await broker.handshake(tune: .init(channelMax: 1, frameMax: 131_072, heartbeat: 0))
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openChannel()
            try await broker.openChannel(1)
            let channel = try await opening
            let error = await #expect(throws: AMQPError.self) { try await connection.openChannel() }
            #expect(error?.code == .noFreeChannel)
            #expect(error?.isSafeToRetry == true)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("The number of a closed channel is used last, and what still comes for it is dropped")
    func numbers() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            try broker.closeChannel(.preconditionFailed, "closed")
            try await broker.expect(Channel.CloseOk.self, on: 1)
            try broker.deliver("late", tag: 1, consumer: "gone")
            async let opening = connection.openChannel()
            try await broker.openChannel(2)
            let other = try await opening
            #expect(other.number.rawValue == 2)
            #expect(connection.isOpen)
            #expect(!channel.isOpen)
        }
    }

    @Test("A missing exchange is told later, under another call, and the error blames basic.publish")
    func missingExchange() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            try await channel.publish("x", to: .exchange("missing"))
            _ = try await broker.expectPublish()
            let innocent = Task { try await channel.declareQueue("q") }
            try await broker.expect(Queue.Declare.self, on: 1)
            try broker.closeChannel(.notFound, "NOT_FOUND - no exchange 'missing'", method: Basic.Publish.id)
            try await broker.expect(Channel.CloseOk.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await innocent.value }
            #expect(error?.method == Basic.Publish.id)
            #expect(error?.replyCode == .notFound)
            #expect(error?.description.contains("basic.publish") == true)
        }
    }

    @Test("A shutdown of the broker is told by its code, so that it can be told from a refusal")
    func forced() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let call = Task { try await channel.declareQueue("q") }
            try await broker.expect(Queue.Declare.self, on: 1)
            let close = Connection.Close(
                replyCode: .connectionForced,
                replyText: "CONNECTION_FORCED - shutdown",
                classID: 0,
                methodID: 0
            )
            try broker.send(.connectionClose(close))
            try await broker.expect(Connection.CloseOk.self, on: 0)
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyCode == .connectionForced)
            #expect(error?.method == nil)
            #expect(!connection.isOpen)
        }
    }

    @Test("exchange.unbind-ok is method 51, not 41")
    func unbindOk() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let unbinding: Void = channel.unbindExchange("a", from: "b")
            try await broker.expect(Exchange.Unbind.self, on: 1)
            broker.sendRaw([1, 0, 1, 0, 0, 0, 4, 0, 40, 0, 51, 0xCE])
            try await unbinding
        }
    }

    // MARK: publishing

    @Test("A publish refused locally, or cancelled before it was appended, takes no number")
    func numbering() async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            let long = String(repeating: "x", count: 256)
            await #expect(throws: AMQPError.self) { try await channel.publish("x", to: .queue(long)) }
            let cancelled = Task { () async -> AMQPError? in
                withUnsafeCurrentTask { $0?.cancel() }
                do throws(AMQPError) {
                    try await channel.publishAndConfirm("x", to: .queue("q"))
                    return nil
                } catch {
                    return error
                }
            }
            #expect(await cancelled.value?.isSafeToRetry == true)
            async let publishing: Void = channel.publishAndConfirm("first", to: .queue("q"))
            #expect(try await broker.expectPublish().body == Array("first".utf8))
            try broker.ack(1)
            try await publishing
        }
    }

    @Test("basic.nack may be multiple too, and shares its tags with basic.ack")
    func nackMultiple() async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            for _ in 0..<4 { try await channel.publish("x", to: .queue("q")) }
            for _ in 0..<4 { _ = try await broker.expectPublish() }
            try broker.ack(2)
            try broker.send(.basicNack(.init(deliveryTag: DeliveryTag(3), multiple: true, requeue: false)), on: 1)
            try broker.ack(4)
            let error = await #expect(throws: AMQPError.self) { try await channel.waitForConfirms() }
            #expect(error?.code == .nacked)
            #expect(channel.confirmCounts.nacked == 2)
            #expect(channel.confirmCounts.confirmed == 2)
        }
    }

    @Test("A returned message is read to its end even when nobody asked for confirms")
    func unaskedReturn() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            try await channel.publish("back", to: .queue("nowhere"), mandatory: true)
            _ = try await broker.expectPublish()
            let returned = Basic.Return(
                replyCode: .noRoute,
                replyText: "NO_ROUTE",
                exchange: "",
                routingKey: "nowhere"
            )
            try broker.send(.basicReturn(returned), on: 1, body: Array("back".utf8))
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    // MARK: consuming

    @Test("A cancel by the broker wants no cancel-ok, and gets none")
    func cancelByBroker() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            try broker.send(.basicCancel(.init(consumerTag: deliveries.consumerTag, noWait: true)), on: 1)
            let error = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(error?.code == .consumerCancelled)
            // The next frame is the next request, nothing before it.
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("What is delivered between cancel and cancel-ok goes back to the queue when its scope is left")
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

    @Test("What a scope has not read of one read goes back when it is left, and what it has read stays its own")
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

    @Test("Deliveries without acknowledgement are never settled, whatever the application says")
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

    @Test("A consumer tag in use is refused locally: the broker would close the connection")
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

    @Test("After a recover no tag of before is sent, also when it is settled before recover-ok")
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
            try held[0].ack()
            try held[1].nack()
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

    @Test("Nothing is published or settled on a channel while it commits")
    func commit() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            for tag in UInt64(1)...2 { try broker.deliver("x", tag: tag, consumer: deliveries.consumerTag) }
            var iterator = deliveries.makeAsyncIterator()
            let first = try #require(try await iterator.next(isolation: nil))
            let second = try #require(try await iterator.next(isolation: nil))
            let transaction = Task { try await channel.withTransaction { _ in } }
            try await broker.expect(Tx.Select.self, on: 1)
            try broker.send(.txSelectOk(.init()), on: 1)
            try await broker.expect(Tx.Commit.self, on: 1)
            try first.ack()
            try second.nack(requeue: false)
            let publish = Task { try await channel.publish("waits", to: .queue("q")) }
            // A request may be pipelined; it comes before what is kept back.
            let declare = Task { try await channel.declareQueue("q") }
            try await broker.expect(Queue.Declare.self, on: 1)
            try broker.send(.txCommitOk(.init()), on: 1)
            try broker.send(DeadlineTests.declareOk, on: 1)
            _ = try await declare.value
            var seen: Set<MethodID> = []
            while seen.count < 3 {
                let (frame, _) = try await broker.next()
                if case .method(let method) = frame { seen.insert(method.id) }
            }
            #expect(seen == [Basic.Ack.id, Basic.Nack.id, Basic.Publish.id])
            try await transaction.value
            try await publish.value
        }
    }

    @Test("An acknowledgement timeout is an error of its own, and is warned of before it strikes")
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
            let held = try await iterator.next(isolation: nil)
            #expect(await warnings.first() == "1")
            try broker.closeChannel(.preconditionFailed, text)
            let error = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(error?.code == .acknowledgementTimedOut)
            #expect(error?.replyCode == .preconditionFailed)
            #expect(error?.scope == .channel)
            #expect(held != nil)
        }
    }

    @Test("Octets that are not UTF-8 in a header or a short string disturb neither the delivery nor the connection")
    func notText() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            let deliver = Basic.Deliver(
                consumerTag: deliveries.consumerTag,
                deliveryTag: DeliveryTag(1),
                exchange: "",
                routingKey: "k"
            )
            let properties = BasicProperties(headers: ["x": .longString([0xFF, 0xFE])], appID: "AB")
            var octets = try ScriptedBroker.octets(
                of: .basicDeliver(deliver),
                properties: properties,
                body: [1],
                on: 1
            )
            let text = try #require(octets.indices.dropLast().first { octets[$0] == 65 && octets[$0 + 1] == 66 })
            octets[text] = 0xC3
            broker.sendRaw(octets)
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try #require(try await iterator.next(isolation: nil))
            let received = try delivery.properties()
            #expect(received.headers?["x"]?.octets == [0xFF, 0xFE])
            #expect(received.appID?.hasSuffix("B") == true)
            try delivery.ack()
            try await broker.expect(Basic.Ack.self, on: 1)
        }
    }

    @Test("A field of an unknown type spoils the properties of its message only")
    func unknownField() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            let deliver = Basic.Deliver(
                consumerTag: deliveries.consumerTag,
                deliveryTag: DeliveryTag(1),
                exchange: "",
                routingKey: "k"
            )
            var octets = try ScriptedBroker.octets(
                of: .basicDeliver(deliver),
                properties: BasicProperties(headers: ["zz": .bool(true)]),
                body: [1],
                on: 1
            )
            let name = try #require(octets.indices.dropLast().first { octets[$0] == 122 && octets[$0 + 1] == 122 })
            octets[name + 2] = UInt8(ascii: "U")
            broker.sendRaw(octets)
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try #require(try await iterator.next(isolation: nil))
            let error = #expect(throws: AMQPError.self) { try delivery.properties() }
            #expect(error?.scope == .operation)
            try delivery.ack()
            try await broker.expect(Basic.Ack.self, on: 1)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Direct reply-to is consumed without acknowledgement, and used on the channel that consumes it")
    func directReplyTo() async throws {
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect()
            try await broker.handshake()
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openRPCClient()
            try await broker.openChannel()
            try await broker.expect(Confirm.Select.self, on: 1)
            try broker.send(.confirmSelectOk(.init()), on: 1)
            let consume = try await broker.expect(Basic.Consume.self, on: 1)
            #expect(consume.queue == "amq.rabbitmq.reply-to")
            #expect(consume.noAck)
            try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
            let rpc = try await opening
            let call = Task { try await rpc.call("ask", to: .queue("server")).body.string }
            let request = try await broker.expectPublish(on: 1)
            #expect(request.properties.replyTo == "amq.rabbitmq.reply-to")
            #expect(request.method.mandatory)
            // The reply may overtake the confirm, and stray replies are nobody's.
            for (tag, correlation) in [(1, "99"), (2, "not a number"), (3, request.properties.correlationID)] {
                let deliver = Basic.Deliver(
                    consumerTag: consume.consumerTag,
                    deliveryTag: DeliveryTag(UInt64(tag)),
                    exchange: "",
                    routingKey: "k"
                )
                try broker.send(
                    .basicDeliver(deliver),
                    on: 1,
                    properties: BasicProperties(correlationID: correlation),
                    body: Array("answer".utf8)
                )
            }
            #expect(try await call.value == "answer")
            try broker.ack(1)
            let unanswered = Task { try await rpc.call("ask", to: .queue("server")) }
            _ = try await broker.expectPublish(on: 1)
            try broker.send(.basicNack(.init(deliveryTag: DeliveryTag(2), multiple: false, requeue: false)), on: 1)
            let error = await #expect(throws: AMQPError.self) { try await unanswered.value }
            #expect(error?.code == .nacked)
        }
    }
}

/// Collects the delivery tags that are warned of.
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
