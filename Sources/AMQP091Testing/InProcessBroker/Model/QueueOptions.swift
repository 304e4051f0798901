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
    /// Highest priority; nil for a queue without priorities.
    var maximumPriority: UInt8?
    var hasSingleActiveConsumer = false
    var isQuorum = false
    /// Redeliveries after which a quorum queue gives a message up.
    var deliveryLimit: Int?

    /// Whether a publish can be refused, or push another message out.
    var isLimited: Bool { self.maximumLength != nil || self.maximumOctets != nil }

    /// Keys that have to be the same when a queue is declared again.
    static let comparedKeys = [
        "x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length",
        "x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-mode", "x-single-active-consumer",
        "x-queue-type", "x-delivery-limit",
    ]

    /// Milliseconds above which a time is none: 139 years, whose nanoseconds still fit.
    static let ceiling: UInt64 = 1 << 42

    init(_ declare: Queue.Declare, virtualHost: String) throws(Refusal) {
        let check = Check(arguments: declare.arguments, queue: declare.queue, virtualHost: virtualHost)
        let type = declare.arguments["x-queue-type"]
        switch type?.stringValue {
        case nil where type == nil, "classic": break
        case "quorum": self.isQuorum = true
        default: throw check.invalid("x-queue-type", "\"unsupported queue type '\(type?.plainText ?? "")'\"")
        }
        if self.isQuorum {
            guard declare.durable else { throw check.property("non-durable") }
            guard !declare.exclusive else { throw check.property("exclusive-owner") }
            guard declare.arguments["x-max-priority"] == nil else {
                throw check.invalid("x-max-priority", nil)
            }
        }
        self.messageTTL = try check.number("x-message-ttl").map(UInt64.init)
        self.expires = try check.number("x-expires", isPositive: true).map(UInt64.init)
        self.maximumLength = try check.number("x-max-length").map(Int.init)
        self.maximumOctets = try check.number("x-max-length-bytes").map(Int.init)
        self.deliveryLimit = try check.number("x-delivery-limit").map(Int.init)
        if let priority = try check.number("x-max-priority") {
            guard let priority = UInt8(exactly: priority) else {
                throw check.invalid("x-max-priority", "{max_value_exceeded,\(priority)}")
            }
            self.maximumPriority = priority
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
    }

    private struct Check {
        let arguments: FieldTable
        let queue: String
        let virtualHost: String

        func invalid(_ key: String, _ reason: String?) -> Refusal {
            let head = "invalid arg '\(key)' for queue '\(self.queue)' in vhost '\(self.virtualHost)'"
            return Refusal(
                .preconditionFailed,
                reason.map { "\(head): \($0)" } ?? "\(head) of queue type rabbit_quorum_queue"
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
