// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPClassicQueue: the options of RabbitMQ's classic queues, without those of quorum queues and streams.

/// A classic queue: on one node; may be exclusive, transient or auto-delete; supports priorities.
public struct AMQPClassicQueue: AMQPQueueKind {
    /// Behaviour of a publish that would exceed a length limit.
    public enum Overflow: String, Hashable, Sendable {
        /// The oldest messages are dropped.
        case dropHead = "drop-head"
        /// The publish is nacked.
        case rejectPublish = "reject-publish"
        /// The publish is nacked and dead-lettered.
        case rejectPublishDeadLetter = "reject-publish-dlx"
    }

    /// True if it survives a restart of the broker; by default true unless it is exclusive.
    ///
    /// RabbitMQ 4.3 refuses (541) a queue that is neither durable nor exclusive, and so closes the connection; 4.0 to
    /// 4.2 call it deprecated.
    public var isDurable: Bool {
        get { Self.isDurable(self.durable, exclusive: self.isExclusive) }
        set { self.durable = newValue }
    }

    /// The explicit value; nil for the default.
    fileprivate var durable: Bool?
    /// True if it is exclusive to the declaring connection and deleted with it.
    public var isExclusive = false
    /// True if it is deleted with its last consumer.
    public var isAutoDelete = false
    /// Time to live of messages, whole milliseconds up to 4294967295; nil for none.
    public var messageTimeToLive: Duration?
    /// Time without use after which the queue is deleted, 1 ms up to 4294967295 ms; nil for none.
    public var expires: Duration?
    /// Maximum number of messages; nil for no limit.
    public var maximumLength: Int?
    /// Maximum total size of bodies in octets; nil for no limit.
    public var maximumOctets: Int?
    /// Behaviour at a length limit; nil for the broker's default, `dropHead`.
    public var overflow: Overflow?
    /// Target of dropped messages; nil for none.
    public var deadLetter: AMQPDeadLetter?
    /// Maximum priority, 1...255, preferably small; nil for no priorities.
    ///
    /// Classic queues only: quorum queues have priorities without it since RabbitMQ 4.0.
    public var maximumPriority: Int?
    /// True for a single active consumer.
    public var isSingleActiveConsumer = false
    /// Placement of the leader in a cluster; nil for the broker's default.
    ///
    /// RabbitMQ 4.0 accepts it; 3.10 refuses (406) a classic queue with this argument.
    public var leaderLocator: AMQPLeaderLocator?
    /// Additional arguments of the broker or its plugins; they override the options above.
    public var additionalArguments: FieldTable = [:]

    /// Creates a durable queue without limits.
    public init() {}

    /// The default of `durable`: true for a shared queue, false for an exclusive one, which ends with its connection.
    static func isDurable(_ asked: Bool?, exclusive: Bool) -> Bool { asked ?? !exclusive }

    /// Returns the options as arguments of `queue.declare`.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidArgument` that names an option outside its range, and the range.
    public func arguments() throws(AMQPError) -> FieldTable {
        var arguments = QueueArguments("classic")
        try arguments.set("x-message-ttl", self.messageTimeToLive, in: 0...QueueArguments.longestTimer)
        try arguments.set("x-expires", self.expires, in: 1...QueueArguments.longestTimer)
        try arguments.set("x-max-length", self.maximumLength, in: 0...Int64.max)
        try arguments.set("x-max-length-bytes", self.maximumOctets, in: 0...Int64.max)
        arguments.set("x-overflow", self.overflow?.rawValue)
        arguments.set(self.deadLetter)
        try arguments.set("x-max-priority", self.maximumPriority, in: 1...255)
        arguments.set("x-single-active-consumer", self.isSingleActiveConsumer)
        arguments.set("x-queue-leader-locator", self.leaderLocator?.rawValue)
        return arguments.with(self.additionalArguments)
    }
}

extension AMQPQueueKind where Self == AMQPClassicQueue {
    /// Returns a classic queue; each option is the property of ``AMQPClassicQueue`` of the same name.
    public static func classic(
        durable: Bool? = nil,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        messageTimeToLive: Duration? = nil,
        expires: Duration? = nil,
        maximumLength: Int? = nil,
        maximumOctets: Int? = nil,
        overflow: AMQPClassicQueue.Overflow? = nil,
        deadLetter: AMQPDeadLetter? = nil,
        maximumPriority: Int? = nil,
        singleActiveConsumer: Bool = false,
        additionalArguments: FieldTable = [:]
    ) -> AMQPClassicQueue {
        var queue = AMQPClassicQueue()
        queue.durable = durable
        queue.isExclusive = exclusive
        queue.isAutoDelete = autoDelete
        queue.messageTimeToLive = messageTimeToLive
        queue.expires = expires
        queue.maximumLength = maximumLength
        queue.maximumOctets = maximumOctets
        queue.overflow = overflow
        queue.deadLetter = deadLetter
        queue.maximumPriority = maximumPriority
        queue.isSingleActiveConsumer = singleActiveConsumer
        queue.additionalArguments = additionalArguments
        return queue
    }
}
