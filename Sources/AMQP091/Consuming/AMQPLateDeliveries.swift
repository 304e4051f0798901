// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Deliveries the broker is about to lose patience with, as events: the warning that is logged too. How they are found is
// in ConnectionSession+SettlementWatch.

/// A delivery that is unsettled after four fifths of the broker's acknowledgement timeout.
///
/// At the timeout the broker closes the channel (406), and every delivery of the channel is requeued. RabbitMQ 4.3
/// and later cancel the consumer instead, for quorum queues only: deliveries of other queues have no timeout there.
public struct AMQPLateDelivery: Hashable, Sendable {
    /// The channel of the delivery.
    public let channel: ChannelNumber
    /// The delivery tag.
    public let deliveryTag: DeliveryTag
    /// Time for which it has been the oldest unsettled delivery; up to a twentieth of the limit too low.
    public let age: Duration
    /// The configuration's `acknowledgementTimeout`.
    public let limit: Duration
}

/// Deliveries that are about to exceed the acknowledgement timeout, each reported once.
///
/// A slow observer gets the newest 64. The sequence ends with the connection.
public struct AMQPLateDeliveries: AsyncSequence, Sendable {
    /// The element type.
    public typealias Element = AMQPLateDelivery
    /// The sequence throws no error.
    public typealias Failure = Never

    /// Maximum number of buffered deliveries.
    static let limit = 64

    private let source: Broadcast<AMQPLateDelivery>.Source

    fileprivate init(_ hub: Broadcast<AMQPLateDelivery>) { self.source = Broadcast.Source(hub) }

    /// The first iterator gets all since the creation of the sequence, others those since their own creation.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: self.source.subscription()) }

    /// The iterator over deliveries.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let subscription: Broadcast<AMQPLateDelivery>.Subscription

        /// Returns the next one; nil at the end of the connection or when the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> AMQPLateDelivery? {
            await self.subscription.next()
        }
    }
}

extension AMQPConnection {
    /// Deliveries that are about to exceed the acknowledgement timeout.
    ///
    /// Requires an `acknowledgementTimeout` in the configuration.
    public var lateDeliveries: AMQPLateDeliveries { AMQPLateDeliveries(self.driver.lateDeliveries) }
}
