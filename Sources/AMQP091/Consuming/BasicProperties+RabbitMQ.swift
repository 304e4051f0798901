// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// Properties with a meaning in RabbitMQ, as typed values over the plain ones of BasicProperties.

extension BasicProperties {
    /// True for a persistent message: delivery mode 2.
    ///
    /// Setting false removes the property, which means the same as 1.
    public var isPersistent: Bool {
        get { self.deliveryMode == 2 }
        set { self.deliveryMode = newValue ? 2 : nil }
    }

    /// Time to live in a queue, whole milliseconds, at most 4294967295.
    ///
    /// The typed form of `expiration`: nil if that is not set or not a number. Setting rounds down, and a negative
    /// time becomes 0.
    public var timeToLive: Duration? {
        get { self.expiration.flatMap { UInt32($0) }.map { .milliseconds(Int64($0)) } }
        set {
            self.expiration = newValue.map { time in
                String(min(max(time.wholeMilliseconds, 0), QueueArguments.longestTimer))
            }
        }
    }

    /// Additional routing keys, visible to consumers: header `CC`.
    public var carbonCopies: [String] {
        get { self.routingKeys("CC") }
        set { self.setRoutingKeys("CC", newValue) }
    }

    /// Additional routing keys, removed by the broker: header `BCC`.
    public var blindCarbonCopies: [String] {
        get { self.routingKeys("BCC") }
        set { self.setRoutingKeys("BCC", newValue) }
    }

    /// Number of failed deliveries: header `x-delivery-count` of a quorum queue, counted towards its
    /// delivery limit; nil from other queues, and at the first delivery since RabbitMQ 4.0 (0 with 3.10).
    ///
    /// Before RabbitMQ 4.3 every return to the queue counts; since 4.3 `basic.reject` and a channel that ends before
    /// the delivery is settled, but not `basic.nack`.
    public var deliveryCount: Int64? { self.headers?["x-delivery-count"]?.integerValue }

    /// Number of earlier deliveries, failed or not: header `x-acquired-count` of a
    /// quorum queue; nil at the first delivery, from other queues, and before RabbitMQ 4.3.
    public var acquiredCount: Int64? { self.headers?["x-acquired-count"]?.integerValue }

    /// The queue to reply to, octet for octet; nil if `replyTo` is not set.
    public var replyDestination: AMQPDestination? {
        self.octets(of: .replyTo).map { AMQPDestination(exchange: "", routingKeyOctets: $0) }
    }

    /// The offset of the message in its stream; nil if it does not come from a stream.
    public var streamOffset: UInt64? {
        self.headers?["x-stream-offset"]?.integerValue.flatMap { UInt64(exactly: $0) }
    }

    /// The filter value for streams: header `x-stream-filter-value`, set by the publisher.
    ///
    /// RabbitMQ 3.13 or later; earlier versions have no filters.
    public var streamFilterValue: String? {
        get { self.headers?["x-stream-filter-value"]?.stringValue }
        set { self.setHeader("x-stream-filter-value", newValue.map { .string($0) }) }
    }

    /// Earlier dead-letterings of the message, the latest first: header `x-death`.
    ///
    /// Since RabbitMQ 4.0 the broker ignores the header of a published message, so the history of a message that is
    /// published again starts over.
    public var deaths: [AMQPDeath] {
        (self.headers?["x-death"]?.arrayValue ?? []).compactMap { $0.tableValue.map { AMQPDeath($0) } }
    }

    /// Queue, reason and exchange of the first dead-lettering: headers `x-first-death-…`; nil for none.
    public var firstDeath: AMQPDeathPlace? { AMQPDeathPlace(self.headers, "x-first-death") }

    /// Queue, reason and exchange of the last dead-lettering: headers `x-last-death-…`; nil for none.
    ///
    /// 4.0 and later set the headers; with 3.10 it is nil, and the first entry of ``deaths`` has the same values.
    public var lastDeath: AMQPDeathPlace? { AMQPDeathPlace(self.headers, "x-last-death") }

    private func routingKeys(_ header: String) -> [String] {
        (self.headers?[header]?.arrayValue ?? []).compactMap(\.stringValue)
    }

    private mutating func setRoutingKeys(_ header: String, _ keys: [String]) {
        self.setHeader(header, keys.isEmpty ? nil : .array(keys.map { .string($0) }))
    }

    private mutating func setHeader(_ name: String, _ value: FieldValue?) {
        var headers = self.headers ?? [:]
        headers[name] = value
        self.headers = headers.isEmpty ? nil : headers
    }
}

/// A dead-lettering without a count: headers `x-first-death-…`, `x-last-death-…`.
public struct AMQPDeathPlace: Hashable, Sendable {
    /// The queue.
    public let queue: String
    /// The reason: `rejected`, `expired`, `maxlen` or `delivery_limit`.
    public let reason: String
    /// The exchange of the publish.
    public let exchange: String

    init?(_ headers: FieldTable?, _ prefix: String) {
        guard let headers, let queue = headers["\(prefix)-queue"]?.stringValue else { return nil }
        self.queue = queue
        self.reason = headers["\(prefix)-reason"]?.stringValue ?? ""
        self.exchange = headers["\(prefix)-exchange"]?.stringValue ?? ""
    }
}

/// One entry of the `x-death` header: the dead-letterings from one queue for one reason.
public struct AMQPDeath: Hashable, Sendable {
    /// The number of dead-letterings.
    public let count: Int64
    /// The reason: `rejected`, `expired`, `maxlen` or `delivery_limit`.
    public let reason: String
    /// The queue.
    public let queue: String
    /// The exchange of the publish.
    public let exchange: String
    /// The routing keys of the publish.
    public let routingKeys: [String]
    /// Time of the first dead-lettering in seconds since 1970.
    public let timestamp: UInt64?

    init(_ table: FieldTable) {
        self.count = table["count"]?.integerValue ?? 0
        self.reason = table["reason"]?.stringValue ?? ""
        self.queue = table["queue"]?.stringValue ?? ""
        self.exchange = table["exchange"]?.stringValue ?? ""
        self.routingKeys = (table["routing-keys"]?.arrayValue ?? []).compactMap(\.stringValue)
        if case .timestamp(let seconds) = table["time"] { self.timestamp = seconds } else { self.timestamp = nil }
    }
}
