// SPDX-License-Identifier: Apache-2.0

// MethodTable: the methods of AMQP 0-9-1 with RabbitMQ's extensions, as facts: numbers, names, arguments.
// Not here: the generated source (Renderer). Arguments are written `name:type`, with `=default` where omitting one is
// natural; `-:type` is reserved and not a field of the struct. Bits default to false, tables to empty; `bit!` has no
// default.
// Types: bit octet short long longlong shortstr longstr table, and reply-code and delivery-tag for typed numbers.

/// One class of methods.
struct ClassFacts: Sendable {
    var id: UInt16
    var name: String
    var methods: [MethodFacts]

    init(_ id: UInt16, _ name: String, _ methods: [MethodFacts]) {
        self.id = id
        self.name = name
        self.methods = methods
    }
}

/// One method.
struct MethodFacts: Sendable {
    var id: UInt16
    var name: String
    var arguments: String
    /// True if a content header and a body follow.
    var hasContent: Bool
    /// The reply methods; none for an asynchronous method.
    var replies: [String]

    init(_ id: UInt16, _ name: String, _ arguments: String = "", content: Bool = false, replies: [String] = []) {
        self.id = id
        self.name = name
        self.arguments = arguments
        self.hasContent = content
        self.replies = replies
    }
}

enum MethodTable {
    static let classes: [ClassFacts] = [
        ClassFacts(10, "connection", connection),
        ClassFacts(20, "channel", channel),
        ClassFacts(40, "exchange", exchange),
        ClassFacts(50, "queue", queue),
        ClassFacts(60, "basic", basic),
        ClassFacts(85, "confirm", confirm),
        ClassFacts(90, "tx", tx),
    ]

    private static let close = "reply-code:reply-code reply-text:shortstr=\"\" class-id:short=0 method-id:short=0"
    private static let tune = "channel-max:short frame-max:long heartbeat:short"

    // blocked, unblocked and update-secret are RabbitMQ extensions
    private static let connection = [
        MethodFacts(
            10,
            "start",
            "version-major:octet=0 version-minor:octet=9 server-properties:table mechanisms:longstr locales:longstr",
            replies: ["start-ok"]
        ),
        MethodFacts(
            11,
            "start-ok",
            "client-properties:table mechanism:shortstr response:longstr locale:shortstr=\"en_US\""
        ),
        MethodFacts(20, "secure", "challenge:longstr", replies: ["secure-ok"]),
        MethodFacts(21, "secure-ok", "response:longstr"),
        MethodFacts(30, "tune", tune, replies: ["tune-ok"]),
        MethodFacts(31, "tune-ok", tune),
        MethodFacts(40, "open", "virtual-host:shortstr -:shortstr -:bit", replies: ["open-ok"]),
        MethodFacts(41, "open-ok", "-:shortstr"),
        MethodFacts(50, "close", close, replies: ["close-ok"]),
        MethodFacts(51, "close-ok"),
        MethodFacts(60, "blocked", "reason:shortstr=\"\""),
        MethodFacts(61, "unblocked"),
        MethodFacts(70, "update-secret", "new-secret:longstr reason:shortstr=\"\"", replies: ["update-secret-ok"]),
        MethodFacts(71, "update-secret-ok"),
    ]

    private static let channel = [
        MethodFacts(10, "open", "-:shortstr", replies: ["open-ok"]),
        MethodFacts(11, "open-ok", "-:longstr"),
        MethodFacts(20, "flow", "active:bit!", replies: ["flow-ok"]),
        MethodFacts(21, "flow-ok", "active:bit!"),
        MethodFacts(40, "close", close, replies: ["close-ok"]),
        MethodFacts(41, "close-ok"),
    ]

    // bind and unbind are RabbitMQ extensions; unbind-ok is 51, not 41
    private static let exchange = [
        MethodFacts(
            10,
            "declare",
            "-:short exchange:shortstr type:shortstr=\"direct\" passive:bit durable:bit auto-delete:bit internal:bit "
                + "no-wait:bit arguments:table",
            replies: ["declare-ok"]
        ),
        MethodFacts(11, "declare-ok"),
        MethodFacts(20, "delete", "-:short exchange:shortstr if-unused:bit no-wait:bit", replies: ["delete-ok"]),
        MethodFacts(21, "delete-ok"),
        MethodFacts(30, "bind", exchangeBinding, replies: ["bind-ok"]),
        MethodFacts(31, "bind-ok"),
        MethodFacts(40, "unbind", exchangeBinding, replies: ["unbind-ok"]),
        MethodFacts(51, "unbind-ok"),
    ]

    private static let exchangeBinding =
        "-:short destination:shortstr source:shortstr routing-key:shortstr=\"\" no-wait:bit arguments:table"

    private static let queue = [
        MethodFacts(
            10,
            "declare",
            "-:short queue:shortstr=\"\" passive:bit durable:bit exclusive:bit auto-delete:bit no-wait:bit "
                + "arguments:table",
            replies: ["declare-ok"]
        ),
        MethodFacts(11, "declare-ok", "queue:shortstr message-count:long=0 consumer-count:long=0"),
        MethodFacts(
            20,
            "bind",
            "-:short queue:shortstr exchange:shortstr routing-key:shortstr=\"\" no-wait:bit arguments:table",
            replies: ["bind-ok"]
        ),
        MethodFacts(21, "bind-ok"),
        MethodFacts(30, "purge", "-:short queue:shortstr no-wait:bit", replies: ["purge-ok"]),
        MethodFacts(31, "purge-ok", "message-count:long=0"),
        MethodFacts(
            40,
            "delete",
            "-:short queue:shortstr if-unused:bit if-empty:bit no-wait:bit",
            replies: ["delete-ok"]
        ),
        MethodFacts(41, "delete-ok", "message-count:long=0"),
        MethodFacts(
            50,
            "unbind",
            "-:short queue:shortstr exchange:shortstr routing-key:shortstr=\"\" arguments:table",
            replies: ["unbind-ok"]
        ),
        MethodFacts(51, "unbind-ok"),
    ]

    private static let acknowledge = "delivery-tag:delivery-tag multiple:bit"

    // RabbitMQ extensions: nack, and ack, nack and cancel sent by the broker
    private static let basic = [
        MethodFacts(10, "qos", "prefetch-size:long=0 prefetch-count:short global:bit", replies: ["qos-ok"]),
        MethodFacts(11, "qos-ok"),
        MethodFacts(
            20,
            "consume",
            "-:short queue:shortstr consumer-tag:shortstr=\"\" no-local:bit no-ack:bit exclusive:bit no-wait:bit "
                + "arguments:table",
            replies: ["consume-ok"]
        ),
        MethodFacts(21, "consume-ok", "consumer-tag:shortstr"),
        MethodFacts(30, "cancel", "consumer-tag:shortstr no-wait:bit", replies: ["cancel-ok"]),
        MethodFacts(31, "cancel-ok", "consumer-tag:shortstr"),
        MethodFacts(
            40,
            "publish",
            "-:short exchange:shortstr=\"\" routing-key:shortstr mandatory:bit immediate:bit",
            content: true
        ),
        MethodFacts(
            50,
            "return",
            "reply-code:reply-code reply-text:shortstr=\"\" exchange:shortstr routing-key:shortstr",
            content: true
        ),
        MethodFacts(
            60,
            "deliver",
            "consumer-tag:shortstr delivery-tag:delivery-tag redelivered:bit exchange:shortstr routing-key:shortstr",
            content: true
        ),
        MethodFacts(70, "get", "-:short queue:shortstr no-ack:bit", replies: ["get-ok", "get-empty"]),
        MethodFacts(
            71,
            "get-ok",
            "delivery-tag:delivery-tag redelivered:bit exchange:shortstr routing-key:shortstr message-count:long=0",
            content: true
        ),
        MethodFacts(72, "get-empty", "-:shortstr"),
        MethodFacts(80, "ack", acknowledge),
        MethodFacts(90, "reject", "delivery-tag:delivery-tag requeue:bit!"),
        MethodFacts(100, "recover-async", "requeue:bit!"),
        MethodFacts(110, "recover", "requeue:bit!", replies: ["recover-ok"]),
        MethodFacts(111, "recover-ok"),
        MethodFacts(120, "nack", acknowledge + " requeue:bit!"),
    ]

    // RabbitMQ's
    private static let confirm = [
        MethodFacts(10, "select", "no-wait:bit", replies: ["select-ok"]),
        MethodFacts(11, "select-ok"),
    ]

    private static let tx = [
        MethodFacts(10, "select", replies: ["select-ok"]),
        MethodFacts(11, "select-ok"),
        MethodFacts(20, "commit", replies: ["commit-ok"]),
        MethodFacts(21, "commit-ok"),
        MethodFacts(30, "rollback", replies: ["rollback-ok"]),
        MethodFacts(31, "rollback-ok"),
    ]
}
