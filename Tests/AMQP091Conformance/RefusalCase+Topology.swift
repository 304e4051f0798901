// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// What brokers refuse about queues, exchanges and bindings.

extension RefusalCase {
    static func declare(
        _ name: String,
        durable: Bool = false,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        _ arguments: FieldTable = [:]
    ) -> Method {
        .queueDeclare(
            .init(queue: name, durable: durable, exclusive: exclusive, autoDelete: autoDelete, arguments: arguments)
        )
    }

    static func exchange(_ name: String, _ type: String = "direct", _ arguments: FieldTable = [:]) -> Method {
        .exchangeDeclare(.init(exchange: name, type: type, arguments: arguments))
    }

    static func row(
        _ name: String,
        _ code: ReplyCode,
        _ text: String,
        calls: @escaping @Sendable (String) -> [Method] = { _ in [] },
        _ last: @escaping @Sendable (String) -> Method
    ) -> RefusalCase {
        RefusalCase(name, code, text) { n in calls(n).map { .call($0) } + [.send(last(n))] }
    }

    static func tag(_ number: UInt64) -> DeliveryTag { DeliveryTag(number) }

    static let locked =
        "cannot obtain exclusive access to locked queue '$' in vhost '/'. It could be originally declared on another "
        + "connection or the exclusive property value does not match that of the original declaration."

    static let queueRows: [RefusalCase] = [
        row("passive declare of a missing queue", .notFound, "no queue '$' in vhost '/'") {
            .queueDeclare(.init(queue: $0, passive: true))
        },
        row(
            "another durability",
            .preconditionFailed,
            "inequivalent arg 'durable' for queue '$' in vhost '/': received 'false' but current is 'true'",
            calls: { [declare($0, durable: true)] }
        ) { declare($0) },
        row(
            "another auto-delete",
            .preconditionFailed,
            "inequivalent arg 'auto_delete' for queue '$' in vhost '/': received 'true' but current is 'false'",
            calls: { [declare($0)] }
        ) { declare($0, autoDelete: true) },
        row("another exclusivity", .resourceLocked, locked, calls: { [declare($0)] }) { declare($0, exclusive: true) },
        row(
            "another value of an argument",
            .preconditionFailed,
            "inequivalent arg 'x-max-length' for queue '$' in vhost '/': received '20' but current is '10'",
            calls: { [declare($0, ["x-max-length": 10])] }
        ) { declare($0, ["x-max-length": 20]) },
        row(
            "an argument missing",
            .preconditionFailed,
            "inequivalent arg 'x-max-length' for queue '$' in vhost '/': received none but current is the value '10' of "
                + "type 'long'",
            calls: { [declare($0, ["x-max-length": 10])] }
        ) { declare($0) },
        row(
            "an argument too many",
            .preconditionFailed,
            "inequivalent arg 'x-max-length' for queue '$' in vhost '/': received the value '10' of type 'long' but "
                + "current is none",
            calls: { [declare($0)] }
        ) { declare($0, ["x-max-length": 10]) },
        row("a reserved queue name", .accessRefused, "queue name 'amq.$' contains reserved prefix 'amq.*'") {
            declare("amq.\($0)")
        },
        row("purge of a missing queue", .notFound, "no queue '$' in vhost '/'") { .queuePurge(.init(queue: $0)) },
        row(
            "delete of a queue in use",
            .preconditionFailed,
            "queue '$' in vhost '/' in use",
            calls: { [declare($0), .basicConsume(.init(queue: $0))] }
        ) { .queueDelete(.init(queue: $0, ifUnused: true)) },
        RefusalCase("delete of a queue with messages", .preconditionFailed, "queue '$' in vhost '/' not empty") { n in
            [.call(declare(n)), .publish(exchange: "", key: n), .send(.queueDelete(.init(queue: n, ifEmpty: true)))]
        },
        row("no queue declared before", .notFound, "no previously declared queue") { _ in .basicGet(.init(queue: "")) },
    ]

    static func argument(_ name: String, _ value: FieldValue, _ reason: String) -> RefusalCase {
        row(
            "\(name) of \(value)",
            .preconditionFailed,
            "invalid arg '\(name)' for queue '$' in vhost '/': \(reason)"
        ) { declare($0, FieldTable([(name, value)])) }
    }

    static let argumentRows: [RefusalCase] = [
        argument("x-message-ttl", -1, "{value_negative,-1}"),
        argument("x-message-ttl", "abc", "\"expected integer, got longstr\""),
        argument("x-expires", 0, "{value_zero,0}"),
        argument("x-overflow", "foo", "invalid_overflow"),
        argument("x-max-length", -1, "{value_negative,-1}"),
        argument("x-max-length-bytes", "a", "\"expected integer, got longstr\""),
        argument("x-max-priority", 300, "{max_value_exceeded,300}"),
        argument("x-max-priority", -1, "{value_negative,-1}"),
        argument("x-dead-letter-routing-key", "a", "routing_key_but_no_dlx_defined"),
        argument("x-queue-type", "foo", "\"unsupported queue type 'foo'\""),
        argument("x-single-active-consumer", "x", "{unacceptable_type,longstr}"),
        row(
            "a dead letter exchange that is no name",
            .preconditionFailed,
            "invalid type 'long' for arg 'x-dead-letter-exchange' in queue '$' in vhost '/'"
        ) { declare($0, ["x-dead-letter-exchange": 5]) },
        row(
            "a quorum queue that is not durable",
            .preconditionFailed,
            "invalid property 'non-durable' for queue '$' in vhost '/'"
        ) { declare($0, ["x-queue-type": "quorum"]) },
        row(
            "an exclusive quorum queue",
            .preconditionFailed,
            "invalid property 'exclusive-owner' for queue '$' in vhost '/'"
        ) { declare($0, durable: true, exclusive: true, ["x-queue-type": "quorum"]) },
        row(
            "a quorum queue with priorities",
            .preconditionFailed,
            "invalid arg 'x-max-priority' for queue '$' in vhost '/' of queue type rabbit_quorum_queue"
        ) { declare($0, durable: true, ["x-queue-type": "quorum", "x-max-priority": 3]) },
    ]

    static func lockedRow(_ name: String, _ last: @escaping @Sendable (String) -> Method) -> RefusalCase {
        RefusalCase("\(name) of another's exclusive queue", .resourceLocked, locked) { n in
            [.elsewhere([declare(n, exclusive: true)]), .send(last(n))]
        }
    }

    static let lockedRows: [RefusalCase] = [
        lockedRow("declare") { declare($0, exclusive: true) },
        lockedRow("passive declare") { .queueDeclare(.init(queue: $0, passive: true)) },
        lockedRow("get") { .basicGet(.init(queue: $0)) },
        lockedRow("consume") { .basicConsume(.init(queue: $0)) },
        lockedRow("purge") { .queuePurge(.init(queue: $0)) },
        lockedRow("delete") { .queueDelete(.init(queue: $0)) },
        lockedRow("bind") { .queueBind(.init(queue: $0, exchange: "amq.direct")) },
    ]

    static let exchangeRows: [RefusalCase] = [
        row("declare of the default exchange", .accessRefused, "operation not permitted on the default exchange") { _ in
            exchange("")
        },
        row("a reserved exchange name", .accessRefused, "exchange name 'amq.$' contains reserved prefix 'amq.*'") {
            exchange("amq.\($0)")
        },
        row("an unknown exchange type", .commandInvalid, "invalid exchange type 'foo'") { exchange($0, "foo") },
        row("passive declare of a missing exchange", .notFound, "no exchange '$' in vhost '/'") {
            .exchangeDeclare(.init(exchange: $0, passive: true))
        },
        row(
            "another type",
            .preconditionFailed,
            "inequivalent arg 'type' for exchange '$' in vhost '/': received 'topic' but current is 'direct'",
            calls: { [exchange($0)] }
        ) { exchange($0, "topic") },
        row(
            "another type of a predeclared exchange",
            .preconditionFailed,
            "inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'topic' but current is 'direct'"
        ) { _ in .exchangeDeclare(.init(exchange: "amq.direct", type: "topic", durable: true)) },
        row(
            "another internal",
            .preconditionFailed,
            "inequivalent arg 'internal' for exchange '$' in vhost '/': received 'true' but current is 'false'",
            calls: { [exchange($0)] }
        ) { .exchangeDeclare(.init(exchange: $0, type: "direct", internal: true)) },
        row(
            "another alternate exchange",
            .preconditionFailed,
            "inequivalent arg 'alternate-exchange' for exchange '$' in vhost '/': received the value 'foo' of type "
                + "'longstr' but current is none",
            calls: { [exchange($0)] }
        ) { exchange($0, "direct", ["alternate-exchange": "foo"]) },
        row(
            "an alternate exchange that is no name",
            .preconditionFailed,
            "invalid type 'long' for arg 'alternate-exchange' in exchange '$' in vhost '/'"
        ) { exchange($0, "direct", ["alternate-exchange": 5]) },
        row("delete of the default exchange", .accessRefused, "operation not permitted on the default exchange") { _ in
            .exchangeDelete(.init(exchange: ""))
        },
        row(
            "delete of a predeclared exchange",
            .accessRefused,
            "deletion of system exchange 'amq.direct' in vhost '/' not allowed"
        ) { _ in .exchangeDelete(.init(exchange: "amq.direct")) },
        row(
            "delete of an exchange in use",
            .preconditionFailed,
            "exchange '$' in vhost '/' in use",
            calls: { [declare($0), exchange($0), .queueBind(.init(queue: $0, exchange: $0))] }
        ) { .exchangeDelete(.init(exchange: $0, ifUnused: true)) },
        row(
            "bind to the default exchange",
            .accessRefused,
            "operation not permitted on the default exchange",
            calls: { [declare($0)] }
        ) { .queueBind(.init(queue: $0, exchange: "")) },
        row("bind of a missing queue", .notFound, "no queue '$' in vhost '/'") {
            .queueBind(.init(queue: $0, exchange: "amq.direct"))
        },
        row("bind to a missing exchange", .notFound, "no exchange '$' in vhost '/'", calls: { [declare($0)] }) {
            .queueBind(.init(queue: $0, exchange: $0))
        },
        row(
            "unbind from the default exchange",
            .accessRefused,
            "operation not permitted on the default exchange",
            calls: { [declare($0)] }
        ) { .queueUnbind(.init(queue: $0, exchange: "")) },
        row("bind of a missing exchange", .notFound, "no exchange '$' in vhost '/'") {
            .exchangeBind(.init(destination: $0, source: "amq.direct"))
        },
        row("bind of an exchange to a missing one", .notFound, "no exchange '$' in vhost '/'") {
            .exchangeBind(.init(destination: "amq.direct", source: $0))
        },
        row(
            "an unknown x-match",
            .preconditionFailed,
            "Invalid x-match field value <<\"foo\">>; expected all, any, all-with-x, or any-with-x",
            calls: { [declare($0)] }
        ) { .queueBind(.init(queue: $0, exchange: "amq.headers", arguments: ["x-match": "foo"])) },
    ]
}
