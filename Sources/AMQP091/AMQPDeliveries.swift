// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// AMQPDeliveries: the deliveries of one consumer as an AsyncSequence for one task at a time.
// `next(isolation:)` is nonisolated(nonsending) and inlinable, so a loop over it neither hops nor locks per message.

/// The deliveries of one consumer, in order.
///
/// It ends without an error only when the application cancelled the consumer; otherwise it throws the reason.
public struct AMQPDeliveries: AsyncSequence, Sendable {
    /// What it yields.
    public typealias Element = AMQPDelivery
    /// What it throws.
    public typealias Failure = AMQPError

    let inbox: ConsumerInbox

    /// The consumer tag.
    public var consumerTag: String { self.inbox.consumerTag }

    /// An iterator; the deliveries go to whichever iterator asks, so use one.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(inbox: self.inbox) }

    /// Walks the deliveries.
    @frozen
    public struct AsyncIterator: AsyncIteratorProtocol {
        @usableFromInline let inbox: ConsumerInbox
        @usableFromInline var batch: DeliveryBatch?
        @usableFromInline var index = 0
        @usableFromInline var count = 0

        init(inbox: ConsumerInbox) { self.inbox = inbox }

        /// The next delivery; waits for one when there is none.
        @inlinable
        public nonisolated(nonsending) mutating func next(
            isolation actor: (any Actor)?
        ) async throws(AMQPError) -> AMQPDelivery? {
            if self.index < self.count, let batch = self.batch {
                self.index += 1
                batch.readCount = self.index
                return AMQPDelivery(batch: batch, record: batch.records[self.index - 1])
            }
            return try await self.refill()
        }

        @usableFromInline
        nonisolated(nonsending) mutating func refill() async throws(AMQPError) -> AMQPDelivery? {
            self.index = 0
            self.count = 0
            // Taken, so that the batch is not referenced from here while the inbox looks whether it can be used again.
            guard let batch = try await self.inbox.next(after: self.batch.take()) else { return nil }
            self.batch = batch
            self.count = batch.count
            self.index = 1
            batch.readCount = 1
            return AMQPDelivery(batch: batch, record: batch.records[0])
        }
    }
}
