// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// Field tables, frames and contents.

extension PitfallTests {
    /// Encodes a content header for a body of this size, without properties.
    static func header(_ size: UInt8) -> [UInt8] { [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, size, 0, 0] }

    static func deliver(_ deliveries: AMQPDeliveries, tag: UInt64 = 1) -> Method {
        .basicDeliver(
            .init(consumerTag: deliveries.consumerTag, deliveryTag: DeliveryTag(tag), exchange: "", routingKey: "k")
        )
    }

    @Test("U11: Frame-max: it includes the eight octets around a payload, and bodies are split exactly there")
    func frameMax() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.frameMax = 8192
        let cases = [(8183, [8183]), (8184, [8184]), (8185, [8184, 1]), (16_368, [8184, 8184])]
        try await ScriptedBroker.withChannel(configuration) { broker, _, channel in
            for (size, frames) in cases {
                try await channel.publish(AMQPMessage(AMQPBody([UInt8](repeating: 7, count: size))), to: .queue("q"))
                try await broker.expect(Basic.Publish.self, on: 1)
                let (header, _) = try await broker.next()
                #expect(header == .header(ContentHeader(bodySize: UInt64(size), properties: BasicProperties())))
                for count in frames {
                    let (body, _) = try await broker.next()
                    #expect(body == .body([UInt8](repeating: 7, count: count)))
                }
            }
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Frame-max: frames larger than a read chunk arrive whole", arguments: [300_000, 700_000, 1_048_568])
    func largeFrames(_ size: Int) async throws {
        var options = InProcessBroker.Options()
        options.frameMax = 1 << 20
        try await InProcessBroker.withBroker(options) { broker in
            var configuration = broker.configuration
            configuration.frameMax = 1 << 20
            try await AMQPConnection.withConnection(configuration) { connection in
                let channel = try await connection.openChannel()
                try await channel.declareQueue("q")
                let deliveries = try await channel.deliveries(from: "q", acknowledgement: .automatic)
                var iterator = deliveries.makeAsyncIterator()
                for number in 1...5 {
                    // Small deliveries in between, so that the large frame begins anywhere in a chunk.
                    for length in [size, number * 997] {
                        var body = [UInt8](repeating: UInt8(number), count: length)
                        body[length / 2] = 0xCE
                        try await channel.publish(AMQPMessage(AMQPBody(body)), to: .queue("q"))
                        let delivery = try #require(try await iterator.next(isolation: nil))
                        #expect(delivery.body.copy() == AMQPBody(body))
                    }
                }
            }
        }
    }

    @Test("C14: Empty body frame: one in the middle of a body is skipped")
    func emptyBodyFrame() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let deliveries = try await Self.consume(broker, channel)
            let pieces =
                [ViolationTests.frame(2, 1, Self.header(2))]
                + [[], [1], [], [2]].map { ViolationTests.frame(3, 1, $0) }
            broker.sendRaw(ViolationTests.octets(Self.deliver(deliveries)) + pieces.joined())
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try #require(try await iterator.next(isolation: nil))
            #expect(delivery.body.copy() == AMQPBody([1, 2]))
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Empty body: the header is the whole message in both directions, and a body frame after it is a violation")
    func emptyBody() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            try await channel.publish(AMQPMessage(AMQPBody([])), to: .queue("q"))
            try await broker.expect(Basic.Publish.self, on: 1)
            let (header, _) = try await broker.next()
            #expect(header == .header(ContentHeader(bodySize: 0, properties: BasicProperties())))
            let deliveries = try await Self.consume(broker, channel)
            let whole = ViolationTests.octets(Self.deliver(deliveries)) + ViolationTests.frame(2, 1, Self.header(0))
            broker.sendRaw(whole)
            var iterator = deliveries.makeAsyncIterator()
            #expect(try await iterator.next(isolation: nil)?.body.count == 0)
            broker.sendRaw(ViolationTests.octets(Self.deliver(deliveries, tag: 2)) + whole.suffix(22))
            broker.sendRaw(ViolationTests.frame(3, 1, [1]))
            #expect(try await broker.expect(Connection.Close.self, on: 0).replyCode == .unexpectedFrame)
            #expect(!connection.isOpen)
        }
    }

    @Test("U10: Large headers: properties that exceed one frame are refused locally, the largest that fit pass")
    func largeHeaders() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.frameMax = 8192
        try await ScriptedBroker.withChannel(configuration) { broker, _, channel in
            // Class, weight, size and flags are 14 octets; table, name and long string lengths are 4 + 2 + 1 + 4.
            let fits = 8192 - 8 - 14 - 11
            for count in [fits + 1, 100_000] {
                let headers: FieldTable = ["x": .longString([UInt8](repeating: 65, count: count))]
                let message = AMQPMessage("x", properties: BasicProperties(headers: headers))
                let error = await #expect(throws: AMQPError.self) {
                    try await channel.publish(message, to: .queue("q"))
                }
                #expect(error?.code == .invalidArgument)
                #expect(error?.replyText.contains("frame-max") == true)
            }
            let headers: FieldTable = ["x": .longString([UInt8](repeating: 65, count: fits))]
            try await channel.publish(
                AMQPMessage("x", properties: BasicProperties(headers: headers)),
                to: .queue("q")
            )
            #expect(try await broker.expectPublish(on: 1).properties.headers == headers)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Bits: consecutive bits share one octet, the first is the lowest")
    func bits() {
        let consumes: [(Basic.Consume, UInt8)] = [
            (.init(queue: "q"), 0), (.init(queue: "q", noLocal: true), 1), (.init(queue: "q", noAck: true), 2),
            (.init(queue: "q", exclusive: true), 4), (.init(queue: "q", noWait: true), 8),
        ]
        // After the bits: an empty table of four octets and the frame end.
        for (consume, bits) in consumes {
            #expect(ViolationTests.octets(.basicConsume(consume)).suffix(6).first == bits)
        }
        let declares: [(Queue.Declare, UInt8)] = [
            (.init(queue: "q", passive: true), 1), (.init(queue: "q", durable: true), 2),
            (.init(queue: "q", exclusive: true), 4), (.init(queue: "q", autoDelete: true), 8),
            (.init(queue: "q", noWait: true), 16),
        ]
        for (declare, bits) in declares {
            #expect(ViolationTests.octets(.queueDeclare(declare)).suffix(6).first == bits)
        }
    }

    @Test("C2: Before tune: an oversized frame is refused by its header", arguments: [false, true])
    func beforeTune(_ hasStarted: Bool) async throws {
        let error = try await LoginDialogueTests.error { broker in
            try await broker.expectProtocolHeader()
            if hasStarted {
                try broker.send(.connectionStart(ScriptedBroker.start))
                try await broker.expect(Connection.StartOk.self)
            }
            broker.sendRaw([1, 0, 0, 0, 2, 0, 0])
            try await broker.drain()
        }
        // A peer that begins like this is probably not a broker.
        #expect(error?.code == (hasStarted ? .protocolViolation : .connectFailed))
        #expect(error?.replyCode == (hasStarted ? .frameError : nil))
    }

    @Test("Cut content: the broker may close the channel in the middle of a content", arguments: [0, 1, 2])
    func cutContent(_ frames: Int) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let deliveries = try await Self.consume(broker, channel)
            let parts = [
                ViolationTests.octets(Self.deliver(deliveries)), ViolationTests.frame(2, 1, Self.header(9)),
                ViolationTests.frame(3, 1, [1, 2]),
            ]
            broker.sendRaw(Array(parts[...frames].joined()))
            try broker.closeChannel(.preconditionFailed, "PRECONDITION_FAILED - cut")
            try await broker.expect(Channel.CloseOk.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { for try await _ in deliveries {} }
            #expect(error?.replyText == "PRECONDITION_FAILED - cut")
            #expect(connection.isOpen)
        }
    }

    @Test("C19: Decimals: the digits are kept as four octets and read as signed or unsigned")
    func decimals() {
        let decimal = FieldDecimal(scale: 2, digits: 0xFFFF_FFFE)
        #expect(decimal.signedDigits == -2)
        #expect(decimal.digits == 4_294_967_294)
    }

    @Test("Integers: a number of 64 bits is not cut to 32", arguments: [Int64.min, Int64(Int32.max) + 1, .max])
    func integers(_ number: Int64) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let headers: FieldTable = ["x": .int64(number)]
            try await channel.publish(
                AMQPMessage("x", properties: BasicProperties(headers: headers)),
                to: .queue("q")
            )
            #expect(try await broker.expectPublish(on: 1).properties.headers?["x"] == .int64(number))
        }
    }

    @Test("C18: Unknown field type: it affects the properties of its message only")
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
}
