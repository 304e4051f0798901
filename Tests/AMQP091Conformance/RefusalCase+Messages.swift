// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire

// Refusals of publishing, consuming, channels and the connection.

extension RefusalCase {
    static func publish(
        _ name: String,
        _ text: String,
        _ properties: BasicProperties
    ) -> RefusalCase {
        RefusalCase(name, .preconditionFailed, text) { n in
            [.call(declare(n)), .publish(exchange: "", key: n, properties: properties)]
        }
    }

    static let committing = "unexpected command while processing 'tx.commit'"
    static let tooLong = "content body size 536870913 exceeds maximum allowed size 536870912"

    static let publishRows: [RefusalCase] = [
        RefusalCase("publish to a missing exchange", .notFound, "no exchange '$' in vhost '/'") { n in
            [.publish(exchange: n, key: "")]
        },
        RefusalCase(
            "publish to an internal exchange",
            .accessRefused,
            "cannot publish to internal exchange '$' in vhost '/'"
        ) { n in
            [
                .call(.exchangeDeclare(.init(exchange: n, type: "direct", internal: true))),
                .publish(exchange: n, key: ""),
            ]
        },
        publish(
            "publish as another user",
            "user_id property set to 'bob' but authenticated user was 'guest'",
            BasicProperties(userID: "bob")
        ),
        publish("an expiration of letters", "invalid expiration 'abc': no_integer", BasicProperties(expiration: "abc")),
        publish(
            "a negative expiration",
            "invalid expiration '-1': {value_negative,-1}",
            BasicProperties(expiration: "-1")
        ),
        publish(
            "letters behind an expiration",
            "invalid expiration '1x': {leftover_string,\"x\"}",
            BasicProperties(expiration: "1x")
        ),
        publish(
            "CC that is no array",
            "invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
            BasicProperties(headers: ["CC": "x"])
        ),
        publish(
            "a direct reply without its consumer",
            "fast reply consumer does not exist",
            BasicProperties(replyTo: "amq.rabbitmq.reply-to")
        ),
        RefusalCase("immediate", .notImplemented, "immediate=true") { n in
            [.publish(exchange: "", key: n, immediate: true)]
        },
        row(
            "tx after confirm",
            .preconditionFailed,
            "cannot switch from confirm to tx mode",
            calls: { _ in
                [.confirmSelect(.init())]
            }
        ) { _ in .txSelect(.init()) },
        row(
            "confirm after tx",
            .preconditionFailed,
            "cannot switch from tx to confirm mode",
            calls: { _ in
                [.txSelect(.init())]
            }
        ) { _ in .confirmSelect(.init()) },
        RefusalCase("a method while a commit waits for its queues", .channelError, committing) { n in
            let publish = Step.publish(exchange: "", key: n, properties: BasicProperties(deliveryMode: 2))
            let calls = [declare(n), .txSelect(.init())].map { Step.call($0) }
            let last = Step.pipelined([.txCommit(.init()), .basicQos(.init(prefetchCount: 1))])
            return calls + Array(repeating: publish, count: 20) + [last]
        },
        RefusalCase("a body above 512 MiB", on: .since4_3, .frameError, tooLong) { n in
            let publish = (try? ScriptedBroker.octets(of: .basicPublish(.init(routingKey: n)), on: 1)) ?? []
            // Content header: class 60, weight 0, body size, no properties.
            let header: [UInt8] = [2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 0, 0, 0xCE]
            return [.publish(exchange: "", key: n), .raw(publish + header)]
        },
        row("commit without tx", .preconditionFailed, "channel is not transactional") { _ in .txCommit(.init()) },
        row("rollback without tx", .preconditionFailed, "channel is not transactional") { _ in .txRollback(.init()) },
    ]

    static let consumeRows: [RefusalCase] = [
        row("get from a missing queue", .notFound, "no queue '$' in vhost '/'") { .basicGet(.init(queue: $0)) },
        row("consume of a missing queue", .notFound, "no queue '$' in vhost '/'") { .basicConsume(.init(queue: $0)) },
        row("ack of an unknown tag", .preconditionFailed, "unknown delivery tag 5") { _ in
            .basicAck(.init(deliveryTag: tag(5), multiple: false))
        },
        row("ack of tag 0", .preconditionFailed, "unknown delivery tag 0") { _ in
            .basicAck(.init(deliveryTag: tag(0), multiple: false))
        },
        row("ack of several up to an unknown tag", .preconditionFailed, "unknown delivery tag 5") { _ in
            .basicAck(.init(deliveryTag: tag(5), multiple: true))
        },
        row("nack of an unknown tag", .preconditionFailed, "unknown delivery tag 5") { _ in
            .basicNack(.init(deliveryTag: tag(5), multiple: false, requeue: true))
        },
        row("reject of an unknown tag", .preconditionFailed, "unknown delivery tag 5") { _ in
            .basicReject(.init(deliveryTag: tag(5), requeue: true))
        },
        row(
            "a consumer tag twice",
            .notAllowed,
            "attempt to reuse consumer tag 'c'",
            calls: {
                [declare($0, exclusive: true), .basicConsume(.init(queue: $0, consumerTag: "c"))]
            }
        ) { .basicConsume(.init(queue: $0, consumerTag: "c")) },
        row(
            "consume beside an exclusive consumer",
            .accessRefused,
            "queue '$' in vhost '/' in exclusive use",
            calls: {
                [declare($0), .basicConsume(.init(queue: $0, exclusive: true))]
            }
        ) { .basicConsume(.init(queue: $0)) },
        row(
            "exclusive consume beside another",
            .accessRefused,
            "queue '$' in vhost '/' in exclusive use",
            calls: {
                [declare($0), .basicConsume(.init(queue: $0))]
            }
        ) { .basicConsume(.init(queue: $0, exclusive: true)) },
        row(
            "a consumer priority of letters",
            .preconditionFailed,
            "invalid arg 'x-priority' for queue '$' in vhost '/': \"expected integer, got longstr\"",
            calls: { [declare($0)] }
        ) { .basicConsume(.init(queue: $0, arguments: ["x-priority": "a"])) },
        row(
            "a consumer timeout of a classic queue",
            on: .since4_3,
            .preconditionFailed,
            "invalid arg 'x-consumer-timeout' for queue '$' in vhost '/' of queue type rabbit_classic_queue",
            calls: { [declare($0)] }
        ) { .basicConsume(.init(queue: $0, arguments: ["x-consumer-timeout": 1000])) },
        row(
            "a negative consumer timeout",
            on: .since4_3,
            .preconditionFailed,
            "invalid arg 'x-consumer-timeout' for queue '$' in vhost '/': {value_negative,-1}",
            calls: { [declare($0, ["x-queue-type": "quorum"])] }
        ) { .basicConsume(.init(queue: $0, arguments: ["x-consumer-timeout": -1])) },
        row(
            "a quorum queue consumed under global prefetch",
            on: .before4_3,
            .notImplemented,
            "queue '$' in vhost '/' does not support global qos",
            calls: { [declare($0, ["x-queue-type": "quorum"]), .basicQos(.init(prefetchCount: 2, global: true))] }
        ) { .basicConsume(.init(queue: $0)) },
        row("prefetch in octets", .notImplemented, "prefetch_size!=0 (5)") { _ in
            .basicQos(.init(prefetchSize: 5, prefetchCount: 1))
        },
        row("recover without requeue", .notImplemented, "requeue=false") { _ in .basicRecover(.init(requeue: false)) },
        row("flow stopped by the client", .notImplemented, "active=false") { _ in .channelFlow(.init(active: false)) },
        row("a reply consumer that acknowledges", .preconditionFailed, "reply consumer cannot acknowledge") { _ in
            .basicConsume(.init(queue: "amq.rabbitmq.reply-to"))
        },
        row(
            "two reply consumers",
            .preconditionFailed,
            "reply consumer already set",
            calls: { _ in
                [.basicConsume(.init(queue: "amq.rabbitmq.reply-to", noAck: true))]
            }
        ) { _ in .basicConsume(.init(queue: "amq.rabbitmq.reply-to", noAck: true)) },
        row("get of the reply queue", .notFound, "no queue 'amq.rabbitmq.reply-to' in vhost '/'") { _ in
            .basicGet(.init(queue: "amq.rabbitmq.reply-to"))
        },
    ]

    static let connectionRows: [RefusalCase] = [
        row("a channel opened twice", .channelError, "second 'channel.open' seen") { _ in .channelOpen(.init()) },
        RefusalCase("a method on a channel that is not open", .channelError, "expected 'channel.open'") { _ in
            [.send(.basicQos(.init(prefetchCount: 1)), channel: 7)]
        },
        RefusalCase(
            "a basic method on channel 0",
            .channelError,
            "unexpected method in connection state running"
        ) { _ in [.send(.basicQos(.init(prefetchCount: 1)), channel: 0)] },
        RefusalCase("a connection method on a channel", .commandInvalid, "unimplemented method") { _ in
            [.send(.connectionOpen(.init(virtualHost: "/")), channel: 1)]
        },
        RefusalCase("a frame on a channel just closed", .channelError, "expected 'channel.open'") { _ in
            [
                .call(.channelClose(.init(replyCode: .success, replyText: "", classID: 0, methodID: 0))),
                .send(.basicQos(.init(prefetchCount: 1)), channel: 1),
            ]
        },
        row("channel.close-ok without a close", .commandInvalid, "unimplemented method") { _ in
            .channelCloseOk(.init())
        },
        RefusalCase("a second login", .channelError, "unexpected method in connection state running") { _ in
            let startOk = Connection.StartOk(
                clientProperties: [:],
                mechanism: "PLAIN",
                response: Array("\0a\0b".utf8),
                locale: "en_US"
            )
            return [.send(.connectionStartOk(startOk))]
        },
    ]
}
