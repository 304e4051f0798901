// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPStreamedDeliveries: the deliveries of a consumer whose bodies are read while they arrive, so that a large message is
// never held as a whole. A body that arrived in one frame and one read has one piece.

extension AMQPDeliveries {
    /// The same deliveries, with bodies that are read while they arrive.
    ///
    /// For messages too large to hold in memory. Only the arrived and unread part of a body counts towards the
    /// configuration's `consumerBufferSize`; a slow reader stops the socket. Iterate either this sequence or the
    /// plain one.
    public var streamed: AMQPStreamedDeliveries { AMQPStreamedDeliveries(base: self) }
}

/// The deliveries of one consumer, in order, whose bodies are read while they arrive.
///
/// It ends as ``AMQPDeliveries`` does.
public struct AMQPStreamedDeliveries: AsyncSequence, Sendable {
    /// The element type.
    public typealias Element = AMQPStreamedDelivery
    /// The error type.
    public typealias Failure = AMQPError

    let base: AMQPDeliveries

    /// The iterator, to be used by one task.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: self.base.makeAsyncIterator()) }

    /// The iterator over deliveries.
    public struct AsyncIterator: AsyncIteratorProtocol {
        private var base: AMQPDeliveries.AsyncIterator
        private var last: BodyPieces?

        init(base: AMQPDeliveries.AsyncIterator) { self.base = base }

        /// Returns the next delivery; waits if there is none.
        ///
        /// Discards the unread rest of the last delivery's body; that delivery can still be settled.
        ///
        /// - Parameter actor: Ignored: the call runs on its caller's executor.
        /// - Returns: The delivery; nil if the application cancelled the consumer.
        /// - Throws: ``AMQPError``: the reason why the consumer ended.
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

    /// The exchange of the publish; empty for the default exchange.
    public var exchange: String { self.delivery.exchange }

    /// The routing key of the publish.
    public var routingKey: String { self.delivery.routingKey }

    /// The exchange and routing key of the publish, octet for octet, to publish it again.
    public var destination: AMQPDestination { self.delivery.destination }

    /// The consumer tag.
    public var consumerTag: String { self.delivery.consumerTag }

    /// Decodes the properties, at each call.
    ///
    /// - Throws: ``AMQPError`` with code `.protocolViolation` if they cannot be decoded; the delivery can still be settled.
    public func properties() throws(AMQPError) -> BasicProperties { try self.delivery.properties() }

    /// The body, to be read once, before the next delivery is requested.
    public var body: AMQPStreamedBody { AMQPStreamedBody(delivery: self.delivery) }

    /// Acknowledges the delivery; see ``AMQPDelivery/ack(multiple:fileID:line:)``.
    ///
    /// It may be called before the whole body is read.
    ///
    /// - Parameters:
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: `.stale` if its connection was lost, so that the broker delivers it again.
    /// - Throws: ``AMQPError`` as ``AMQPDelivery/ack(multiple:fileID:line:)``.
    @discardableResult
    public func ack(
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        try self.delivery.ack(fileID: fileID, line: line)
    }

    /// Returns an unprocessed message; see ``AMQPDelivery/nack(requeue:multiple:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - requeue: True to requeue the message; false to dead-letter or drop it.
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

    /// Rejects a message whose processing failed; see ``AMQPDelivery/reject(requeue:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - requeue: True to requeue the message; false to dead-letter or drop it.
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

/// The octets of one message, in pieces as they arrive.
///
/// A piece has at most the connection's frame size; a body that arrived whole is one piece.
public struct AMQPStreamedBody: AsyncSequence, Sendable {
    /// The element type; an element is valid while it is held.
    public typealias Element = AMQPDeliveryBody
    /// The error type.
    public typealias Failure = AMQPError

    private let delivery: AMQPDelivery

    init(delivery: AMQPDelivery) { self.delivery = delivery }

    /// Size of the whole body in octets, known before it has arrived.
    public var count: Int { self.delivery.batch.pieces?.count ?? self.delivery.body.count }

    /// Returns an iterator; a second one continues where the first stopped.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(delivery: self.delivery) }

    /// The iterator over pieces.
    public struct AsyncIterator: AsyncIteratorProtocol {
        private let pieces: BodyPieces?
        private var whole: AMQPDeliveryBody?
        private let error: AMQPError?

        init(delivery: AMQPDelivery) {
            self.pieces = delivery.batch.pieces
            self.whole = self.pieces == nil && delivery.body.count > 0 ? delivery.body : nil
            self.error = delivery.bodyError
        }

        /// Returns the next piece; waits until it has arrived.
        ///
        /// - Parameter actor: Ignored: the call runs on its caller's executor.
        /// - Returns: The piece; nil after the last.
        /// - Throws: ``AMQPError``: the reason why the rest is missing, such as `.bodyTooLarge`; `.invalidArgument` if the next
        ///   delivery was requested meanwhile; or `.cancelled`, after which reading can continue.
        public nonisolated(nonsending) mutating func next(
            isolation actor: (any Actor)?
        ) async throws(AMQPError) -> AMQPDeliveryBody? {
            if let error = self.error { throw error }
            guard let pieces = self.pieces else { return self.whole.take() }
            return try await pieces.next()
        }
    }
}
