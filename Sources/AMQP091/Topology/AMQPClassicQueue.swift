// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPClassicQueue: the options of RabbitMQ's classic queues. Nothing of quorum queues and streams is offered.

/// A classic queue: on one node; may be exclusive, transient or deleted by itself; knows priorities.
public struct AMQPClassicQueue: AMQPQueueKind {
    /// What happens to a publish that would break a length limit.
    public enum Overflow: String, Hashable, Sendable {
        /// The oldest messages go.
        case dropHead = "drop-head"
        /// The publish is nacked.
        case rejectPublish = "reject-publish"
        /// The publish is nacked and dead-lettered.
        case rejectPublishDeadLetter = "reject-publish-dlx"
    }

    /// Whether it survives a restart of the broker; by default true unless it is exclusive.
    ///
    /// RabbitMQ 4.3 refuses (541) a queue that is neither durable nor exclusive, and so closes the connection; 4.0 to
    /// 4.2 call it deprecated.
    public var isDurable: Bool {
        get { Self.isDurable(self.durable, exclusive: self.isExclusive) }
        set { self.durable = newValue }
    }

    /// What was asked for; nil for the default.
    fileprivate var durable: Bool?
    /// Whether only the declaring connection may use it; it goes with the connection.
    public var isExclusive = false
    /// Whether it goes when its last consumer has gone.
    public var isAutoDelete = false
    /// How long a message may wait, whole milliseconds up to 4294967295; nil for ever.
    public var messageTimeToLive: Duration?
    /// How long the queue may be unused before it goes, 1 ms up to 4294967295 ms; nil for ever.
    public var expires: Duration?
    /// Messages it holds at most; nil for no limit.
    public var maximumLength: Int?
    /// Octets of bodies it holds at most; nil for no limit.
    public var maximumOctets: Int?
    /// What happens beyond a limit; nil for the broker's default, `dropHead`.
    public var overflow: Overflow?
    /// Where dropped messages go; nil for nowhere.
    public var deadLetter: AMQPDeadLetter?
    /// The highest priority it tells apart, 1...255, better few; nil for none.
    ///
    /// Classic queues only: quorum queues have priorities without it since RabbitMQ 4.0.
    public var maximumPriority: Int?
    /// Whether one consumer at a time gets all messages.
    public var isSingleActiveConsumer = false
    /// Where in a cluster its leader goes; nil for the broker's default.
    ///
    /// RabbitMQ 4.0 takes it; 3.10 refuses (406) the declaration of a classic queue that has it.
    public var leaderLocator: AMQPLeaderLocator?
    /// Any other argument of the broker or its plugins; it wins over the options above.
    public var additionalArguments: FieldTable = [:]

    /// A durable queue without limits.
    public init() {}

    /// The one default of `durable`: a shared queue is durable, an exclusive one transient, for it ends with its connection.
    static func isDurable(_ asked: Bool?, exclusive: Bool) -> Bool { asked ?? !exclusive }

    /// The options as the broker's arguments.
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
    /// A classic queue; each option is the property of ``AMQPClassicQueue`` of the same name.
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
