// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// Methods with unusual arguments, and properties.

extension PitfallTests {
    @Test("exchange.unbind-ok: it is method 51, not 41")
    func unbindOk() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let unbinding: Void = channel.unbindExchange("a", from: "b")
            try await broker.expect(Exchange.Unbind.self, on: 1)
            broker.sendRaw([1, 0, 1, 0, 0, 0, 4, 0, 40, 0, 51, 0xCE])
            try await unbinding
        }
    }

    @Test("Commit: nothing is sent on a channel until commit-ok")
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
            // RabbitMQ closes the connection (504) on any method before commit-ok.
            let declare = Task { try await channel.declareQueue("q") }
            let consume = Task { try await channel.deliveries(from: "q", consumerTag: "later") }
            let cancel = Task { try await channel.cancel(deliveries) }
            try broker.send(.channelFlow(.init(active: true)), on: 1)
            broker.sendHeartbeat()
            try await Task.sleep(for: .milliseconds(50))
            try broker.send(.txCommitOk(.init()), on: 1)
            var seen: Set<MethodID> = []
            while seen.count < 7 {
                let (frame, _) = try await broker.next()
                guard case .method(let method) = frame else { continue }
                seen.insert(method.id)
                switch method {
                case .queueDeclare: try broker.send(DeadlineTests.declareOk, on: 1)
                case .basicConsume: try broker.send(.basicConsumeOk(.init(consumerTag: "later")), on: 1)
                case .basicCancel(let cancel):
                    try broker.send(.basicCancelOk(.init(consumerTag: cancel.consumerTag)), on: 1)
                default: break
                }
            }
            #expect(
                seen == [
                    Basic.Ack.id, Basic.Nack.id, Basic.Publish.id, Queue.Declare.id, Basic.Consume.id, Basic.Cancel.id,
                    Channel.FlowOk.id,
                ]
            )
            _ = try await declare.value
            _ = try await consume.value
            try await cancel.value
            try await transaction.value
            try await publish.value
        }
    }

    @Test("Direct reply-to: it is consumed without acknowledgement, and requests use the same channel")
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
            // The reply may overtake the confirm, and stray replies are dropped.
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

    @Test("C20: Not UTF-8: octets in a header or a short string affect neither the delivery nor the connection")
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

    @Test("queue.unbind: it has no bits, and ends with the table")
    func queueUnbind() {
        let octets = ViolationTests.octets(.queueUnbind(.init(queue: "q", exchange: "e", routingKey: "k")))
        let payload: [UInt8] = [0, 50, 0, 50, 0, 0, 1, 113, 1, 101, 1, 107, 0, 0, 0, 0]
        #expect(octets == ViolationTests.frame(1, 1, payload))
    }

    @Test("Passive: a check for existence sets this bit alone, and waits for the reply")
    func passive() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let queue = channel.inspectQueue("amq.q")
            let declare = try await broker.expect(Queue.Declare.self, on: 1)
            #expect(declare == .init(queue: "amq.q", passive: true))
            try broker.send(.queueDeclareOk(.init(queue: "amq.q")), on: 1)
            _ = try await queue
            async let exchange: Void = channel.inspectExchange("amq.direct")
            let asked = try await broker.expect(Exchange.Declare.self, on: 1)
            #expect(asked.passive)
            #expect(!asked.noWait)
            try broker.send(.exchangeDeclareOk(.init()), on: 1)
            try await exchange
        }
    }

    static let ticketed: [Method] = [
        .basicPublish(.init(routingKey: "q")), .basicConsume(.init(queue: "q")), .basicGet(.init(queue: "q")),
        .queueDeclare(.init(queue: "q")), .queueBind(.init(queue: "q", exchange: "e", routingKey: "k")),
        .queueUnbind(.init(queue: "q", exchange: "e", routingKey: "k")), .queuePurge(.init(queue: "q")),
        .queueDelete(.init(queue: "q")), .exchangeDeclare(.init(exchange: "e")), .exchangeDelete(.init(exchange: "e")),
        .exchangeBind(.init(destination: "a", source: "b", routingKey: "k")),
        .exchangeUnbind(.init(destination: "a", source: "b", routingKey: "k")),
    ]

    @Test(
        "Ticket: the reserved number of a request is 0, and access.request is not a known method",
        arguments: ticketed
    )
    func ticket(_ method: Method) throws {
        // After the frame's seven octets and the method's four.
        #expect(ViolationTests.octets(method)[11...12] == [0, 0])
        let accessRequest: [UInt8] = [0, 30, 0, 10, 1, 47, 0]
        #expect(throws: WireError.self) { try Method.decode(accessRequest.span.bytes) }
    }

    @Test("Refused secret: the broker closes the connection with 530, and the call throws that")
    func refusedSecret() async throws {
        try await ScriptedBroker.withChannel { broker, connection, _ in
            let call = Task { try await connection.updateSecret("expired") }
            let update = try await broker.expect(Connection.UpdateSecret.self, on: 0)
            #expect(update.newSecret == Array("expired".utf8))
            let close = Connection.Close(
                replyCode: .notAllowed,
                replyText: "NOT_ALLOWED - new secret was refused",
                classID: 10,
                methodID: 70
            )
            try broker.send(.connectionClose(close))
            try await broker.expect(Connection.CloseOk.self, on: 0)
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyCode == .notAllowed)
            #expect(error?.method == Connection.UpdateSecret.id)
            #expect(!connection.isOpen)
        }
    }

    static let kept = [
        BasicProperties(deliveryMode: 0), BasicProperties(deliveryMode: 7), BasicProperties(deliveryMode: 255),
        BasicProperties(priority: 255), BasicProperties(timestamp: .max), BasicProperties(timestamp: 1 << 63),
        BasicProperties(timestamp: 0),
    ]

    @Test("C19: Numbers in properties: any delivery mode, priority and timestamp is kept, both ways", arguments: kept)
    func numbersInProperties(_ properties: BasicProperties) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            let deliver = Basic.Deliver(
                consumerTag: deliveries.consumerTag,
                deliveryTag: DeliveryTag(1),
                exchange: "",
                routingKey: "k"
            )
            try broker.send(.basicDeliver(deliver), on: 1, properties: properties, body: [1])
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try #require(try await iterator.next(isolation: nil))
            let received = try delivery.properties()
            #expect(received == properties)
            try await channel.publish(AMQPMessage("again", properties: received), to: .queue("q"))
            #expect(try await broker.expectPublish().properties == properties)
        }
    }
}
