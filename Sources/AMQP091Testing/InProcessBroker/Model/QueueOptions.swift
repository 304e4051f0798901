// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// QueueOptions: the arguments of a queue that this broker knows, checked as RabbitMQ checks them. Unknown ones are kept
// and ignored. Times are milliseconds here, as on the wire.

struct QueueOptions {
    enum Overflow { case dropHead, rejectPublish, rejectPublishAndDeadLetter }

    var messageTTL: UInt64?
    var expires: UInt64?
    var maximumLength: Int?
    var maximumOctets: Int?
    var overflow = Overflow.dropHead
    var deadLetterExchange: String?
    var deadLetterRoutingKey: String?
    /// The order of messages.
    var order = ReadyEntries.Order.fifo
    var hasSingleActiveConsumer = false
    var isQuorum = false
    /// Delivery limit of a quorum queue; nil for no limit.
    var deliveryLimit: Int?
    /// True if requeued messages are appended instead of delivered first.
    var appendsReturns = false
    /// True if a dead letter without a destination is kept and published again.
    var keepsDeadLetters = false
    /// Acknowledgement timeout in milliseconds.
    var consumerTimeout: UInt64?

    /// True if a publish can be refused or drop another message.
    var isLimited: Bool { self.maximumLength != nil || self.maximumOctets != nil }

    /// Keys that must be equal when a queue is declared again.
    static let comparedKeys = [
        "x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length",
        "x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-mode", "x-single-active-consumer",
        "x-queue-type", "x-delivery-limit",
    ]

    /// Milliseconds above which a time counts as none: 139 years, whose nanoseconds still fit.
    static let ceiling: UInt64 = 1 << 42

    init(_ declare: Queue.Declare, virtualHost: String, version: RabbitMQVersion) throws(Refusal) {
        let check = Check(arguments: declare.arguments, queue: declare.queue, virtualHost: virtualHost)
        self.isQuorum = try check.isQuorum()
        for key in version.refusedArguments(isQuorum: self.isQuorum) where declare.arguments[key] != nil {
            throw check.unknown(key, isQuorum: self.isQuorum)
        }
        self.messageTTL = try check.number("x-message-ttl").map(UInt64.init)
        self.expires = try check.number("x-expires", isPositive: true).map(UInt64.init)
        self.maximumLength = try check.number("x-max-length").map(Int.init)
        self.maximumOctets = try check.number("x-max-length-bytes").map(Int.init)
        if version.cancelsLateConsumers {
            self.consumerTimeout = try check.number("x-consumer-timeout").map(UInt64.init)
            _ = try check.number("x-consumer-disconnected-timeout")
        }
        if let priority = try check.number("x-max-priority") {
            guard let priority = UInt8(exactly: priority) else {
                throw check.invalid("x-max-priority", "{max_value_exceeded,\(priority)}")
            }
            self.order = .priorities(maximum: priority, default: 0)
        }
        if let overflow = declare.arguments["x-overflow"] {
            switch overflow.stringValue {
            case "drop-head": self.overflow = .dropHead
            case "reject-publish": self.overflow = .rejectPublish
            case "reject-publish-dlx": self.overflow = .rejectPublishAndDeadLetter
            case .some: throw check.invalid("x-overflow", "invalid_overflow")
            case nil: throw check.invalid("x-overflow", "{unacceptable_type,\(overflow.typeName)}")
            }
        }
        if let single = declare.arguments["x-single-active-consumer"] {
            guard let single = single.boolValue else {
                throw check.invalid("x-single-active-consumer", "{unacceptable_type,\(single.typeName)}")
            }
            self.hasSingleActiveConsumer = single
        }
        self.deadLetterExchange = try check.name("x-dead-letter-exchange", kind: "queue")
        if let key = declare.arguments["x-dead-letter-routing-key"] {
            guard let text = key.stringValue else {
                throw check.invalid("x-dead-letter-routing-key", "{unacceptable_type,\(key.typeName)}")
            }
            guard self.deadLetterExchange != nil else {
                throw check.invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
            }
            self.deadLetterRoutingKey = text
        }
        try self.readStrategy(declare.arguments, check)
        // The check of transient queues precedes the checks of their type.
        guard declare.durable || declare.exclusive || !version.refusesTransientQueues else { throw .transientQueue }
        guard self.isQuorum else { return }
        guard declare.durable else { throw check.property("non-durable") }
        guard !declare.exclusive else { throw check.property("exclusive-owner") }
        self.order = version.quorumPriorities
        self.readDeliveryLimit(declare.arguments, version)
    }

    private mutating func readStrategy(_ arguments: FieldTable, _ check: Check) throws(Refusal) {
        guard let strategy = arguments["x-dead-letter-strategy"] else { return }
        switch strategy.stringValue {
        case "at-most-once": break
        case "at-least-once":
            self.keepsDeadLetters = self.deadLetterExchange != nil && self.overflow == .rejectPublish
        case .some: throw check.invalid("x-dead-letter-strategy", "invalid_dlx_strategy")
        case nil: throw check.invalid("x-dead-letter-strategy", "{unacceptable_type,\(strategy.typeName)}")
        }
    }

    private mutating func readDeliveryLimit(_ arguments: FieldTable, _ version: RabbitMQVersion) {
        // A limit that is not a number is ignored; RabbitMQ does not check it.
        let limit = arguments["x-delivery-limit"]?.integerValue
        self.deliveryLimit = limit.map { Int(clamping: $0) } ?? version.defaultDeliveryLimit
        if let limit, limit < 0, version.allowsNoDeliveryLimit { self.deliveryLimit = nil }
        self.appendsReturns = self.deliveryLimit == nil && version.appendsReturnsWithoutLimit
    }

    private struct Check {
        let arguments: FieldTable
        let queue: String
        let virtualHost: String

        func isQuorum() throws(Refusal) -> Bool {
            guard let type = self.arguments["x-queue-type"] else { return false }
            switch type.stringValue {
            case "classic": return false
            case "quorum": return true
            case .some(let text): throw self.invalid("x-queue-type", "\"unsupported queue type '\(text)'\"")
            case nil: throw self.invalid("x-queue-type", "{unacceptable_type,\(type.typeName)}")
            }
        }

        private func head(_ key: String) -> String {
            "invalid arg '\(key)' for queue '\(self.queue)' in vhost '\(self.virtualHost)'"
        }

        func invalid(_ key: String, _ reason: String) -> Refusal {
            Refusal(.preconditionFailed, "\(self.head(key)): \(reason)")
        }

        /// Refuses an argument that queues of this type do not have.
        func unknown(_ key: String, isQuorum: Bool) -> Refusal {
            Refusal(
                .preconditionFailed,
                "\(self.head(key)) of queue type rabbit_\(isQuorum ? "quorum" : "classic")_queue"
            )
        }

        func property(_ name: String) -> Refusal {
            Refusal(
                .preconditionFailed,
                "invalid property '\(name)' for queue '\(self.queue)' in vhost '\(self.virtualHost)'"
            )
        }

        func number(_ key: String, isPositive: Bool = false) throws(Refusal) -> Int64? {
            guard let value = self.arguments[key] else { return nil }
            guard let number = value.integerValue else {
                throw self.invalid(key, "\"expected integer, got \(value.typeName)\"")
            }
            if number < 0 { throw self.invalid(key, "{value_negative,\(number)}") }
            if number == 0, isPositive { throw self.invalid(key, "{value_zero,0}") }
            return min(number, Int64(QueueOptions.ceiling))
        }

        func name(_ key: String, kind: String) throws(Refusal) -> String? {
            guard let value = self.arguments[key] else { return nil }
            guard let name = value.stringValue else {
                throw Refusal(
                    .preconditionFailed,
                    "invalid type '\(value.typeName)' for arg '\(key)' in \(kind) '\(self.queue)' in vhost "
                        + "'\(self.virtualHost)'"
                )
            }
            return name
        }
    }
}
