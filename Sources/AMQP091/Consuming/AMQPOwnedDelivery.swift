// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPOwnedDelivery: a move-only delivery, so that settling it twice does not compile. AMQPDeliveries.forEach provides
// it, because the elements of an AsyncSequence must be copyable.

/// A delivery that is settled exactly once: settling consumes it.
///
/// A delivery that is dropped unsettled, also because of an error, is requeued (`basic.nack`).
public struct AMQPOwnedDelivery: ~Copyable, Sendable {
    private let delivery: AMQPDelivery
    private var isSettled: Bool

    init(_ delivery: AMQPDelivery) {
        self.delivery = delivery
        self.isSettled = delivery.batch.isAutomatic
    }

    deinit {
        // Fails only if the channel has ended, and then the broker has requeued the message.
        if !self.isSettled { _ = try? self.delivery.nack(requeue: true) }
    }

    /// The number of this delivery on its channel, from 1.
    public var deliveryTag: DeliveryTag { self.delivery.deliveryTag }
    /// The body; it may outlive the delivery.
    public var body: AMQPDeliveryBody { self.delivery.body }
    /// True when the message was delivered before, to this consumer or another.
    public var redelivered: Bool { self.delivery.redelivered }
    /// The exchange of the publish; empty for the default exchange.
    public var exchange: String { self.delivery.exchange }
    /// The routing key of the publish.
    public var routingKey: String { self.delivery.routingKey }
    /// The exchange and routing key of the publish, octet for octet, to publish it again.
    public var destination: AMQPDestination { self.delivery.destination }

    /// Decodes the properties, at each call.
    ///
    /// - Throws: ``AMQPError`` with code `.protocolViolation` if they cannot be decoded; the delivery can still be settled.
    public func properties() throws(AMQPError) -> BasicProperties { try self.delivery.properties() }

    /// Acknowledges the delivery: `basic.ack` (60, 80).
    ///
    /// - Parameters:
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: `.stale`, as ``AMQPDelivery/ack(multiple:fileID:line:)``.
    /// - Throws: ``AMQPError``: without an ``AMQPClient``, `.channelClosed` or `.connectionClosed` if its channel has ended;
    ///   nothing is sent then, and the message is delivered again.
    @discardableResult
    public consuming func ack(
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        let isAutomatic = self.isSettled
        self.isSettled = true
        return isAutomatic ? .settled : try self.delivery.ack(fileID: fileID, line: line)
    }

    /// Returns an unprocessed message: `basic.nack` (60, 120).
    ///
    /// For a message whose processing failed use ``reject(requeue:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - requeue: True to requeue the message; false to dead-letter or drop it.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: As ``ack(fileID:line:)``.
    /// - Throws: ``AMQPError`` as ``ack(fileID:line:)``.
    @discardableResult
    public consuming func nack(
        requeue: Bool = true,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        let isAutomatic = self.isSettled
        self.isSettled = true
        return isAutomatic ? .settled : try self.delivery.nack(requeue: requeue, fileID: fileID, line: line)
    }

    /// Rejects a message whose processing failed: `basic.reject` (60, 90).
    ///
    /// With `requeue` it counts towards the delivery limit of a quorum queue on every version of RabbitMQ.
    ///
    /// - Parameters:
    ///   - requeue: True to requeue the message; false to dead-letter or drop it.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: As ``ack(fileID:line:)``.
    /// - Throws: ``AMQPError`` as ``ack(fileID:line:)``.
    @discardableResult
    public consuming func reject(
        requeue: Bool = true,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        let isAutomatic = self.isSettled
        self.isSettled = true
        return isAutomatic ? .settled : try self.delivery.reject(requeue: requeue, fileID: fileID, line: line)
    }
}

extension AMQPDeliveries {
    /// Calls `body` with each delivery, one after the other, as a value that is settled exactly once.
    ///
    /// - Parameter body: Settles the delivery by consuming it; a dropped one is requeued.
    /// - Throws: The error of `body`; or ``AMQPError``, the reason why the consumer ended. Returns when the
    ///   application cancelled the consumer.
    public func forEach(_ body: (consuming AMQPOwnedDelivery) async throws -> Void) async throws {
        for try await delivery in self { try await body(AMQPOwnedDelivery(delivery)) }
    }
}
