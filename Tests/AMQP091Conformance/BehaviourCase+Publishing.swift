// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire

// Confirms, returns, transactions, direct replies, and bodies of any size.

extension BehaviourCase {
    static let publishing: [BehaviourCase] =
        [
            BehaviourCase("confirms count from confirm.select on") { stage in
                let n = stage.name
                try await stage.client.declare(n)
                try stage.client.publish("before", key: n)
                try await stage.client.confirmSelect()
                for _ in 0..<10 { try stage.client.publish("m", key: n) }
                try expect(try await stage.client.confirms(upTo: 10), [], "publishes refused")
                try await stage.client.waitFor(n, messages: 11)
            },
            BehaviourCase("a body of 16 MiB passes, one octet more closes the channel", .since4) { stage in
                try await stage.client.call(.queueDeclare(.init(queue: stage.name, exclusive: true)))
                try await stage.client.confirmSelect()
                let body = String(repeating: "0123456789abcdef", count: 1 << 20)
                try stage.client.publish(body, key: stage.name)
                try expect(try await stage.client.confirms(upTo: 1), [], "publishes refused")
                try stage.client.publish(body + "x", key: stage.name)
                let close = try await stage.client.expectClose()
                try expect(close.code, .preconditionFailed, "code")
                try expect(close.method, Basic.Publish.id, "method")
                let text = "message size 16777217 is larger than configured max size 16777216"
                try expect(close.text, "PRECONDITION_FAILED - \(text)", "text")
            },
            BehaviourCase("a body above 16 MiB passes", .before4) { stage in
                try await stage.client.call(.queueDeclare(.init(queue: stage.name, exclusive: true)))
                try await stage.client.confirmSelect()
                let body = String(repeating: "0123456789abcdef", count: 1 << 20) + "x"
                try stage.client.publish(body, key: stage.name)
                try expect(try await stage.client.confirms(upTo: 1), [], "publishes refused")
            },
            BehaviourCase("an unroutable message is confirmed") { stage in
                try await stage.client.confirmSelect()
                try stage.client.publish("m", key: stage.name)
                try expect(
                    try await stage.client.expect(Basic.Ack.self),
                    .init(deliveryTag: DeliveryTag(1), multiple: false),
                    "ack"
                )
            },
            BehaviourCase("a mandatory message that reaches no queue comes back before its confirm") { stage in
                try await stage.client.confirmSelect()
                let properties = BasicProperties(headers: ["h": 1], messageID: "id")
                try stage.client.publish(
                    "m",
                    to: "amq.direct",
                    key: stage.name,
                    mandatory: true,
                    properties: properties
                )
                let (returned, event) = try await stage.client.expectEvent(Basic.Return.self)
                let expected = Basic.Return(
                    replyCode: .noRoute,
                    replyText: "NO_ROUTE",
                    exchange: "amq.direct",
                    routingKey: stage.name
                )
                try expect(returned, expected, "return")
                try expect(event.text, "m", "body")
                try expect(event.properties, properties, "properties")
                try expect(try await stage.client.expect(Basic.Ack.self).deliveryTag, DeliveryTag(1), "ack")
            },
            BehaviourCase("a mandatory message that reaches a queue does not come back") { stage in
                try await stage.client.declare(stage.name)
                try await stage.client.confirmSelect()
                try stage.client.publish("m", key: stage.name, mandatory: true)
                try expect(try await stage.client.expect(Basic.Ack.self).deliveryTag, DeliveryTag(1), "ack")
            },
            BehaviourCase("a transaction publishes and acknowledges at commit") { stage in
                let n = stage.name
                try await stage.client.declare(n)
                try await stage.client.call(.txSelect(.init()))
                try stage.client.publish("m", key: n)
                let other = try await stage.another()
                // The reply says that the publish has been read.
                try await stage.client.prefetch(0)
                try expect(try await other.counts(n), [0, 0], "counts before")
                try await stage.client.call(.txCommit(.init()))
                try await other.waitFor(n, messages: 1)
                _ = try await stage.client.get(n, noAck: false)
                try stage.client.ack(1)
                try await stage.client.call(.txCommit(.init()))
                let close = Channel.Close(replyCode: .success, replyText: "", classID: 0, methodID: 0)
                try await stage.client.call(.channelClose(close))
                try expect(try await other.counts(n), [0, 0], "counts after")
            },
            BehaviourCase("a rollback publishes nothing and takes acknowledgements back") { stage in
                let n = stage.name
                try await stage.client.declare(n)
                try stage.client.publish("old", key: n)
                try await stage.client.waitFor(n, messages: 1)
                try await stage.client.call(.txSelect(.init()))
                _ = try await stage.client.get(n, noAck: false)
                try stage.client.ack(1)
                try stage.client.publish("new", key: n)
                try await stage.client.call(.txRollback(.init()))
                let close = Channel.Close(replyCode: .success, replyText: "", classID: 0, methodID: 0)
                try await stage.client.call(.channelClose(close))
                try await stage.client.call(.channelOpen(.init()))
                try await stage.client.waitFor(n, messages: 1)
                try expect(try await stage.client.drain(n), ["old"], "messages")
            },
            BehaviourCase("direct reply-to brings replies to the channel that asked") { stage in
                let n = stage.name
                try await stage.client.declare(n)
                try await stage.client.consume("amq.rabbitmq.reply-to", tag: "replies", noAck: true)
                let properties = BasicProperties(correlationID: "7", replyTo: "amq.rabbitmq.reply-to")
                try stage.client.publish("question", key: n, properties: properties)
                let server = try await stage.another()
                let question = try await server.getSoon(n)
                guard let address = question.properties.replyTo else { throw Difference(description: "no reply-to") }
                try expect(address.hasPrefix("amq.rabbitmq.reply-to."), true, "prefix of \(address)")
                try expect(question.properties.correlationID, "7", "correlation id")
                try server.publish("answer", key: address, properties: BasicProperties(correlationID: "7"))
                let (deliver, event) = try await stage.client.delivery()
                try expect(deliver.consumerTag, "replies", "consumer")
                try expect(deliver.exchange, "", "exchange")
                try expect(deliver.routingKey, address, "routing key")
                try expect(event.text, "answer", "body")
            },
            BehaviourCase("a reply to a channel that has gone is returned when it is mandatory") { stage in
                try stage.client.publish("late", key: "amq.rabbitmq.reply-to.none", mandatory: true)
                try expect(try await stage.client.expect(Basic.Return.self).replyCode, .noRoute, "reply code")
            },
        ]
        + [0, 1, 131_063, 131_064, 131_065, 300_000].map { size in
            BehaviourCase("a body of \(size) octets comes back as it was") { stage in
                try await stage.client.declare(stage.name)
                let body = String(repeating: "0123456789", count: size / 10) + String(repeating: "x", count: size % 10)
                try stage.client.publish(body, key: stage.name)
                let event = try await stage.client.getSoon(stage.name)
                try expect(event.text == body, true, "the same body")
            }
        }
}
