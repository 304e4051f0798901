// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// DialoguePropertyTests: dialogues made by a seed, legal and illegal steps mixed, against a model that counts. First octets
// of a client without a library to the in-process broker, then the client to the same broker. After each step both sides
// agree; at the end the queue holds exactly what the model says. The client's machines by themselves: ReplayTests.

@Suite("Dialogues by a seed", .timeLimit(.minutes(5)))
struct DialoguePropertyTests {
    // MARK: octets to the broker

    /// What must be true of one channel.
    private struct Side {
        var isOpen = false
        var published: UInt64 = 0
        var confirmed: Set<UInt64> = []
        var lastTag: UInt64 = 0
        var unsettled: Set<UInt64> = []
        var isConsuming = false
    }

    private struct Conversation {
        let client: ScriptedClient
        var sides: [UInt16: Side] = [:]
        /// Messages that are in the queue or held by a channel.
        var held = 0
        var refusals = 0

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
                try self.client.send(.channelOpen(.init()), on: number)
                try self.client.send(.confirmSelect(.init()), on: number)
                self.sides[number] = Side(isOpen: true)
                return try await self.hear()
            }
            switch generator.below(12) {
            case 0...3:
                side.published += 1
                self.held += 1
                self.sides[number] = side
                try self.client.publish("m", key: "q", on: number)
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
                self.sides[number] = Side()
                try self.client.send(
                    .channelClose(.init(replyCode: .success, replyText: "", classID: 0, methodID: 0)),
                    on: number
                )
            default: break
            }
            try await self.hear()
            if let side = self.sides[number], side.isOpen {
                #expect(side.confirmed.count == Int(side.published), "a publish without a confirm")
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

        /// What closes the channel, and nothing else.
        private mutating func refused(_ number: UInt16, _ generator: inout SeededGenerator) throws {
            switch generator.below(4) {
            case 0: try self.client.send(.basicAck(.init(deliveryTag: DeliveryTag(1 << 40))), on: number)
            case 1: try self.client.publish("x", to: "missing", key: "q", on: number)
            case 2: try self.client.send(.queueDeclare(.init(queue: "q", durable: true)), on: number)
            default: try self.client.send(.basicConsume(.init(queue: "missing", consumerTag: "x")), on: number)
            }
        }
    }

    @Test("Any dialogue keeps tags, confirms and messages, and a refusal closes one channel", arguments: 1...12)
    func broker(seed: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            var generator = SeededGenerator(seed: UInt64(seed))
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            try await client.call(.channelOpen(.init()), on: 9)
            try await client.call(.queueDeclare(.init(queue: "q")), on: 9)
            try await client.call(.confirmSelect(.init()), on: 1)
            var conversation = Conversation(client: client, sides: [1: Side(isOpen: true)])
            for _ in 0..<250 { try await conversation.step(&generator) }
            #expect(conversation.refusals > 0)
            #expect(conversation.held > 0)
            client.drop()
            try await broker.waitUntilNobodyIsConnected()
            // What channels held has come back; what was settled or never published has not.
            #expect(await broker.depth(of: "q") == conversation.held)
        }
    }

    // MARK: the client

    @Test(
        "Any use of the client, right and wrong, leaves each publish one outcome and the queue what it says",
        arguments: 1...12
    )
    func client(seed: Int) async throws {
        try await InProcessBroker.withBroker { broker in
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
