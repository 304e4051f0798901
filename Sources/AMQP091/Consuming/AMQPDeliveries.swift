// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// AMQPDeliveries: the deliveries of one consumer as an AsyncSequence for one task at a time.
// `next(isolation:)` is nonisolated(nonsending) and inlinable, so a loop over it neither hops nor locks per message.

/// The deliveries of one consumer, in order.
///
/// The sequence ends without an error only if the application cancelled the consumer; otherwise it throws the reason. The
/// sequence of an ``AMQPClient`` continues after a lost connection and after a cancellation by the broker.
public struct AMQPDeliveries: AsyncSequence, Sendable {
    /// The element type.
    public typealias Element = AMQPDelivery
    /// The error type.
    public typealias Failure = AMQPError

    /// The consumer's inbox; the first one if the consumer recovers.
    let inbox: ConsumerInbox
    /// Provides the next inbox when one has ended; nil for a consumer that ends with it.
    let successor: RecoveringConsumer?

    init(inbox: ConsumerInbox, successor: RecoveringConsumer? = nil) {
        self.inbox = inbox
        self.successor = successor
    }

    /// The consumer tag; it changes after a recovery.
    public var consumerTag: String { (self.successor?.inbox ?? self.inbox).consumerTag }

    /// Returns an iterator; use one at a time: deliveries go to any iterator that asks, in batches.
    ///
    /// A loop that begins after another was left continues where that one stopped.
    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(inbox: self.successor?.inbox ?? self.inbox, successor: self.successor)
    }

    /// The iterator over deliveries.
    @frozen
    public struct AsyncIterator: AsyncIteratorProtocol {
        @usableFromInline var inbox: ConsumerInbox
        @usableFromInline let successor: RecoveringConsumer?
        @usableFromInline let reader: DeliveryReader
        @usableFromInline var batch: DeliveryBatch?
        @usableFromInline var index = 0
        @usableFromInline var count = 0

        init(inbox: ConsumerInbox, successor: RecoveringConsumer?) {
            self.inbox = inbox
            self.successor = successor
            self.reader = DeliveryReader()
        }

        /// Returns the next delivery; waits if there is none.
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
        nonisolated(nonsending) mutating func refill(inPieces: Bool = false) async throws(AMQPError) -> AMQPDelivery? {
            self.index = 0
            self.count = 0
            guard let batch = try await self.nextBatch(inPieces: inPieces) else { return nil }
            self.batch = batch
            self.count = batch.count
            // Not the first delivery if another loop has stopped in the middle of the batch.
            self.index = batch.readCount + 1
            batch.readCount = self.index
            return AMQPDelivery(batch: batch, record: batch.records[self.index - 1])
        }

        /// Returns the next delivery, whose body may be incomplete.
        nonisolated(nonsending) mutating func nextInPieces() async throws(AMQPError) -> AMQPDelivery? {
            guard self.index < self.count, let batch = self.batch else { return try await self.refill(inPieces: true) }
            self.index += 1
            batch.readCount = self.index
            return AMQPDelivery(batch: batch, record: batch.records[self.index - 1])
        }

        @inline(__always)
        private nonisolated(nonsending) mutating func nextBatch(
            inPieces: Bool
        ) async throws(AMQPError) -> DeliveryBatch? {
            if let successor = self.successor {
                // An earlier loop may have left a finished batch.
                if let batch = self.batch ?? self.inbox.leftBatch { successor.hasRead(batch) }
            }
            while true {
                do throws(AMQPError) {
                    // Taken, so that the batch is not referenced from here while the inbox checks whether it can be
                    // reused.
                    let batch = try await self.inbox.next(after: self.batch.take(), for: self.reader)
                    if batch == nil, let failure = self.successor?.failure { throw failure }
                    guard !inPieces, let batch, let pieces = batch.pieces else { return batch }
                    return try await batch.whole(pieces)
                } catch {
                    guard let successor = self.successor else { throw error }
                    guard let next = try await successor.inbox(after: self.inbox, error) else { return nil }
                    self.inbox = next
                }
            }
        }
    }
}
