// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("Topology", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct TopologyTests {
    static let kinds: [any AMQPQueueKind] = [
        .classic(
            durable: false,
            exclusive: true,
            messageTimeToLive: .seconds(60),
            expires: .seconds(60),
            maximumLength: 10,
            maximumOctets: 1000,
            overflow: .rejectPublishDeadLetter,
            deadLetter: .queue("nowhere"),
            maximumPriority: 5,
            singleActiveConsumer: true
        ),
        .classic(autoDelete: true),
        .quorum(
            deliveryLimit: 3,
            messageTimeToLive: .seconds(60),
            expires: .seconds(60),
            maximumLength: 10,
            maximumOctets: 1000,
            overflow: .rejectPublish,
            deadLetter: .exchange("", routingKey: "nowhere"),
            deadLetterStrategy: .atLeastOnce,
            singleActiveConsumer: true
        ),
        .stream(maximumAge: .seconds(60), maximumOctets: 1 << 20, maximumSegmentOctets: 1 << 20),
    ]

    @Test(
        "Every kind of queue is taken by the broker with all its options, and declared again unchanged",
        arguments: kinds
    )
    func everyKind(_ kind: any AMQPQueueKind) async throws {
        try await TestBroker.withChannel { channel in
            let name = Self.unique("kind")
            try await channel.declareQueue(name, as: kind)
            try await channel.declareQueue(name, as: kind)
            try await channel.deleteQueue(name)
        }
    }

    @Test("A value outside its range is refused before anything is sent, and the channel stays usable")
    func refusedLocally() async throws {
        try await TestBroker.withChannel { channel in
            let error = await #expect(throws: AMQPError.self) {
                try await channel.declareQueue(as: .classic(maximumPriority: 1000))
            }
            #expect(error?.code == .invalidArgument)
            #expect(error?.isSafeToRetry == true)
            try await channel.declareQueue(as: .classic(durable: false, exclusive: true))
        }
    }

    @Test("A topology is declared as a whole, checks clean, and routes")
    func declares() async throws {
        try await TestBroker.withConnection { connection in
            let names = Names()
            let topology = names.topology(maximumLength: 10)
            let missing = try await connection.check(topology)
            #expect(missing.entries.map(\.finding).filter { $0 == .missing }.count == 4)
            let declared = try await connection.declare(topology)
            #expect(declared.isClean, "\(declared)")
            let checked = try await connection.check(topology)
            #expect(checked.isClean, "\(checked)")
            try await connection.withChannel { channel in
                try await channel.declare(topology)
                try await channel.enableConfirms()
                try await channel.publishAndConfirm(
                    "routed",
                    to: .exchange(names.events, routingKey: "order.paid"),
                    mandatory: true
                )
                let routed = try #require(try await channel.get(names.billing))
                #expect(routed.body.string == "routed")
                try await channel.publishAndConfirm(
                    "not routed",
                    to: .exchange(names.events, routingKey: "other"),
                    mandatory: true
                )
                let unrouted = try #require(try await channel.get(names.rest))
                #expect(unrouted.body.string == "not routed")
                try await names.delete(on: channel)
            }
        }
    }

    @Test("A topology that differs is reported with every argument that does")
    func differs() async throws {
        try await TestBroker.withConnection { connection in
            let names = Names()
            let declared = try await connection.declare(names.topology(maximumLength: 10))
            #expect(declared.isClean, "\(declared)")
            let wanted = AMQPTopology {
                $0.exchange(names.events, type: .direct, durable: false)
                $0.queue(
                    names.billing,
                    as: .classic(messageTimeToLive: .seconds(1), expires: .seconds(60), maximumLength: 20)
                )
                $0.queue("")
            }
            let report = try await connection.check(wanted)
            #expect(report.entries.count == 3)
            guard case .differs(let exchange) = report.entries[0].finding,
                case .differs(let queue) = report.entries[1].finding,
                case .failed(let unnamed) = report.entries[2].finding
            else {
                Issue.record("\(report)")
                return
            }
            #expect(Set(exchange.map(\.argument)) == ["type", "durable", "alternate-exchange"])
            #expect(exchange.first { $0.argument == "type" }?.actual == "topic")
            #expect(Set(queue.map(\.argument)) == ["x-max-length", "x-message-ttl", "x-expires"])
            #expect(queue.first { $0.argument == "x-max-length" }?.wanted == "20")
            #expect(queue.first { $0.argument == "x-max-length" }?.actual == "10")
            #expect(queue.first { $0.argument == "x-message-ttl" }?.actual == nil)
            #expect(unnamed.code == .invalidArgument)

            // Declaring all the same changes nothing, and names what stands in the way.
            let declaredAgain = try await connection.declare(wanted)
            #expect(declaredAgain.problems.count == 3)
            try await connection.withChannel { try await names.delete(on: $0) }
        }
    }

    @Test("Asking whether a queue or exchange exists costs no channel")
    func exists() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(exclusive: true)
                try await channel.publish("one", to: .queue(queue.name))
                #expect(try await connection.queueExists(queue.name))
                #expect(try await !connection.queueExists("no such queue"))
                #expect(try await connection.inspectQueue(queue.name)?.name == queue.name)
                #expect(try await connection.inspectQueue("no such queue") == nil)
                #expect(try await connection.exchangeExists("amq.topic"))
                #expect(try await !connection.exchangeExists("no such exchange"))
                #expect(channel.isOpen)
                #expect(try await channel.get(queue.name)?.body.string == "one")
            }
        }
    }

    @Test("A queue that is exclusive to another connection is an error with 405, and the connection stays open")
    func locked() async throws {
        try await TestBroker.withConnection { owner in
            let channel = try await owner.openChannel()
            let queue = try await channel.declareQueue(exclusive: true)
            try await TestBroker.withConnection { other in
                let error = await #expect(throws: AMQPError.self) { try await other.queueExists(queue.name) }
                #expect(error?.replyCode == .resourceLocked)
                let report = try await other.check(AMQPTopology { $0.queue(queue.name) })
                guard case .failed(let refusal) = report.entries[0].finding else {
                    Issue.record("\(report)")
                    return
                }
                #expect(refusal.replyCode == .resourceLocked)
                #expect(try await !other.queueExists("no such queue"))
            }
        }
    }

    static func unique(_ name: String) -> String { "\(name)-\(UInt64.random(in: 0 ..< .max))" }

    struct Names {
        let events = unique("events")
        let unrouted = unique("unrouted")
        let billing = unique("billing")
        let rest = unique("rest")

        func topology(maximumLength: Int) -> AMQPTopology {
            AMQPTopology {
                $0.exchange(self.unrouted, type: .fanout)
                $0.exchange(self.events, type: .topic, alternateExchange: self.unrouted)
                $0.queue(
                    self.billing,
                    as: .classic(maximumLength: maximumLength),
                    boundTo: self.events,
                    routingKey: "order.*"
                )
                $0.queue(self.rest, as: .quorum(deliveryLimit: 5), boundTo: self.unrouted)
            }
        }

        func delete(on channel: AMQPChannel) async throws {
            for queue in [self.billing, self.rest] { try await channel.deleteQueue(queue) }
            for exchange in [self.events, self.unrouted] { try await channel.deleteExchange(exchange) }
        }
    }
}
