// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Wire
import Testing

@testable import AMQP091Testing

// DisorderTests: a broker with Options.disorderSeed answers late and in any order between queues, and in order for one
// queue; everything comes in the end.

@Suite("In-process broker: disorder", .timeLimit(.minutes(1)))
struct DisorderTests {
    private static func withClient(
        seed: UInt64,
        _ body: (InProcessBroker, ScriptedClient) async throws -> Void
    ) async throws {
        var options = InProcessBroker.Options()
        options.disorderSeed = seed
        try await InProcessBroker.withBroker(options) { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            for queue in ["a", "b"] {
                try await client.call(.queueDeclare(.init(queue: queue, durable: true)))
                try await client.call(.queueBind(.init(queue: queue, exchange: "amq.direct", routingKey: queue)))
            }
            try await body(broker, client)
            client.drop()
        }
    }

    @Test("A consume-ok comes after replies to requests sent after the consume, before the deliveries of its consumer")
    func consume() async throws {
        var lates = 0
        for seed: UInt64 in 1...20 {
            try await Self.withClient(seed: seed) { _, client in
                try client.publish("m", key: "a")
                client.sendRaw(
                    try ScriptedBroker.octets(of: .basicConsume(.init(queue: "a", consumerTag: "c")), on: 1)
                        + ScriptedBroker.octets(of: .queueDeclare(.init(queue: "a", passive: true)), on: 1)
                )
                var names: [MethodID] = []
                while names.count < 3 { names.append(try await client.next().method.id) }
                #expect(Set(names) == [Basic.ConsumeOk.id, Queue.DeclareOk.id, Basic.Deliver.id])
                let consumed = try #require(names.firstIndex(of: Basic.ConsumeOk.id))
                #expect(consumed < names.firstIndex(of: Basic.Deliver.id) ?? 0)
                if consumed > 0 { lates += 1 }
            }
        }
        #expect(lates == 20)
    }

    @Test("Deliveries come between a cancel and its cancel-ok, none after it")
    func cancel() async throws {
        var betweens = 0
        for seed: UInt64 in 1...20 {
            try await Self.withClient(seed: seed) { broker, client in
                try await client.call(.basicConsume(.init(queue: "a", consumerTag: "c")))
                for _ in 0..<5 { try client.publish("m", key: "a") }
                try client.send(.basicCancel(.init(consumerTag: "c")))
                var isCancelled = false
                var deliveries = 0
                while !isCancelled {
                    switch try await client.next().method {
                    case .basicDeliver: deliveries += 1
                    case .basicCancelOk: isCancelled = true
                    default: Issue.record("another method")
                    }
                }
                betweens += deliveries
                try await client.expectNothing(before: "a")
                let queue = try #require(await broker.queue("a"))
                #expect(queue.ready + deliveries == 5)
                #expect(queue.unacknowledged == deliveries)
            }
        }
        #expect(betweens > 0)
    }

    @Test("Confirms arrive out of order between queues, each once, also merged")
    func confirms() async throws {
        var (isDisordered, isMerged) = (false, false)
        for seed: UInt64 in 1...10 {
            try await Self.withClient(seed: seed) { _, client in
                try await client.call(.confirmSelect(.init()))
                for number in 0..<40 { try client.publish("m", key: number.isMultiple(of: 2) ? "a" : "b") }
                var confirmed: Set<UInt64> = []
                while confirmed.count < 40 {
                    let ack = try await client.expect(Basic.Ack.self)
                    let tag = ack.deliveryTag.rawValue
                    if ack.multiple {
                        isMerged = true
                        confirmed.formUnion(1...tag)
                    } else {
                        #expect(confirmed.insert(tag).inserted)
                        if confirmed.contains(where: { $0 > tag }) { isDisordered = true }
                    }
                }
            }
        }
        #expect(isDisordered)
        #expect(isMerged)
    }

    @Test("A queue that is deleted during a cancel sends either basic.cancel or cancel-ok, not both, after the reply")
    func crossing() async throws {
        for seed: UInt64 in 1...20 {
            try await Self.withClient(seed: seed) { broker, client in
                try await client.call(.basicConsume(.init(queue: "a", consumerTag: "c")))
                async let isDeleted = broker.deleteQueue("a")
                try await client.call(.basicCancel(.init(consumerTag: "c")))
                #expect(await isDeleted)
                // A cancel by the broker came before the reply, if at all.
                _ = try? await client.call(.queueDeclare(.init(queue: "b", passive: true)))
                try await client.call(.basicQos(.init(prefetchCount: 1)))
            }
        }
    }

    @Test("A channel that ends requeues its pending deliveries")
    func ends() async throws {
        for seed: UInt64 in 1...10 {
            try await Self.withClient(seed: seed) { broker, client in
                for _ in 0..<20 { try client.publish("m", key: "a") }
                try await client.call(.basicConsume(.init(queue: "a", consumerTag: "c")))
                try await client.call(.basicConsume(.init(queue: "a", consumerTag: "automatic", noAck: true)), on: 1)
                try client.send(.basicAck(.init(deliveryTag: DeliveryTag(99))))
                while true {
                    if case .channelClose = try await client.next().method { break }
                }
                try client.send(.channelCloseOk(.init()), on: 1)
                let queue = try #require(await broker.queue("a"))
                #expect(queue.unacknowledged == 0)
                #expect(queue.consumers == 0)
            }
        }
    }

    @Test("A commit waits for its queues; another method before its reply ends the connection")
    func commit() async throws {
        try await Self.withClient(seed: 3) { broker, client in
            try await client.call(.txSelect(.init()))
            for key in ["a", "b", "a"] { try client.publish("m", key: key) }
            try await client.call(.txCommit(.init()))
            #expect(await broker.depth(of: "a") == 2)
            for key in ["a", "b", "a"] { try client.publish("m", key: key) }
            client.sendRaw(
                try ScriptedBroker.octets(of: .txCommit(.init()), on: 1)
                    + ScriptedBroker.octets(of: .basicQos(.init(prefetchCount: 1)), on: 1)
            )
            #expect(try await client.expectClose().code == .channelError)
        }
    }

    // MARK: the values

    @Test("Mail keeps the order of one queue, and the same seed makes the same choices")
    func mail() throws {
        let stage = ModelStage()
        let queues = [try stage.queue("a"), try stage.queue("b"), try stage.queue("c")]
        func order(_ seed: UInt64) -> [UInt64] {
            var mail = ChannelMail(seed: seed, connection: 1, channel: 1)
            for tag: UInt64 in 0..<30 {
                mail.append(.settled(tag, isAccepted: true), from: queues[Int(tag % 3)], due: tag == 29 ? 5 : 0)
            }
            var tags: [UInt64] = []
            while case .settled(let tag, _)? = mail.next(now: 1) { tags.append(tag) }
            #expect(mail.count == 1)
            guard case .settled(29, _)? = mail.next(now: 5) else {
                Issue.record("the event that was not due is lost")
                return []
            }
            #expect(mail.isEmpty)
            return tags
        }
        let tags = order(7)
        for remainder: UInt64 in 0..<3 {
            let own = tags.filter { $0 % 3 == remainder }
            #expect(own == own.sorted())
        }
        #expect(tags != tags.sorted())
        #expect(order(7) == tags)
        #expect(order(8) != tags)
    }

    @Test("Confirms are merged below the oldest open publish, and below one that was refused")
    func merging() {
        typealias Confirm = DisorderedConfirms.Confirm
        var confirms = DisorderedConfirms()
        for tag: UInt64 in 1...6 { confirms.published(tag, queues: tag == 6 ? 2 : 1) }
        for tag: UInt64 in [5, 2, 1] { confirms.settled(tag, isAccepted: true) }
        #expect(
            confirms.take() == [
                Confirm(tag: 2, multiple: true, isAccepted: true), Confirm(tag: 5, multiple: false, isAccepted: true),
            ]
        )
        confirms.settled(6, isAccepted: false)
        #expect(confirms.take() == [])
        confirms.settled(3, isAccepted: false)
        confirms.settled(4, isAccepted: true)
        confirms.settled(6, isAccepted: true)
        // Below 4 nothing else is open: the refusals are merged up to it.
        #expect(
            confirms.take() == [
                Confirm(tag: 4, multiple: false, isAccepted: true), Confirm(tag: 3, multiple: true, isAccepted: false),
                Confirm(tag: 6, multiple: false, isAccepted: false),
            ]
        )
        #expect(confirms.take() == [])
    }
}
