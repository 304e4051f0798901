// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPStreamedDeliveries: the deliveries of a consumer whose bodies are read while they arrive, so that a large message is
// never held whole. A body in one frame that was found whole in what was read has one piece.

extension AMQPDeliveries {
    /// The same deliveries, with bodies that are read while they arrive.
    ///
    /// For messages too large to be held in memory whole. A body counts towards the configuration's `consumerBufferSize`
    /// only as far as it has arrived and is not read; a reader that is behind stops the socket. Read either this sequence
    /// or the plain one.
    public var streamed: AMQPStreamedDeliveries { AMQPStreamedDeliveries(base: self) }
}

/// The deliveries of one consumer, in order, whose bodies are read while they arrive.
///
/// It ends as ``AMQPDeliveries`` does.
public struct AMQPStreamedDeliveries: AsyncSequence, Sendable {
    /// What it yields.
    public typealias Element = AMQPStreamedDelivery
    /// What it throws.
    public typealias Failure = AMQPError

    let base: AMQPDeliveries

    /// The iterator, to be used by one task.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: self.base.makeAsyncIterator()) }

    /// Walks the deliveries.
    public struct AsyncIterator: AsyncIteratorProtocol {
        private var base: AMQPDeliveries.AsyncIterator
        private var last: BodyPieces?

        init(base: AMQPDeliveries.AsyncIterator) { self.base = base }

        /// The next delivery; waits for one when there is none.
        ///
        /// What was not read of the body of the last one is dropped; it can still be settled.
        ///
        /// - Parameter actor: Not used: the call runs where its caller runs.
        /// - Returns: The delivery; nil when the application cancelled the consumer.
        /// - Throws: ``AMQPError``, why no more deliveries come.
        public nonisolated(nonsending) mutating func next(
            isolation actor: (any Actor)?
        ) async throws(AMQPError) -> AMQPStreamedDelivery? {
            self.last?.leaveBehind()
            self.last = nil
            guard let delivery = try await self.base.nextInPieces() else { return nil }
            self.last = delivery.batch.pieces
            return AMQPStreamedDelivery(delivery: delivery)
        }
    }
}

/// A message from the broker whose body is read while it arrives.
public struct AMQPStreamedDelivery: Sendable {
    private let delivery: AMQPDelivery

    init(delivery: AMQPDelivery) { self.delivery = delivery }

    /// The number of this delivery on its channel, from 1.
    public var deliveryTag: DeliveryTag { self.delivery.deliveryTag }

    /// True when the message was delivered before, to this consumer or another.
    public var redelivered: Bool { self.delivery.redelivered }

    /// The exchange it was published to; empty for the default exchange.
    public var exchange: String { self.delivery.exchange }

    /// The routing key it was published with.
    public var routingKey: String { self.delivery.routingKey }

    /// The exchange and routing key it was published with, octet for octet, to publish it there again.
    public var destination: AMQPDestination { self.delivery.destination }

    /// The consumer tag it was delivered to.
    public var consumerTag: String { self.delivery.consumerTag }

    /// The properties, decoded at each call.
    ///
    /// - Throws: ``AMQPError`` with code `.protocolViolation` if they cannot be decoded; the delivery can be settled.
    public func properties() throws(AMQPError) -> BasicProperties { try self.delivery.properties() }

    /// The body, to be read once, before the next delivery is asked for.
    public var body: AMQPStreamedBody { AMQPStreamedBody(delivery: self.delivery) }

    /// Says that the message was processed; as ``AMQPDelivery/ack(multiple:fileID:line:)``.
    ///
    /// It may be called before the body is read to its end.
    ///
    /// - Parameters:
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: `.stale` when the broker delivers it again, because the connection it came on is gone.
    /// - Throws: ``AMQPError`` as ``AMQPDelivery/ack(multiple:fileID:line:)``.
    @discardableResult
    public func ack(
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        try self.delivery.ack(fileID: fileID, line: line)
    }

    /// Returns a message that was not processed; as ``AMQPDelivery/nack(requeue:multiple:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - requeue: True puts it back into its queue; false drops or dead-letters it.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: As ``ack(fileID:line:)``.
    /// - Throws: ``AMQPError`` as ``AMQPDelivery/ack(multiple:fileID:line:)``.
    @discardableResult
    public func nack(
        requeue: Bool = true,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        try self.delivery.nack(requeue: requeue, fileID: fileID, line: line)
    }

    /// Refuses a message whose processing failed; as ``AMQPDelivery/reject(requeue:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - requeue: True puts it back into its queue; false drops or dead-letters it.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: As ``ack(fileID:line:)``.
    /// - Throws: ``AMQPError`` as ``AMQPDelivery/ack(multiple:fileID:line:)``.
    @discardableResult
    public func reject(
        requeue: Bool = true,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        try self.delivery.reject(requeue: requeue, fileID: fileID, line: line)
    }
}

/// The octets of one message, in the pieces in which they arrive.
///
/// A piece is up to the connection's frame size; those of a body that was there whole are one.
public struct AMQPStreamedBody: AsyncSequence, Sendable {
    /// What it yields; valid as long as it is held.
    public typealias Element = AMQPDeliveryBody
    /// What it throws.
    public typealias Failure = AMQPError

    private let delivery: AMQPDelivery

    init(delivery: AMQPDelivery) { self.delivery = delivery }

    /// Octets of the whole body, known before they have arrived.
    public var count: Int { self.delivery.batch.pieces?.count ?? self.delivery.body.count }

    /// The iterator; a second one goes on where the first one stopped.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(delivery: self.delivery) }

    /// Walks the pieces.
    public struct AsyncIterator: AsyncIteratorProtocol {
        private let pieces: BodyPieces?
        private var whole: AMQPDeliveryBody?
        private let error: AMQPError?

        init(delivery: AMQPDelivery) {
            self.pieces = delivery.batch.pieces
            self.whole = self.pieces == nil && delivery.body.count > 0 ? delivery.body : nil
            self.error = delivery.bodyError
        }

        /// The next piece; waits for one that has not arrived.
        ///
        /// - Parameter actor: Not used: the call runs where its caller runs.
        /// - Returns: The piece; nil behind the last.
        /// - Throws: ``AMQPError``: why the rest does not come, `.bodyTooLarge` among them, `.invalidArgument` when the next delivery was asked for
        ///   meanwhile, or `.cancelled`, after which reading can go on.
        public nonisolated(nonsending) mutating func next(
            isolation actor: (any Actor)?
        ) async throws(AMQPError) -> AMQPDeliveryBody? {
            if let error = self.error { throw error }
            guard let pieces = self.pieces else { return self.whole.take() }
            return try await pieces.next()
        }
    }
}
