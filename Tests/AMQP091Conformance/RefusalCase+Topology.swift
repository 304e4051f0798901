// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Refusals of queues, exchanges and bindings.

extension RefusalCase {
    /// Durable, or exclusive.
    static func declare(
        _ name: String,
        durable: Bool? = nil,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        _ arguments: FieldTable = [:]
    ) -> Method {
        let durable = durable ?? !exclusive
        return .queueDeclare(
            .init(queue: name, durable: durable, exclusive: exclusive, autoDelete: autoDelete, arguments: arguments)
        )
    }

    static func exchange(_ name: String, _ type: String = "direct", _ arguments: FieldTable = [:]) -> Method {
        .exchangeDeclare(.init(exchange: name, type: type, arguments: arguments))
    }

    static func row(
        _ name: String,
        on releases: Releases = .all,
        _ code: ReplyCode,
        _ text: String,
        calls: @escaping @Sendable (String) -> [Method] = { _ in [] },
        _ last: @escaping @Sendable (String) -> Method
    ) -> RefusalCase {
        RefusalCase(name, on: releases, code, text) { n in calls(n).map { .call($0) } + [.send(last(n))] }
    }

    static func tag(_ number: UInt64) -> DeliveryTag { DeliveryTag(number) }

    static let locked =
        "cannot obtain exclusive access to locked queue '$' in vhost '/'. It could be originally declared on another "
        + "connection or the exclusive property value does not match that of the original declaration."

    static let transient = "Feature `transient_nonexcl_queues` is deprecated.…"

    static let queueRows: [RefusalCase] = [
        row("passive declare of a missing queue", .notFound, "no queue '$' in vhost '/'") {
            .queueDeclare(.init(queue: $0, passive: true))
        },
        row(
            "another durability",
            .preconditionFailed,
            "inequivalent arg 'durable' for queue '$' in vhost '/': received 'false' but current is 'true'",
            calls: { [declare($0)] }
        ) { declare($0, durable: false) },
        row(
            "another auto-delete",
            .preconditionFailed,
            "inequivalent arg 'auto_delete' for queue '$' in vhost '/': received 'true' but current is 'false'",
            calls: { [declare($0)] }
        ) { declare($0, autoDelete: true) },
        row(
            "a quorum queue without its type",
            on: .before4,
            .preconditionFailed,
            "inequivalent arg 'x-queue-type' for queue '$' in vhost '/': received none but current is the value 'quorum' of "
                + "type 'longstr'",
            calls: { [declare($0, ["x-queue-type": "quorum"])] }
        ) { declare($0) },
        row(
            "a quorum queue without its type",
            on: .since4_3,
            .preconditionFailed,
            "inequivalent arg 'x-queue-type' for queue '$' in vhost '/': received 'classic' but current is 'quorum'",
            calls: { [declare($0, ["x-queue-type": "quorum"])] }
        ) { declare($0) },
        row(
            "a classic queue with its type, without, and as another",
            .preconditionFailed,
            "inequivalent arg 'durable' for queue '$' in vhost '/': received 'false' but current is 'true'",
            calls: { [declare($0), declare($0, ["x-queue-type": "classic"]), declare($0)] }
        ) { declare($0, durable: false) },
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
        row("a transient queue", on: .withoutTransientQueues, .internalError, transient) {
            declare($0, durable: false)
        },
        row("a transient queue without a name", on: .withoutTransientQueues, .internalError, transient) { _ in
            declare("", durable: false, autoDelete: true)
        },
        row(
            "a transient queue with an argument that is refused",
            .preconditionFailed,
            "invalid arg 'x-message-ttl' for queue '$' in vhost '/': {value_negative,-1}"
        ) { declare($0, durable: false, ["x-message-ttl": -1]) },
        row("passive declare of a transient queue that is missing", .notFound, "no queue '$' in vhost '/'") {
            .queueDeclare(.init(queue: $0, passive: true, autoDelete: true))
        },
        row("no queue declared before", .notFound, "no previously declared queue") { _ in .basicGet(.init(queue: "")) },
    ]

    static func argument(
        _ name: String,
        _ value: FieldValue,
        on releases: Releases = .all,
        type: String = "classic",
        _ reason: String
    ) -> RefusalCase {
        row(
            "\(name) of \(value)",
            on: releases,
            .preconditionFailed,
            "invalid arg '\(name)' for queue '$' in vhost '/': \(reason)"
        ) { declare($0, FieldTable([("x-queue-type", .string(type)), (name, value)])) }
    }

    /// An argument that queues of another type have.
    static func foreign(
        _ name: String,
        _ value: FieldValue,
        on releases: Releases = .all,
        in type: String
    ) -> RefusalCase {
        row(
            "\(name) of a \(type) queue",
            on: releases,
            .preconditionFailed,
            "invalid arg '\(name)' for queue '$' in vhost '/' of queue type rabbit_\(type)_queue"
        ) { declare($0, FieldTable([("x-queue-type", .string(type)), (name, value)])) }
    }

    static let typeRows: [RefusalCase] = [
        foreign("x-max-priority", 3, in: "quorum"),
        foreign("x-queue-mode", "lazy", in: "quorum"),
        foreign("x-queue-version", 2, in: "quorum"),
        foreign("x-max-age", "1h", in: "quorum"),
        foreign("x-max-age", "1h", in: "classic"),
        foreign("x-initial-cluster-size", 1, in: "classic"),
        foreign("x-stream-max-segment-size-bytes", 1, in: "classic"),
        foreign("x-delivery-limit", 5, in: "classic"),
        foreign("x-dead-letter-strategy", "at-least-once", in: "classic"),
        foreign("x-quorum-initial-group-size", 1, in: "classic"),
        foreign("x-max-in-memory-length", 5, in: "classic"),
        foreign("x-queue-leader-locator", "balanced", on: .before4, in: "classic"),
        foreign("x-consumer-timeout", 70_000, on: .since4_3, in: "classic"),
        foreign("x-consumer-disconnected-timeout", 70_000, on: .since4_3, in: "classic"),
        foreign("x-delayed-retry-type", "all", on: .since4_3, in: "classic"),
        foreign("x-delayed-retry-min", 70_000, on: .since4_3, in: "classic"),
        foreign("x-delayed-retry-max", 70_000, on: .since4_3, in: "classic"),
    ]

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
        row(
            "an unknown queue type",
            .preconditionFailed,
            "invalid arg 'x-queue-type' for queue '$' in vhost '/': \"unsupported queue type 'foo'\""
        ) { declare($0, ["x-queue-type": "foo"]) },
        argument("x-single-active-consumer", "x", "{unacceptable_type,longstr}"),
        argument("x-dead-letter-strategy", "foo", type: "quorum", "invalid_dlx_strategy"),
        argument("x-dead-letter-strategy", 5, type: "quorum", "{unacceptable_type,long}"),
        argument("x-consumer-timeout", "a", on: .since4_3, type: "quorum", "\"expected integer, got longstr\""),
        argument("x-consumer-timeout", -1, on: .since4_3, type: "quorum", "{value_negative,-1}"),
        argument("x-consumer-disconnected-timeout", -1, on: .since4_3, type: "quorum", "{value_negative,-1}"),
        row(
            "a queue type that is no name",
            .preconditionFailed,
            "invalid arg 'x-queue-type' for queue '$' in vhost '/': {unacceptable_type,long}"
        ) { declare($0, ["x-queue-type": 5]) },
        row(
            "a dead letter exchange that is no name",
            .preconditionFailed,
            "invalid type 'long' for arg 'x-dead-letter-exchange' in queue '$' in vhost '/'"
        ) { declare($0, ["x-dead-letter-exchange": 5]) },
        row(
            "a quorum queue that is not durable",
            on: .withTransientQueues,
            .preconditionFailed,
            "invalid property 'non-durable' for queue '$' in vhost '/'"
        ) { declare($0, durable: false, ["x-queue-type": "quorum"]) },
        row("a quorum queue that is not durable", on: .withoutTransientQueues, .internalError, transient) {
            declare($0, durable: false, ["x-queue-type": "quorum"])
        },
        row(
            "an exclusive quorum queue",
            .preconditionFailed,
            "invalid property 'exclusive-owner' for queue '$' in vhost '/'"
        ) { declare($0, durable: true, exclusive: true, ["x-queue-type": "quorum"]) },
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

    static let forbidden = "operation not permitted on the default exchange"

    /// 255 octets with the name of the code.
    static let longText = "no exchange '" + String(repeating: "e", count: 252 - 12 - 13) + "..."

    static let exchangeRows: [RefusalCase] = [
        row("declare of the default exchange", .accessRefused, forbidden) { _ in
            exchange("")
        },
        row("a reserved exchange name", .accessRefused, "exchange name 'amq.$' contains reserved prefix 'amq.*'") {
            exchange("amq.\($0)")
        },
        row("passive declare of the default exchange", .accessRefused, forbidden) { _ in
            .exchangeDeclare(.init(exchange: "", passive: true))
        },
        row("an unknown exchange type", on: .before4, .commandInvalid, "invalid exchange type 'foo'") {
            exchange($0, "foo")
        },
        row("an unknown exchange type", on: .since4, .preconditionFailed, "invalid exchange type 'foo'") {
            exchange($0, "foo")
        },
        row("a local random exchange", on: .before4, .commandInvalid, "unknown exchange type 'x-local-random'") {
            exchange($0, "x-local-random")
        },
        row("a modulus hash exchange", on: .before4, .commandInvalid, "unknown exchange type 'x-modulus-hash'") {
            exchange($0, "x-modulus-hash")
        },
        row("a modulus hash exchange", on: .only4_0, .preconditionFailed, "unknown exchange type 'x-modulus-hash'") {
            exchange($0, "x-modulus-hash")
        },
        row(
            "a key of a binding to a local random exchange",
            on: .since4,
            .preconditionFailed,
            "Non empty binding 'k' key not permitted",
            calls: { [declare($0), exchange($0, "x-local-random")] }
        ) { .queueBind(.init(queue: $0, exchange: $0, routingKey: "k")) },
        RefusalCase("a reply text that is too long", .notFound, longText) { _ in
            [.send(.exchangeDeclare(.init(exchange: String(repeating: "e", count: 250), passive: true)))]
        },
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
        row("delete of the default exchange", .accessRefused, forbidden) { _ in
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
            forbidden,
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
            forbidden,
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
