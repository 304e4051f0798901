// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire

// Consumers: who gets what, in which order, and what comes back.

extension BehaviourCase {
    /// A prefetch of 1 and two consumers on one channel.
    private static func prefetchCase(
        _ title: String,
        _ releases: Releases,
        global: Bool,
        deliveries: Int
    ) -> BehaviourCase {
        BehaviourCase(title, releases) { stage in
            let n = stage.name
            try await stage.client.declare(n)
            for number in 1...5 { try stage.client.publish("\(number)", key: n) }
            try await stage.client.waitFor(n, messages: 5)
            try await stage.client.prefetch(1, global: global)
            try await stage.client.consume(n, tag: "a")
            try await stage.client.consume(n, tag: "b")
            for _ in 0..<deliveries { _ = try await stage.client.delivery() }
            try await stage.client.expectNothing(before: n)
        }
    }

    /// Header fields as they are published and as they are delivered; names can occur twice.
    private static func headersCase(
        _ title: String,
        _ releases: Releases,
        _ published: [(String, FieldValue)],
        _ delivered: [(String, FieldValue)]
    ) -> BehaviourCase {
        BehaviourCase(title, releases) { stage in
            try await stage.client.declare(stage.name)
            let properties = BasicProperties(headers: FieldTable(published))
            try stage.client.publish("m", key: stage.name, properties: properties)
            let headers = try await stage.client.getSoon(stage.name).properties.headers ?? FieldTable()
            try expect(headers.map { "\($0.name): \($0.value)" }, delivered.map { "\($0): \($1)" }, "headers")
        }
    }

    private static let unsorted: [(String, FieldValue)] = [
        ("b", 1), ("a", ["z": 1, "y": 2]), ("aa", 3), ("B", 4), ("b", 5),
    ]

    static let consuming: [BehaviourCase] = [
        headersCase("headers keep their order and every field of a name", .before4, unsorted, unsorted),
        headersCase(
            "headers are sorted by name, and the first field of a name is kept",
            .since4,
            unsorted,
            [("B", 4), ("a", ["z": 1, "y": 2]), ("aa", 3), ("b", 1)]
        ),
        BehaviourCase("deliveries carry tag, exchange and key, and the message as it was published") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try await stage.client.bind(n, "amq.topic", n)
            let properties = BasicProperties(
                contentType: "text/plain",
                headers: ["a": [1, "two", ["three": true]], "f": 1.5, "n": .void],
                deliveryMode: 2,
                priority: 3,
                correlationID: "c",
                replyTo: "r",
                messageID: "m",
                timestamp: 1_700_000_000,
                type: "t",
                appID: "app"
            )
            try stage.client.publish("body", to: "amq.topic", key: n, properties: properties)
            try await stage.client.consume(n, tag: "mine")
            let (deliver, event) = try await stage.client.delivery()
            let expected = Basic.Deliver(
                consumerTag: "mine",
                deliveryTag: DeliveryTag(1),
                redelivered: false,
                exchange: "amq.topic",
                routingKey: n
            )
            try expect(deliver, expected, "deliver")
            try expect(event.text, "body", "body")
            try expect(event.properties, properties, "properties")
        },
        BehaviourCase("a consumer without a tag gets one") { stage in
            try await stage.client.declare(stage.name)
            guard case .basicConsumeOk(let ok) = try await stage.client.call(.basicConsume(.init(queue: stage.name)))
            else { throw Difference(description: "no consume-ok") }
            try expect(ok.consumerTag.hasPrefix("amq.ctag-"), true, "prefix of \(ok.consumerTag)")
        },
        BehaviourCase("prefetch holds deliveries back until something is acknowledged") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            for number in 1...4 { try stage.client.publish("\(number)", key: n) }
            try await stage.client.prefetch(2)
            try await stage.client.consume(n)
            for number in 1...2 { try expect(try await stage.client.delivery().event.text, "\(number)", "delivery") }
            try await stage.client.expectNothing(before: n)
            try stage.client.ack(1)
            try expect(try await stage.client.delivery().event.text, "3", "delivery after the ack")
            try await stage.client.expectNothing(before: n)
            try stage.client.ack(3, multiple: true)
            try expect(try await stage.client.delivery().event.text, "4", "delivery after the acks")
        },
        Self.prefetchCase("prefetch counts per consumer", .all, global: false, deliveries: 2),
        Self.prefetchCase("global prefetch counts for all of the channel", .before4_3, global: true, deliveries: 1),
        Self.prefetchCase("global prefetch counts per consumer", .since4_3, global: true, deliveries: 2),
        BehaviourCase("prefetch does not apply to automatic acknowledgement") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            for number in 1...4 { try stage.client.publish("\(number)", key: n) }
            try await stage.client.prefetch(1)
            try await stage.client.consume(n, noAck: true)
            for number in 1...4 { try expect(try await stage.client.delivery().event.text, "\(number)", "delivery") }
            try expect(try await stage.client.counts(n), [0, 1], "counts")
        },
        BehaviourCase("consumers take turns") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try await stage.client.consume(n, tag: "a", noAck: true)
            try await stage.client.consume(n, tag: "b", noAck: true)
            var tags: [String] = []
            for number in 1...4 {
                try stage.client.publish("\(number)", key: n)
                tags.append(try await stage.client.delivery().deliver.consumerTag)
            }
            try expect(tags, ["a", "b", "a", "b"], "turns")
        },
        BehaviourCase("a consumer of higher priority comes first while it can take more") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try await stage.client.prefetch(2)
            try await stage.client.consume(n, tag: "low")
            try await stage.client.consume(n, tag: "high", ["x-priority": 10])
            var tags: [String] = []
            for number in 1...4 {
                try stage.client.publish("\(number)", key: n)
                tags.append(try await stage.client.delivery().deliver.consumerTag)
            }
            try expect(tags, ["high", "high", "low", "low"], "turns")
        },
        BehaviourCase("a single active consumer gets all, then the next one") { stage in
            let n = stage.name
            try await stage.client.declare(n, ["x-single-active-consumer": true])
            try await stage.client.consume(n, tag: "first", noAck: true)
            try await stage.client.consume(n, tag: "second", noAck: true)
            var tags: [String] = []
            for number in 1...4 {
                if number == 3 { try await stage.client.call(.basicCancel(.init(consumerTag: "first"))) }
                try stage.client.publish("\(number)", key: n)
                tags.append(try await stage.client.delivery().deliver.consumerTag)
            }
            try expect(tags, ["first", "first", "second", "second"], "consumers")
        },
        BehaviourCase("requeued messages come back first, marked as redelivered") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            for number in 1...3 { try stage.client.publish("\(number)", key: n) }
            try await stage.client.waitFor(n, messages: 3)
            _ = try await stage.client.get(n, noAck: false)
            _ = try await stage.client.get(n, noAck: false)
            try stage.client.nack(2, multiple: true, requeue: true)
            for (number, redelivered) in [("1", true), ("2", true), ("3", false)] {
                let event = try await stage.client.getSoon(n)
                guard case .basicGetOk(let ok) = event.method else { throw Difference(description: "no message") }
                try expect(event.text, number, "body")
                try expect(ok.redelivered, redelivered, "redelivered of \(number)")
            }
        },
        BehaviourCase("reject without requeue drops the message") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try stage.client.publish("m", key: n)
            let tag = try await stage.client.getSoonUnacknowledged(n)
            try stage.client.send(.basicReject(.init(deliveryTag: DeliveryTag(tag), requeue: false)))
            try expect(try await stage.client.counts(n), [0, 0], "counts")
        },
        BehaviourCase("recover brings everything back, redelivered") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try stage.client.publish("m", key: n)
            try await stage.client.consume(n)
            _ = try await stage.client.delivery()
            try await stage.client.call(.basicRecover(.init(requeue: true)))
            let (deliver, event) = try await stage.client.delivery()
            try expect(deliver.redelivered, true, "redelivered")
            try expect(deliver.deliveryTag, DeliveryTag(2), "tag")
            try expect(event.text, "m", "body")
        },
        BehaviourCase("closing a channel requeues its unacknowledged messages") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            for number in 1...3 { try stage.client.publish("\(number)", key: n) }
            let other = try await stage.another()
            try await other.consume(n)
            for _ in 1...3 { _ = try await other.delivery() }
            try other.ack(2)
            let close = Channel.Close(replyCode: .success, replyText: "", classID: 0, methodID: 0)
            try await other.call(.channelClose(close))
            try await stage.client.waitFor(n, messages: 2)
            try expect(try await stage.client.drain(n), ["1", "3"], "order")
        },
        BehaviourCase("a lost connection requeues its unacknowledged messages") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try stage.client.publish("m", key: n)
            let other = try await stage.another()
            try await other.consume(n)
            _ = try await other.delivery()
            other.drop()
            guard case .basicGetOk(let ok) = try await stage.client.getSoon(n).method else {
                throw Difference(description: "no message")
            }
            try expect(ok.redelivered, true, "redelivered")
        },
        BehaviourCase("cancel stops deliveries; delivered messages stay unacknowledged") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try stage.client.publish("1", key: n)
            try await stage.client.consume(n)
            _ = try await stage.client.delivery()
            try await stage.client.call(.basicCancel(.init(consumerTag: "c")))
            try stage.client.publish("2", key: n)
            try await stage.client.waitFor(n, messages: 1)
            try stage.client.ack(1)
            try expect(try await stage.client.drain(n), ["2"], "messages")
        },
        BehaviourCase("cancel of an unknown consumer tag is answered") { stage in
            try expect(
                try await stage.client.call(.basicCancel(.init(consumerTag: "nobody"))),
                .basicCancelOk(.init(consumerTag: "nobody")),
                "reply"
            )
        },
        BehaviourCase("a deleted queue cancels its consumers, where they can be told") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try await stage.client.consume(n)
            let other = try await stage.another()
            try await other.call(.queueDelete(.init(queue: n)))
            try expect(
                try await stage.client.expect(Basic.Cancel.self),
                .init(consumerTag: "c", noWait: true),
                "cancel"
            )
            try await stage.client.prefetch(0)
        },
        BehaviourCase("an ack of tag 0 with multiple settles everything") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            for _ in 0..<2 { try stage.client.publish("m", key: n) }
            try await stage.client.consume(n)
            for _ in 0..<2 { _ = try await stage.client.delivery() }
            try stage.client.ack(0, multiple: true)
            try await stage.client.call(.basicRecover(.init(requeue: true)))
            try await stage.client.expectNothing(before: n)
        },
        BehaviourCase("flow that goes on is answered") { stage in
            try expect(
                try await stage.client.call(.channelFlow(.init(active: true))),
                .channelFlowOk(.init(active: true)),
                "reply"
            )
        },
    ]
}
