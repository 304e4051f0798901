// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Deliveries the broker is about to lose patience with, as events: the warning that is logged too. How they are found is
// in ConnectionSession+SettlementWatch.

/// A delivery that is not settled though four fifths of the broker's time for it have passed.
///
/// At the end of that time the broker closes the channel (406), and every delivery of the channel comes again. RabbitMQ 4.3
/// and later cancel the consumer instead, and of quorum queues only: deliveries of other queues are never late there.
public struct AMQPLateDelivery: Hashable, Sendable {
    /// The channel it came on.
    public let channel: ChannelNumber
    /// Its number on the channel.
    public let deliveryTag: DeliveryTag
    /// How long it has been the oldest that is not settled; up to a twentieth of the limit too low.
    public let age: Duration
    /// The configuration's `acknowledgementTimeout`.
    public let limit: Duration
}

/// Deliveries that are about to exceed the broker's time for settling them, each told once.
///
/// An observer that falls behind sees the newest 64. It ends with the connection.
public struct AMQPLateDeliveries: AsyncSequence, Sendable {
    /// What it yields.
    public typealias Element = AMQPLateDelivery
    /// It throws nothing.
    public typealias Failure = Never

    /// Deliveries an observer may fall behind.
    static let limit = 64

    private let source: Broadcast<AMQPLateDelivery>.Source

    fileprivate init(_ hub: Broadcast<AMQPLateDelivery>) { self.source = Broadcast.Source(hub) }

    /// The first iterator sees all since the sequence was made, any other those since it was made itself.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: self.source.subscription()) }

    /// Walks the deliveries.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let subscription: Broadcast<AMQPLateDelivery>.Subscription

        /// The next one; nil at the end of the connection or when the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> AMQPLateDelivery? {
            await self.subscription.next()
        }
    }
}

extension AMQPConnection {
    /// Deliveries that are about to exceed the broker's time for settling them.
    ///
    /// They are looked for when the configuration has an `acknowledgementTimeout`.
    public var lateDeliveries: AMQPLateDeliveries { AMQPLateDeliveries(self.driver.lateDeliveries) }
}
