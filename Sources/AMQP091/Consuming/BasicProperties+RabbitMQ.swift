// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// The properties RabbitMQ gives a meaning, as typed values over the plain ones of BasicProperties.

extension BasicProperties {
    /// Whether the broker writes the message to disk: delivery mode 2.
    ///
    /// Setting false leaves the property out, which means the same as 1.
    public var isPersistent: Bool {
        get { self.deliveryMode == 2 }
        set { self.deliveryMode = newValue ? 2 : nil }
    }

    /// How long the message may wait in a queue, whole milliseconds, at most 4294967295.
    ///
    /// The typed form of `expiration`: nil when that is not set or is no number. Setting rounds down, and a negative
    /// time becomes 0.
    public var timeToLive: Duration? {
        get { self.expiration.flatMap { UInt32($0) }.map { .milliseconds(Int64($0)) } }
        set {
            self.expiration = newValue.map { time in
                String(min(max(time.wholeMilliseconds, 0), QueueArguments.longestTimer))
            }
        }
    }

    /// Routing keys the message is routed by besides its own; consumers see them: header `CC`.
    public var carbonCopies: [String] {
        get { self.routingKeys("CC") }
        set { self.setRoutingKeys("CC", newValue) }
    }

    /// Routing keys the message is routed by besides its own; the broker removes them: header `BCC`.
    public var blindCarbonCopies: [String] {
        get { self.routingKeys("BCC") }
        set { self.setRoutingKeys("BCC", newValue) }
    }

    /// How often processing of the message has failed: header `x-delivery-count` of a quorum queue, counted towards its
    /// delivery limit; nil from other queues, and at the first delivery since RabbitMQ 4.0, where 3.10 says 0.
    ///
    /// Before RabbitMQ 4.3 every return to the queue counts; since 4.3 `basic.reject` and a channel that ends before
    /// the delivery is settled, but not `basic.nack`.
    public var deliveryCount: Int64? { self.headers?["x-delivery-count"]?.integerValue }

    /// How often the message was handed to a consumer before, whatever became of it: header `x-acquired-count` of a
    /// quorum queue; nil at the first delivery, from other queues, and before RabbitMQ 4.3.
    public var acquiredCount: Int64? { self.headers?["x-acquired-count"]?.integerValue }

    /// The queue to reply to, octet for octet; nil if `replyTo` is not set.
    public var replyDestination: AMQPDestination? {
        self.octets(of: .replyTo).map { AMQPDestination(exchange: "", routingKeyOctets: $0) }
    }

    /// The place of the message in its stream; nil when it did not come from one.
    public var streamOffset: UInt64? {
        self.headers?["x-stream-offset"]?.integerValue.flatMap { UInt64(exactly: $0) }
    }

    /// What a stream's filter compares with: header `x-stream-filter-value`, set by the publisher.
    ///
    /// RabbitMQ 3.13 or later; earlier versions have no filters.
    public var streamFilterValue: String? {
        get { self.headers?["x-stream-filter-value"]?.stringValue }
        set { self.setHeader("x-stream-filter-value", newValue.map { .string($0) }) }
    }

    /// Where the message was dead-lettered before, the last time first: header `x-death`.
    ///
    /// Since RabbitMQ 4.0 the broker ignores the header of a message that a client publishes, so a message that is
    /// published again starts anew.
    public var deaths: [AMQPDeath] {
        (self.headers?["x-death"]?.arrayValue ?? []).compactMap { $0.tableValue.map { AMQPDeath($0) } }
    }

    /// The queue, the reason and the exchange of the first dead-lettering: headers `x-first-death-…`; nil for none.
    public var firstDeath: AMQPDeathPlace? { AMQPDeathPlace(self.headers, "x-first-death") }

    /// The queue, the reason and the exchange of the last dead-lettering: headers `x-last-death-…`; nil for none.
    ///
    /// 4.0 and later set the headers; with 3.10 it is nil, and the first entry of ``deaths`` says the same.
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

/// A place where a message was dropped from its queue, without the count: headers `x-first-death-…`, `x-last-death-…`.
public struct AMQPDeathPlace: Hashable, Sendable {
    /// The queue.
    public let queue: String
    /// The broker's word: `rejected`, `expired`, `maxlen` or `delivery_limit`.
    public let reason: String
    /// The exchange it had been published to.
    public let exchange: String

    init?(_ headers: FieldTable?, _ prefix: String) {
        guard let headers, let queue = headers["\(prefix)-queue"]?.stringValue else { return nil }
        self.queue = queue
        self.reason = headers["\(prefix)-reason"]?.stringValue ?? ""
        self.exchange = headers["\(prefix)-exchange"]?.stringValue ?? ""
    }
}

/// One entry of a message's `x-death` header: a queue it was dropped from.
public struct AMQPDeath: Hashable, Sendable {
    /// How often it was dropped there for this reason.
    public let count: Int64
    /// The broker's word: `rejected`, `expired`, `maxlen` or `delivery_limit`.
    public let reason: String
    /// The queue.
    public let queue: String
    /// The exchange it had been published to.
    public let exchange: String
    /// The routing keys it had been published with.
    public let routingKeys: [String]
    /// When it was first dropped there, seconds since 1970.
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
