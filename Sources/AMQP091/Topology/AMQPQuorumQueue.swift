// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPQuorumQueue: the options of RabbitMQ's quorum queues. They are always durable and shared, and know neither
// exclusiveness nor automatic deletion. An option that a version does not know is ignored by 3.10 to 4.2.

/// A quorum queue: replicated in a cluster; counts deliveries, so that a message that always fails ends.
///
/// Priorities need no option: since RabbitMQ 4.0 a message of `BasicProperties.priority` 5 or more has precedence over
/// the others, two to one; since 4.3 there are 32 strict priorities, 0 to 31 (4 without the property, 31 above it). Before
/// 4.0 the property has no effect.
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
    /// Condition under which a message that returns to the queue is delayed (`x-delayed-retry-type`).
    public enum DelayedRetryType: String, Hashable, Sendable {
        /// Every message that returns.
        case all
        /// A message that returns with a higher delivery count: it was rejected, or its channel ended.
        case failed
        /// A message that returns unprocessed, by `basic.nack`.
        case returned
    }

    /// Delay before a message that returned to the queue is delivered again, in RabbitMQ 4.3 or later.
    public struct DelayedRetry: Hashable, Sendable {
        /// Condition for the delay.
        public var type: DelayedRetryType
        /// The delay after the first return, whole milliseconds, 1 ms or more; it grows by as much with each failure.
        public var minimum: Duration
        /// The longest delay, `minimum` or more; nil for the broker's default.
        public var maximum: Duration?

        /// A delay of `minimum` times the delivery count, up to `maximum`.
        public init(_ type: DelayedRetryType, minimum: Duration, maximum: Duration? = nil) {
            self.type = type
            self.minimum = minimum
            self.maximum = maximum
        }
    }

    /// Failed deliveries (`x-delivery-limit`) after which a message is dropped or dead-lettered.
    ///
    /// A limit of 5 allows 6 deliveries. 0 or more; -1 for no limit, which turns off the default of 20 that RabbitMQ has since 4.0; nil for
    /// the broker's default, which is no limit before. -1 is left out for a RabbitMQ before 4.0, which would drop a
    /// message at its first return.
    ///
    /// Before RabbitMQ 4.3 every return counts; since 4.3 ``AMQPDelivery/reject(requeue:fileID:line:)`` and the end of the
    /// channel, but not ``AMQPDelivery/nack(requeue:multiple:fileID:line:)``.
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
    ///
    /// RabbitMQ 3.10 or later.
    public var deadLetterStrategy: DeadLetterStrategy?
    /// Whether one consumer at a time gets all messages.
    public var isSingleActiveConsumer = false
    /// How long a delivery may stay unacknowledged (`x-consumer-timeout`), 1 ms up to 4294967295 ms; nil for the broker's
    /// default, 30 minutes.
    ///
    /// RabbitMQ 3.12 or later; 3.10 takes the argument and ignores it. What happens then: ``AMQPError/Code-swift.struct/acknowledgementTimedOut``.
    public var consumerTimeout: Duration?
    /// How long the messages of a consumer whose node is unreachable stay with it (`x-consumer-disconnected-timeout`),
    /// 1 ms up to 4294967295 ms; nil for the broker's default.
    ///
    /// RabbitMQ 4.3 or later; earlier versions take the argument and ignore it.
    public var consumerDisconnectedTimeout: Duration?
    /// Delay before a message that returned is delivered again (`x-delayed-retry-type`, `-min`, `-max`); nil for none.
    ///
    /// RabbitMQ 4.3 or later; earlier versions take the arguments and ignore them.
    public var delayedRetry: DelayedRetry?
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
        try arguments.set("x-delivery-limit", self.deliveryLimit, in: -1...Int64.max)
        try arguments.set("x-message-ttl", self.messageTimeToLive, in: 0...QueueArguments.longestTimer)
        try arguments.set("x-expires", self.expires, in: 1...QueueArguments.longestTimer)
        try arguments.set("x-max-length", self.maximumLength, in: 0...Int64.max)
        try arguments.set("x-max-length-bytes", self.maximumOctets, in: 0...Int64.max)
        arguments.set("x-overflow", self.overflow?.rawValue)
        arguments.set(self.deadLetter)
        arguments.set("x-dead-letter-strategy", self.deadLetterStrategy?.rawValue)
        arguments.set("x-single-active-consumer", self.isSingleActiveConsumer)
        try arguments.set("x-consumer-timeout", self.consumerTimeout, in: 1...QueueArguments.longestTimer)
        try arguments.set(
            "x-consumer-disconnected-timeout",
            self.consumerDisconnectedTimeout,
            in: 1...QueueArguments.longestTimer
        )
        if let retry = self.delayedRetry {
            let longest = QueueArguments.longestTimer
            arguments.set("x-delayed-retry-type", retry.type.rawValue)
            try arguments.set("x-delayed-retry-min", retry.minimum, in: 1...longest)
            try arguments.set("x-delayed-retry-max", retry.maximum, in: retry.minimum.wholeMilliseconds...longest)
        }
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
        consumerTimeout: Duration? = nil,
        delayedRetry: AMQPQuorumQueue.DelayedRetry? = nil,
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
        queue.consumerTimeout = consumerTimeout
        queue.delayedRetry = delayedRetry
        queue.additionalArguments = additionalArguments
        return queue
    }
}
