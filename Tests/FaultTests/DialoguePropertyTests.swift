// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// DialoguePropertyTests: dialogues made by a seed, legal and illegal steps mixed, against a model that counts. First octets
// of a client without a library to the in-process broker, then the client to the same broker. After each step both sides
// agree; at the end the queues hold exactly what the model says. Every second seed runs against a broker whose queues answer
// late and in any order (Options.disorderSeed). The client's machines by themselves: ReplayTests.

@Suite("Seeded dialogues", .timeLimit(.minutes(5)))
struct DialoguePropertyTests {
    /// Every second seed makes the broker disordered.
    private static func options(_ seed: Int) -> InProcessBroker.Options {
        var options = InProcessBroker.Options()
        if seed.isMultiple(of: 2) { options.disorderSeed = UInt64(seed) }
        return options
    }

    // MARK: octets to the broker

    /// The invariants of one channel.
    private struct Side {
        var isOpen = false
        /// The client has closed it and waits for the reply.
        var isClosing = false
        /// Mandatory publishes without a route that have not come back.
        var returnsDue = 0
        var published: UInt64 = 0
        var confirmed: Set<UInt64> = []
        var lastTag: UInt64 = 0
        var unsettled: Set<UInt64> = []
        var isConsuming = false
    }

    private struct Conversation {
        let client: ScriptedClient
        /// Confirms and others come after the replies to later requests.
        let isDisordered: Bool
        var sides: [UInt16: Side] = [:]
        /// Messages that are in the queue or held by a channel.
        var held = 0
        /// Messages in the second queue.
        var copies = 0
        var refusals = 0

        /// Everything that is still to come on open channels.
        mutating func hearRest() async throws {
            let deadline = ContinuousClock.now + .seconds(10)
            while ContinuousClock.now < deadline {
                try await self.hear()
                let open = self.sides.values.filter { $0.isOpen }
                if open.allSatisfy({ $0.confirmed.count == Int($0.published) && $0.returnsDue == 0 }) { return }
                try await Task.sleep(for: .milliseconds(1))
            }
            Issue.record("confirms or returns are missing: \(self.sides)")
        }

        /// Everything that has come: confirms are written behind the answers of their turn, so it takes two.
        mutating func hear() async throws {
            try await self.hearOnce()
            try await self.hearOnce()
        }

        private mutating func hearOnce() async throws {
            // On a channel that takes part in nothing else.
            try self.client.send(.queueDeclare(.init(queue: "q", passive: true)), on: 9)
            while true {
                let event = try await self.client.next()
                if event.channel == 9, case .queueDeclareOk = event.method { return }
                try self.heard(event)
            }
        }

        private mutating func heard(_ event: ScriptedClient.Event) throws {
            guard var side = self.sides[event.channel] else {
                Issue.record("\(event.method) on channel \(event.channel)")
                return
            }
            switch event.method {
            case .channelCloseOk: side = Side()
            case _ where side.isClosing: break
            case .basicReturn(let returned):
                #expect(returned.routingKey == "missing")
                side.returnsDue -= 1
            case .basicDeliver(let deliver): Self.delivered(deliver.deliveryTag.rawValue, &side)
            case .basicGetOk(let ok): Self.delivered(ok.deliveryTag.rawValue, &side)
            case .basicAck(let ack):
                let tag = ack.deliveryTag.rawValue
                #expect(tag >= 1 && tag <= side.published, "a confirm of what was not published")
                let tags = ack.multiple ? Set(1...tag).subtracting(side.confirmed) : [tag]
                #expect(side.confirmed.isDisjoint(with: tags), "\(tag) was confirmed twice")
                side.confirmed.formUnion(tags)
            case .channelClose(let close):
                #expect([.notFound, .preconditionFailed].contains(close.replyCode))
                self.refusals += 1
                try self.client.send(.channelCloseOk(.init()), on: event.channel)
                side = Side()
            default: break
            }
            self.sides[event.channel] = side
        }

        private static func delivered(_ tag: UInt64, _ side: inout Side) {
            #expect(tag == side.lastTag + 1, "delivery tags have gaps")
            side.lastTag = tag
            side.unsettled.insert(tag)
        }

        mutating func step(_ generator: inout SeededGenerator) async throws {
            let number = UInt16(1 + generator.below(3))
            guard var side = self.sides[number], side.isOpen else {
                if self.sides[number]?.isClosing == true { return try await self.hear() }
                try self.client.send(.channelOpen(.init()), on: number)
                try self.client.send(.confirmSelect(.init()), on: number)
                self.sides[number] = Side(isOpen: true)
                return try await self.hear()
            }
            switch generator.below(12) {
            case 0...3:
                side.published += 1
                self.sides[number] = side
                try self.publish(number, &generator)
            case 4: try self.client.send(.basicGet(.init(queue: "q", noAck: false)), on: number)
            case 5 where !side.isConsuming:
                self.sides[number]?.isConsuming = true
                try self.client.send(.basicQos(.init(prefetchCount: UInt16(1 + generator.below(5)))), on: number)
                try self.client.send(.basicConsume(.init(queue: "q", consumerTag: "c")), on: number)
            case 6 where side.isConsuming:
                self.sides[number]?.isConsuming = false
                try self.client.send(.basicCancel(.init(consumerTag: "c")), on: number)
            case 7, 8: try self.settle(number, &generator)
            case 9: try self.refused(number, &generator)
            case 10:
                self.sides[number] = Side(isClosing: true)
                try self.client.send(
                    .channelClose(.init(replyCode: .success, replyText: "", classID: 0, methodID: 0)),
                    on: number
                )
            default: break
            }
            try await self.hear()
            if !self.isDisordered, let side = self.sides[number], side.isOpen {
                #expect(side.returnsDue == 0)
                #expect(side.confirmed.count == Int(side.published), "a publish without a confirm")
            }
        }

        /// To the one queue, the other, both or none.
        private mutating func publish(_ number: UInt16, _ generator: inout SeededGenerator) throws {
            switch generator.below(4) {
            case 0:
                self.held += 1
                try self.client.publish("m", key: "q", on: number)
            case 1:
                self.copies += 1
                try self.client.publish("m", key: "copies", on: number)
            case 2:
                self.held += 1
                self.copies += 1
                try self.client.publish("m", to: "amq.fanout", key: "q", on: number)
            default:
                self.sides[number]?.returnsDue += 1
                try self.client.publish("m", to: "amq.direct", key: "missing", mandatory: true, on: number)
            }
        }

        private mutating func settle(_ number: UInt16, _ generator: inout SeededGenerator) throws {
            guard let tag = self.sides[number]?.unsettled.sorted().randomElement(using: &generator) else { return }
            let multiple = generator.below(3) == 0
            let tags = self.sides[number]?.unsettled.filter { multiple ? $0 <= tag : $0 == tag } ?? []
            self.sides[number]?.unsettled.subtract(tags)
            switch generator.below(3) {
            case 0:
                self.held -= tags.count
                try self.client.send(.basicAck(.init(deliveryTag: DeliveryTag(tag), multiple: multiple)), on: number)
            case 1:
                try self.client.send(
                    .basicNack(.init(deliveryTag: DeliveryTag(tag), multiple: multiple, requeue: true)),
                    on: number
                )
            default:
                self.held -= tags.count
                try self.client.send(
                    .basicNack(.init(deliveryTag: DeliveryTag(tag), multiple: multiple, requeue: false)),
                    on: number
                )
            }
        }

        /// Closes of the channel alone.
        private mutating func refused(_ number: UInt16, _ generator: inout SeededGenerator) throws {
            switch generator.below(4) {
            case 0: try self.client.send(.basicAck(.init(deliveryTag: DeliveryTag(1 << 40))), on: number)
            case 1: try self.client.publish("x", to: "missing", key: "q", on: number)
            case 2:
                let declare = Queue.Declare(queue: "q", durable: true, autoDelete: true)
                try self.client.send(.queueDeclare(declare), on: number)
            default: try self.client.send(.basicConsume(.init(queue: "missing", consumerTag: "x")), on: number)
            }
        }
    }

    @Test("Random dialogues keep tags, confirms and messages, and a refusal closes one channel", arguments: 1...12)
    func broker(seed: Int) async throws {
        try await InProcessBroker.withBroker(Self.options(seed)) { broker in
            var generator = SeededGenerator(seed: UInt64(seed))
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            try await client.call(.channelOpen(.init()), on: 9)
            try await client.call(.queueDeclare(.init(queue: "q", durable: true)), on: 9)
            try await client.call(.queueDeclare(.init(queue: "copies", durable: true)), on: 9)
            for queue in ["q", "copies"] {
                try await client.call(.queueBind(.init(queue: queue, exchange: "amq.fanout")), on: 9)
            }
            try await client.call(.confirmSelect(.init()), on: 1)
            var conversation = Conversation(
                client: client,
                isDisordered: seed.isMultiple(of: 2),
                sides: [1: Side(isOpen: true)]
            )
            for _ in 0..<250 { try await conversation.step(&generator) }
            try await conversation.hearRest()
            #expect(conversation.refusals > 0)
            #expect(conversation.held > 0)
            client.drop()
            try await broker.waitUntilNobodyIsConnected()
            // Unacknowledged messages came back; those that were settled or never published did not.
            #expect(await broker.depth(of: "q") == conversation.held)
            #expect(await broker.depth(of: "copies") == conversation.copies)
        }
    }

    // MARK: the client

    @Test(
        "Any use of the client, right and wrong, leaves each publish one outcome and the queue what it says",
        arguments: 1...12
    )
    func client(seed: Int) async throws {
        try await InProcessBroker.withBroker(Self.options(seed)) { broker in
            var generator = SeededGenerator(seed: UInt64(seed))
            let connection = try await broker.connect()
            var channel = try await Self.channel(connection)
            let publisher = try await connection.openPublisher()
            var receipts: [AMQPPublishReceipt] = []
            var deliveries: [AMQPDelivery] = []
            var held = 0
            var confirmed = 0
            for _ in 0..<250 {
                switch generator.below(12) {
                case 0...3: receipts.append(try await publisher.enqueue("m", to: .queue("q")))
                case 4, 5:
                    for receipt in receipts {
                        let outcome = await receipt.outcome()
                        #expect(outcome == .confirmed)
                        #expect(receipt.knownOutcome == outcome)
                        confirmed += 1
                        held += 1
                    }
                    receipts = []
                case 6: if let delivery = try await channel.get("q") { deliveries.append(delivery) }
                case 7, 8:
                    guard !deliveries.isEmpty else { break }
                    let delivery = deliveries.remove(at: generator.below(deliveries.count))
                    let requeues = generator.below(2) == 0
                    if requeues { try delivery.nack(requeue: true) } else { try delivery.ack() }
                    if !requeues { held -= 1 }
                    let twice = #expect(throws: AMQPError.self) { try delivery.ack() }
                    #expect(twice?.code == .alreadySettled)
                case 9:
                    let error = await #expect(throws: AMQPError.self) {
                        try await channel.declareQueue("q\(String(repeating: "x", count: 255))")
                    }
                    #expect(error?.code == .invalidArgument)
                case 10:
                    // Refused by the broker: the channel is gone, the connection and other channels stay.
                    // Settlements go out behind the request that is made next: not this one.
                    _ = try await channel.inspectQueue("q")
                    let error = await #expect(throws: AMQPError.self) { try await channel.inspectQueue("missing") }
                    #expect(error?.replyCode == .notFound)
                    for delivery in deliveries {
                        let stale = #expect(throws: AMQPError.self) { try delivery.ack() }
                        #expect(stale?.code == .channelClosed)
                    }
                    deliveries = []
                    channel = try await Self.channel(connection)
                default:
                    let task = Task { [channel] in try await channel.inspectQueue("q") }
                    task.cancel()
                    _ = await task.result
                }
                #expect(connection.isOpen)
                #expect(channel.isOpen)
            }
            for receipt in receipts where await receipt.outcome() == .confirmed { held += 1 }
            try await connection.close()
            try await broker.waitUntilNobodyIsConnected()
            #expect(await broker.depth(of: "q") == held)
            #expect(confirmed > 0)
        }
    }

    private static func channel(_ connection: AMQPConnection) async throws -> AMQPChannel {
        let channel = try await connection.openChannel()
        try await channel.declareQueue("q")
        return channel
    }
}
