// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire

// Quorum queues: what counts towards the delivery limit, order, priorities, late acknowledgements.

extension BehaviourCase {
    /// How a message is returned to its queue.
    private enum Return: String {
        case reject = "basic.reject"
        case nack = "basic.nack"
        case recover = "basic.recover"
        case close = "the end of its channel"

        func run(_ client: ScriptedClient, tag: UInt64) async throws {
            switch self {
            case .reject: try client.reject(tag, requeue: true)
            case .nack: try client.nack(tag, requeue: true)
            case .recover: try await client.call(.basicRecover(.init(requeue: true)))
            case .close:
                let close = Channel.Close(replyCode: .success, replyText: "", classID: 0, methodID: 0)
                try await client.call(.channelClose(close))
                try await client.call(.channelOpen(.init()))
            }
        }
    }

    private static func counts(_ event: ScriptedClient.Event) -> [Int64] {
        ["x-delivery-count", "x-acquired-count"].map { event.properties.headers?[$0]?.integerValue ?? 0 }
    }

    /// With `x-delivery-limit` 2: the third return gives the message up.
    private static func limitCase(_ how: Return, _ releases: Releases, acquiredCounts: Bool) -> BehaviourCase {
        BehaviourCase("a return by \(how.rawValue) counts towards x-delivery-limit", releases) { stage in
            let n = stage.name
            try await Self.deadLetterQueue(stage, ["x-queue-type": "quorum", "x-delivery-limit": 2])
            try stage.client.publish("m", key: n)
            for count: Int64 in 0...2 {
                let event = try await stage.client.getSoon(n, noAck: false)
                guard case .basicGetOk(let ok) = event.method else { throw Difference(description: "no message") }
                try expect(Self.counts(event), [count, acquiredCounts ? count : 0], "counts of the headers")
                try expect(ok.redelivered, count > 0, "redelivered")
                try await how.run(stage.client, tag: ok.deliveryTag.rawValue)
            }
            try Self.expectDeath(try await stage.client.getSoon("\(n).2"), stage, "delivery_limit")
        }
    }

    private static func uncountedCase(_ how: Return) -> BehaviourCase {
        BehaviourCase("a return by \(how.rawValue) does not count towards x-delivery-limit", .since4_3) { stage in
            let n = stage.name
            try await Self.deadLetterQueue(stage, ["x-queue-type": "quorum", "x-delivery-limit": 2])
            try stage.client.publish("m", key: n)
            for count: Int64 in 0...5 {
                let event = try await stage.client.getSoon(n, noAck: false)
                guard case .basicGetOk(let ok) = event.method else { throw Difference(description: "no message") }
                try expect(Self.counts(event), [0, count], "counts of the headers")
                try await how.run(stage.client, tag: ok.deliveryTag.rawValue)
            }
            try expect(try await stage.client.counts("\(n).2"), [0, 0], "dead letters")
        }
    }

    /// Rejects until the message is given up, or 25 times.
    private static func rejectionsCase(
        _ title: String,
        _ releases: Releases,
        _ arguments: FieldTable,
        deliveries: Int
    ) -> BehaviourCase {
        BehaviourCase(title, releases) { stage in
            let n = stage.name
            var all = arguments
            all["x-queue-type"] = "quorum"
            try await Self.deadLetterQueue(stage, all)
            try stage.client.publish("m", key: n)
            try await stage.client.consume(n)
            for _ in 0..<deliveries {
                let (deliver, _) = try await stage.client.delivery()
                try stage.client.reject(deliver.deliveryTag.rawValue, requeue: true)
            }
            guard deliveries < 25 else {
                _ = try await stage.client.delivery()
                return
            }
            try Self.expectDeath(try await stage.client.getSoon("\(n).2"), stage, "delivery_limit")
        }
    }

    private static func priorityCase(_ title: String, _ releases: Releases, _ order: [String]) -> BehaviourCase {
        BehaviourCase(title, releases) { stage in
            let n = stage.name
            try await stage.client.declare(n, ["x-queue-type": "quorum"])
            try await stage.client.confirmSelect()
            let priorities: [UInt8?] = [nil, 1, 9, 5, 4, 2, 9, 5, 1, nil, 255, 0]
            for (number, priority) in priorities.enumerated() {
                let properties = BasicProperties(priority: priority)
                try stage.client.publish(
                    "\(number):\(priority.map { "\($0)" } ?? "-")",
                    key: n,
                    properties: properties
                )
            }
            _ = try await stage.client.confirms(upTo: UInt64(priorities.count))
            try await stage.client.waitFor(n, messages: UInt32(priorities.count))
            try expect(try await stage.client.drain(n), order, "order")
        }
    }

    /// Two of four messages are taken, and returned in the other order.
    private static func returnOrderCase(
        _ title: String,
        _ releases: Releases,
        _ arguments: FieldTable,
        _ order: [String]
    ) -> BehaviourCase {
        BehaviourCase(title, releases) { stage in
            let n = stage.name
            var all = arguments
            all["x-queue-type"] = "quorum"
            try await stage.client.declare(n, all)
            for number in 0...3 { try stage.client.publish("\(number)", key: n) }
            try await stage.client.waitFor(n, messages: 4)
            for _ in 0..<2 { _ = try await stage.client.get(n, noAck: false) }
            try stage.client.reject(2, requeue: true)
            try stage.client.reject(1, requeue: true)
            try await stage.client.waitFor(n, messages: 4)
            try expect(try await stage.client.drain(n), order, "order")
        }
    }

    static let quorum: [BehaviourCase] = [
        limitCase(.reject, .before4_3, acquiredCounts: false),
        limitCase(.nack, .before4_3, acquiredCounts: false),
        limitCase(.recover, .before4_3, acquiredCounts: false),
        limitCase(.close, .before4_3, acquiredCounts: false),
        limitCase(.reject, .since4_3, acquiredCounts: true),
        limitCase(.close, .since4_3, acquiredCounts: true),
        uncountedCase(.nack),
        uncountedCase(.recover),
        rejectionsCase("without x-delivery-limit a message is never given up", .before4, [:], deliveries: 25),
        rejectionsCase("without x-delivery-limit the limit is 20", .since4, [:], deliveries: 21),
        rejectionsCase("an x-delivery-limit of -1 is none", .since4, ["x-delivery-limit": -1], deliveries: 25),
        rejectionsCase("an x-delivery-limit of -1 is 0", .before4, ["x-delivery-limit": -1], deliveries: 1),
        BehaviourCase("basic.get says x-delivery-count 0 of a quorum queue", .before4) { stage in
            try await stage.client.declare(stage.name, ["x-queue-type": "quorum"])
            try stage.client.publish("m", key: stage.name)
            let headers = try await stage.client.getSoon(stage.name).properties.headers
            try expect(headers?["x-delivery-count"], .int64(0), "x-delivery-count")
        },
        BehaviourCase("the first delivery of a quorum queue has no x-delivery-count", .since4) { stage in
            try await stage.client.declare(stage.name, ["x-queue-type": "quorum"])
            try stage.client.publish("m", key: stage.name)
            let headers = try await stage.client.getSoon(stage.name).properties.headers ?? FieldTable()
            try expect(headers.names, [], "headers")
        },
        priorityCase(
            "a quorum queue ignores priorities",
            .before4,
            ["0:-", "1:1", "2:9", "3:5", "4:4", "5:2", "6:9", "7:5", "8:1", "9:-", "10:255", "11:0"]
        ),
        priorityCase(
            "a quorum queue hands out two messages of a priority above 4, then one other",
            .only4_0,
            ["2:9", "3:5", "0:-", "6:9", "7:5", "1:1", "10:255", "4:4", "5:2", "8:1", "9:-", "11:0"]
        ),
        priorityCase(
            "a quorum queue has 32 priorities, 4 by default",
            .since4_3,
            ["10:255", "2:9", "6:9", "3:5", "7:5", "0:-", "4:4", "9:-", "5:2", "1:1", "8:1", "11:0"]
        ),
        returnOrderCase(
            "a quorum queue without a limit appends what is returned",
            .before4,
            [:],
            ["2", "3", "1", "0"]
        ),
        returnOrderCase("a quorum queue hands out first what is returned", .since4, [:], ["1", "0", "2", "3"]),
        returnOrderCase(
            "a quorum queue with a limit hands out first what is returned",
            .all,
            ["x-delivery-limit": 10],
            ["1", "0", "2", "3"]
        ),
        BehaviourCase("a quorum queue takes the arguments of newer releases") { stage in
            try await stage.client.declare(
                stage.name,
                [
                    "x-queue-type": "quorum", "x-consumer-timeout": 70_000, "x-consumer-disconnected-timeout": 70_000,
                    "x-delayed-retry-type": "all", "x-delayed-retry-min": 1000, "x-delayed-retry-max": 70_000,
                    "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
                    "x-queue-leader-locator": "balanced", "x-quorum-initial-group-size": 1,
                ]
            )
        },
        BehaviourCase("a dead letter of at-least-once is kept while no queue takes it") { stage in
            let n = stage.name
            try await stage.client.declare(
                n,
                [
                    "x-queue-type": "quorum", "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": .string("\(n).2"), "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                ]
            )
            try stage.client.publish("m", key: n)
            try stage.client.reject(try await stage.client.getSoonUnacknowledged(n), requeue: false)
            try await stage.client.waitFor(n, messages: 0)
        },
        BehaviourCase("a late acknowledgement costs the consumer its subscription, not the channel", .since4_3) {
            stage in
            let n = stage.name
            try await stage.client.declare(n, ["x-queue-type": "quorum", "x-consumer-timeout": 300])
            try await stage.client.prefetch(1)
            try await stage.client.consume(n)
            try stage.client.publish("m", key: n)
            try expect(try await stage.client.delivery().event.text, "m", "body")
            try expect(
                try await stage.client.expect(Basic.Cancel.self),
                .init(consumerTag: "c", noWait: true),
                "cancel"
            )
            try await stage.client.waitFor(n, messages: 1)
            // The consumer stays until the client cancels it too.
            try expect(try await stage.client.counts(n), [1, 1], "counts")
            try stage.client.send(.basicCancel(.init(consumerTag: "c", noWait: true)))
            try stage.client.ack(1)
            try expect(try await stage.client.counts(n), [1, 0], "counts after the answer")
            let event = try await stage.client.getSoon(n)
            try expect(Self.counts(event), [0, 1], "counts of the headers")
        },
        BehaviourCase("a late consumer lets another single active one go on", .since4_3) { stage in
            let n = stage.name
            let arguments: FieldTable = ["x-queue-type": "quorum", "x-single-active-consumer": true]
            try await stage.client.declare(n, arguments)
            try await stage.client.prefetch(1)
            try await stage.client.consume(n, ["x-consumer-timeout": 300])
            let other = try await stage.another()
            try await other.consume(n, tag: "other")
            try stage.client.publish("m", key: n)
            _ = try await stage.client.delivery()
            _ = try await stage.client.expect(Basic.Cancel.self)
            let (deliver, event) = try await other.delivery()
            try expect(deliver.redelivered, true, "redelivered")
            try expect(Self.counts(event), [0, 1], "counts of the headers")
        },
    ]
}
