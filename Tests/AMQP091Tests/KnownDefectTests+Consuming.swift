// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// Known defects of consuming, of channels and of the wire.

extension KnownDefectTests {
    enum Ending: CaseIterable { case queueDeleted, channelClosed, connectionClosed, linkLost }

    @Test("Consumer end: a sequence always ends with its reason", arguments: Ending.allCases)
    func consumerEnds(_ ending: Ending) async throws {
        try await Self.withBroker { broker, connection, channel in
            try await channel.declareQueue("q")
            let deliveries = try await channel.deliveries(from: "q")
            let consuming = Task { for try await _ in deliveries {} }
            switch ending {
            case .queueDeleted: await broker.deleteQueue("q")
            case .channelClosed:
                await #expect(throws: AMQPError.self) { try await channel.declareQueue("q", autoDelete: true) }
            case .connectionClosed: await broker.closeConnections("maintenance")
            case .linkLost: await broker.dropConnections("crash")
            }
            let error = await #expect(throws: AMQPError.self) { try await consuming.value }
            switch ending {
            case .queueDeleted: #expect(error?.code == .consumerCancelled)
            case .channelClosed: #expect(error?.replyCode == .preconditionFailed)
            case .connectionClosed: #expect(error?.replyCode == .connectionForced)
            case .linkLost: #expect(error?.code == .connectionClosed)
            }
            #expect(connection.isOpen == (ending == .queueDeleted || ending == .channelClosed))
        }
    }

    @Test("F12: Slow consumer: messages stay at the broker, without prefetch and without acknowledgement")
    func bounded() async throws {
        try await Self.withBroker {
            $0.consumerBufferSize = 64 << 10
        } _: { broker, _, channel in
            let count = 1000
            try await channel.declareQueue("q")
            try await channel.enableConfirms()
            let message = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 64 << 10)))
            for _ in 0..<count { try await channel.publish(message, to: .queue("q")) }
            try await channel.waitForConfirms()
            try await channel.consume("q", acknowledgement: .automatic) { deliveries in
                var read = 0
                for try await delivery in deliveries {
                    #expect(delivery.body.count == 64 << 10)
                    read += 1
                    if read > 100 { break }
                    // The client, both sockets and the broker's buffer hold this much; without a bound all 62 MiB.
                    let held = count - read - (await broker.depth(of: "q") ?? 0)
                    #expect(held < 400)
                }
            }
        }
    }

    @Test("U6: Stale delivery: settling it sends nothing on the next connection")
    func staleTags() async throws {
        try await Self.withBroker { broker, _, channel in
            try await channel.declareQueue("q")
            try await channel.publish("m", to: .queue("q"))
            var old = try await channel.deliveries(from: "q").makeAsyncIterator()
            let stale = try #require(try await old.next(isolation: nil))
            await broker.dropConnections("partition")
            await #expect(throws: AMQPError.self) { try await old.next(isolation: nil) }
            let again = try await AMQPConnection.connect(broker.configuration)
            defer { again.abort() }
            let fresh = try await again.openChannel()
            var new = try await fresh.deliveries(from: "q").makeAsyncIterator()
            let delivery = try #require(try await new.next(isolation: nil))
            // The same number, on another connection.
            #expect(delivery.deliveryTag == stale.deliveryTag)
            let error = #expect(throws: AMQPError.self) { try stale.ack() }
            #expect(error?.code == .connectionClosed)
            _ = try await fresh.inspectQueue("q")
            #expect(await broker.queue("q")?.unacknowledged == 1)
            try delivery.ack()
            try await broker.waitUntil(queue: "q") { $0?.unacknowledged == 0 }
            #expect(fresh.isOpen)
        }
    }

    @Test("Closed channel: late frames are dropped, and its number is reused last")
    func framesAfterClose() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            try broker.closeChannel(.notFound, "NOT_FOUND - gone")
            try broker.deliver("late", tag: 1, consumer: "c")
            try await broker.expect(Channel.CloseOk.self, on: 1)
            await Self.eventually { !channel.isOpen }
            async let opening = connection.openChannel()
            try await broker.openChannel(2)
            let next = try await opening
            #expect(next.number.rawValue == 2)
            try broker.deliver("later", tag: 2, consumer: "c")
            try broker.ack(7, on: 1)
            async let declaring = next.purgeQueue("q")
            try await broker.expect(Queue.Purge.self, on: 2)
            try broker.send(.queuePurgeOk(.init(messageCount: 3)), on: 2)
            #expect(try await declaring == 3)
        }
    }

    @Test("Request timeout: every request ends at its deadline if the broker does not reply, close included")
    func deadlines() async throws {
        try await Self.withBroker { broker, connection, channel in
            try await channel.declareQueue("q")
            let deliveries = try await channel.deliveries(from: "q")
            let other = try await connection.openChannel()
            await broker.pause()
            let limit = Duration.milliseconds(50)
            let calls: [@Sendable () async throws -> Void] = [
                { _ = try await channel.declareQueue("r", timeout: limit) },
                { try await channel.cancel(deliveries, timeout: limit) },
                { _ = try await channel.get("q", timeout: limit) },
                { try await channel.setPrefetch(count: 1, timeout: limit) },
                { _ = try await connection.openChannel(timeout: limit) },
                { try await other.close(timeout: limit) },
                { try await connection.close(timeout: limit) },
            ]
            for call in calls {
                let error = await #expect(throws: AMQPError.self) { try await call() }
                #expect(error?.code == .timedOut)
            }
            #expect(!connection.isOpen)
        }
    }

    @Test("U5: Double acknowledgement: the second one sends nothing and closes no channel")
    func doubleAck() async throws {
        try await Self.withBroker { broker, _, channel in
            try await channel.declareQueue("q")
            for number in 0..<3 { try await channel.publish("\(number)", to: .queue("q")) }
            var iterator = try await channel.deliveries(from: "q").makeAsyncIterator()
            for _ in 0..<3 {
                let delivery = try #require(try await iterator.next(isolation: nil))
                try delivery.ack()
                for _ in 0..<2 {
                    let error = #expect(throws: AMQPError.self) { try delivery.ack() }
                    #expect(error?.code == .alreadySettled)
                    #expect(throws: AMQPError.self) { try delivery.nack() }
                }
            }
            try await broker.waitUntil(queue: "q") { $0?.unacknowledged == 0 && $0?.ready == 0 }
            #expect(channel.isOpen)
        }
    }

    @Test("Field types: every type survives a round trip, in value and in type")
    func fieldTypes() async throws {
        let headers: FieldTable = [
            "bool": .bool(true), "int8": .int8(.min), "uint8": .uint8(.max), "int16": .int16(.min),
            "uint16": .uint16(.max), "int32": .int32(.min), "uint32": .uint32(.max), "int64": .int64(.min),
            "float": .float(1.5), "double": .double(-2.5), "text": "ä", "bytes": .bytes([0, 255]),
            "time": .timestamp(1_700_000_000), "array": .array([.int32(1), "two", .void]),
            "table": .table(["nested": .int64(.max)]), "void": .void,
        ]
        try await Self.withBroker { _, _, channel in
            try await channel.declareQueue("q")
            let message = AMQPMessage("m", properties: BasicProperties(headers: headers))
            try await channel.publish(message, to: .queue("q"))
            let got = try #require(try await channel.get("q", acknowledgement: .automatic))
            // RabbitMQ 4.0 and later sorts them by name.
            let found = try #require(try got.properties().headers)
            #expect(found.names.sorted() == headers.names.sorted())
            for (name, value) in headers { #expect(found[name] == value) }
        }
    }

    @Test("Invalid properties: a header that is not UTF-8 and any timestamp reach the consumer, which continues")
    func oddProperties() async throws {
        try await Self.withBroker { _, _, channel in
            try await channel.declareQueue("q")
            let odd = BasicProperties(headers: ["raw": .longString([0xFF, 0xC0, 0])], timestamp: .max)
            try await channel.publish(AMQPMessage("odd", properties: odd), to: .queue("q"))
            try await channel.publish("plain", to: .queue("q"))
            try await channel.consume("q") { deliveries in
                var bodies: [String] = []
                for try await delivery in deliveries {
                    if bodies.isEmpty { #expect(try delivery.properties() == odd) }
                    bodies.append(delivery.body.string)
                    try delivery.ack()
                    if bodies.count == 2 { break }
                }
                #expect(bodies == ["odd", "plain"])
            }
        }
    }

    @Test("Malformed octets: nothing a broker sends traps the process, at any position", arguments: 0..<24)
    func anyOctets(seed: Int) async throws {
        var random = SplitMix(state: UInt64(seed))
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let starting = channel.deliveries(from: "q")
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            var iterator = try await starting.makeAsyncIterator()
            let deliver = Basic.Deliver(
                consumerTag: tag,
                deliveryTag: DeliveryTag(1),
                redelivered: false,
                exchange: "x",
                routingKey: "k"
            )
            let properties = BasicProperties(contentType: "a/b", headers: ["h": .array([1, "two"])])
            for _ in 0..<20 {
                var octets = try ScriptedBroker.octets(
                    of: .basicDeliver(deliver),
                    properties: properties,
                    body: [1, 2, 3],
                    on: 1
                )
                for _ in 0..<Int(random.next() % 4) {
                    octets[Int(random.next() % UInt64(octets.count))] = UInt8(truncatingIfNeeded: random.next())
                }
                broker.sendRaw(octets)
            }
            broker.drop()
            do {
                while let delivery = try await iterator.next(isolation: nil) {
                    _ = try? delivery.properties()
                    _ = (delivery.exchange, delivery.routingKey, delivery.body.string)
                }
            } catch {
                #expect((error as? AMQPError)?.scope != .operation)
            }
            await Self.eventually { !connection.isOpen }
        }
    }

    private struct SplitMix: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            self.state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = self.state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }

    @Test("Held body: its octets do not change while it is held, whatever is read after it")
    func heldBodies() async throws {
        try await Self.withBroker { _, _, channel in
            let count = 2000
            try await channel.declareQueue("q")
            for number in 0..<count {
                let body = String(repeating: "\(number) ", count: 200)
                try await channel.publish(AMQPMessage(body), to: .queue("q"))
            }
            var held: [AMQPDelivery] = []
            try await channel.consume("q", acknowledgement: .automatic) { deliveries in
                for try await delivery in deliveries {
                    if delivery.deliveryTag.rawValue % 7 == 1 { held.append(delivery) }
                    if delivery.deliveryTag.rawValue == UInt64(count) { break }
                }
            }
            for delivery in held {
                let number = delivery.deliveryTag.rawValue - 1
                #expect(delivery.body.string == String(repeating: "\(number) ", count: 200))
            }
            #expect(held.count == (count + 6) / 7)
        }
    }
}
