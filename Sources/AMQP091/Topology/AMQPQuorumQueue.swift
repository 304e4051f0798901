// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPQuorumQueue: the options of RabbitMQ's quorum queues, which are always durable and shared, never exclusive or
// auto-delete. RabbitMQ 3.10 to 4.2 ignore options that they do not support.

/// A quorum queue: replicated in a cluster; counts failed deliveries, so that poison messages end.
///
/// Priorities need no option: since RabbitMQ 4.0 a message of `BasicProperties.priority` 5 or more has precedence over
/// the others, two to one; since 4.3 there are 32 strict priorities, 0 to 31 (4 without the property, 31 above it). Before
/// 4.0 the property has no effect.
public struct AMQPQuorumQueue: AMQPQueueKind {
    /// Behaviour of a publish that would exceed a length limit.
    public enum Overflow: String, Hashable, Sendable {
        /// The oldest messages are dropped.
        case dropHead = "drop-head"
        /// The publish is nacked.
        case rejectPublish = "reject-publish"
    }

    /// Delivery guarantee of dead-lettering.
    public enum DeadLetterStrategy: String, Hashable, Sendable {
        /// The message may be lost on the way.
        case atMostOnce = "at-most-once"
        /// The message stays until the target queue has it; needs ``Overflow/rejectPublish``.
        case atLeastOnce = "at-least-once"
    }

    /// Always true.
    public var isDurable: Bool { true }
    /// Always false.
    public var isExclusive: Bool { false }
    /// Always false.
    public var isAutoDelete: Bool { false }
    /// The returns that are delayed (`x-delayed-retry-type`).
    public enum DelayedRetryType: String, Hashable, Sendable {
        /// Every requeued message.
        case all
        /// A message requeued with a higher delivery count: it was rejected, or its channel ended.
        case failed
        /// A message requeued unprocessed, by `basic.nack`.
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
    /// A limit of 5 allows 6 deliveries. 0 or more; -1 for no limit, which disables the default of 20 in RabbitMQ 4.0 and
    /// later; nil for the broker's default, which is no limit before 4.0. -1 is omitted for RabbitMQ before 4.0, which would
    /// drop a message at its first return.
    ///
    /// Before RabbitMQ 4.3 every return counts; since 4.3 ``AMQPDelivery/reject(requeue:fileID:line:)`` and the end of the
    /// channel, but not ``AMQPDelivery/nack(requeue:multiple:fileID:line:)``.
    public var deliveryLimit: Int?
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
    /// Delivery guarantee of dead-lettering; nil for the broker's default, `atMostOnce`.
    ///
    /// RabbitMQ 3.10 or later.
    public var deadLetterStrategy: DeadLetterStrategy?
    /// True for a single active consumer.
    public var isSingleActiveConsumer = false
    /// Acknowledgement timeout of deliveries (`x-consumer-timeout`), 1 ms up to 4294967295 ms; nil for the broker's
    /// default, 30 minutes.
    ///
    /// RabbitMQ 3.12 or later; 3.10 ignores it. See ``AMQPError/Code-swift.struct/acknowledgementTimedOut``.
    public var consumerTimeout: Duration?
    /// How long the messages of a consumer whose node is unreachable stay with it (`x-consumer-disconnected-timeout`),
    /// 1 ms up to 4294967295 ms; nil for the broker's default.
    ///
    /// RabbitMQ 4.3 or later; earlier versions ignore it.
    public var consumerDisconnectedTimeout: Duration?
    /// Delay before a message that returned is delivered again (`x-delayed-retry-type`, `-min`, `-max`); nil for none.
    ///
    /// RabbitMQ 4.3 or later; earlier versions ignore it.
    public var delayedRetry: DelayedRetry?
    /// Initial number of members, 1...; nil for the broker's default.
    public var initialGroupSize: Int?
    /// Placement of the leader in a cluster; nil for the broker's default.
    public var leaderLocator: AMQPLeaderLocator?
    /// Additional arguments of the broker or its plugins; they override the options above.
    public var additionalArguments: FieldTable = [:]

    /// Creates a queue without limits.
    public init() {}

    /// Returns the options as arguments of `queue.declare`.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidArgument` that names an option outside its range, and the range.
    public func arguments() throws(AMQPError) -> FieldTable {
        if self.deadLetterStrategy == .atLeastOnce {
            // RabbitMQ would silently fall back to at-most-once.
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
    /// Returns a quorum queue; each option is the property of ``AMQPQuorumQueue`` of the same name.
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
