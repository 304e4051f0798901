// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPQuorumQueue: the options of RabbitMQ's quorum queues. They are always durable and shared, and know neither
// exclusiveness nor automatic deletion.

/// A quorum queue: replicated in a cluster; counts deliveries, so that a message that always fails ends.
public struct AMQPQuorumQueue: AMQPQueueKind {
    /// What happens to a publish that would break a length limit.
    public enum Overflow: String, Hashable, Sendable {
        /// The oldest messages go.
        case dropHead = "drop-head"
        /// The publish is nacked.
        case rejectPublish = "reject-publish"
    }

    /// How surely a dropped message reaches the dead-letter exchange.
    public enum DeadLetterStrategy: String, Hashable, Sendable {
        /// It may be lost on the way.
        case atMostOnce = "at-most-once"
        /// It stays until the target has it; needs ``Overflow/rejectPublish``.
        case atLeastOnce = "at-least-once"
    }

    /// Always true.
    public var isDurable: Bool { true }
    /// Always false.
    public var isExclusive: Bool { false }
    /// Always false.
    public var isAutoDelete: Bool { false }
    /// How often a message is delivered again before it is dropped or dead-lettered, 0...; nil for the broker's default.
    public var deliveryLimit: Int?
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
    /// How surely they get there; nil for the broker's default, `atMostOnce`.
    public var deadLetterStrategy: DeadLetterStrategy?
    /// Whether one consumer at a time gets all messages.
    public var isSingleActiveConsumer = false
    /// Members to begin with, 1...; nil for the broker's default.
    public var initialGroupSize: Int?
    /// Where in a cluster its leader goes; nil for the broker's default.
    public var leaderLocator: AMQPLeaderLocator?
    /// Any other argument of the broker or its plugins; it wins over the options above.
    public var additionalArguments: FieldTable = [:]

    /// A queue without limits.
    public init() {}

    /// The options as the broker's arguments.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidArgument` that names an option outside its range, and the range.
    public func arguments() throws(AMQPError) -> FieldTable {
        if self.deadLetterStrategy == .atLeastOnce {
            // RabbitMQ would fall back to at-most-once without a word.
            guard self.deadLetter != nil, self.overflow == .rejectPublish else {
                throw AMQPError(
                    .invalidArgument,
                    "deadLetterStrategy .atLeastOnce needs a deadLetter and the overflow .rejectPublish",
                    isSafeToRetry: true
                )
            }
        }
        var arguments = QueueArguments("quorum")
        try arguments.set("x-delivery-limit", self.deliveryLimit, in: 0...Int64.max)
        try arguments.set("x-message-ttl", self.messageTimeToLive, in: 0...QueueArguments.longestTimer)
        try arguments.set("x-expires", self.expires, in: 1...QueueArguments.longestTimer)
        try arguments.set("x-max-length", self.maximumLength, in: 0...Int64.max)
        try arguments.set("x-max-length-bytes", self.maximumOctets, in: 0...Int64.max)
        arguments.set("x-overflow", self.overflow?.rawValue)
        arguments.set(self.deadLetter)
        arguments.set("x-dead-letter-strategy", self.deadLetterStrategy?.rawValue)
        arguments.set("x-single-active-consumer", self.isSingleActiveConsumer)
        try arguments.set("x-quorum-initial-group-size", self.initialGroupSize, in: 1...Int64.max)
        arguments.set("x-queue-leader-locator", self.leaderLocator?.rawValue)
        return arguments.with(self.additionalArguments)
    }
}

extension AMQPQueueKind where Self == AMQPQuorumQueue {
    /// A quorum queue; each option is the property of ``AMQPQuorumQueue`` of the same name.
    public static func quorum(
        deliveryLimit: Int? = nil,
        messageTimeToLive: Duration? = nil,
        expires: Duration? = nil,
        maximumLength: Int? = nil,
        maximumOctets: Int? = nil,
        overflow: AMQPQuorumQueue.Overflow? = nil,
        deadLetter: AMQPDeadLetter? = nil,
        deadLetterStrategy: AMQPQuorumQueue.DeadLetterStrategy? = nil,
        singleActiveConsumer: Bool = false,
        additionalArguments: FieldTable = [:]
    ) -> AMQPQuorumQueue {
        var queue = AMQPQuorumQueue()
        queue.deliveryLimit = deliveryLimit
        queue.messageTimeToLive = messageTimeToLive
        queue.expires = expires
        queue.maximumLength = maximumLength
        queue.maximumOctets = maximumOctets
        queue.overflow = overflow
        queue.deadLetter = deadLetter
        queue.deadLetterStrategy = deadLetterStrategy
        queue.isSingleActiveConsumer = singleActiveConsumer
        queue.additionalArguments = additionalArguments
        return queue
    }
}
