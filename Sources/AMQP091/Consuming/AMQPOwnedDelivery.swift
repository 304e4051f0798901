// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPOwnedDelivery: a delivery that cannot be copied, so that settling it twice does not compile. It is handed out by
// AMQPDeliveries.forEach, because the elements of an AsyncSequence must be copyable.

/// A message from the broker that is settled exactly once: settling consumes it.
///
/// A delivery that is dropped without being settled, also because of an error, returns to its queue (`basic.nack`).
public struct AMQPOwnedDelivery: ~Copyable, Sendable {
    private let delivery: AMQPDelivery
    private var isSettled: Bool

    init(_ delivery: AMQPDelivery) {
        self.delivery = delivery
        self.isSettled = delivery.batch.isAutomatic
    }

    deinit {
        // It fails only when the channel is gone, and then the broker has put it back itself.
        if !self.isSettled { _ = try? self.delivery.nack(requeue: true) }
    }

    /// The number of this delivery on its channel, from 1.
    public var deliveryTag: DeliveryTag { self.delivery.deliveryTag }
    /// The body; it may be kept beyond the delivery.
    public var body: AMQPDeliveryBody { self.delivery.body }
    /// True when the message was delivered before, to this consumer or another.
    public var redelivered: Bool { self.delivery.redelivered }
    /// The exchange it was published to; empty for the default exchange.
    public var exchange: String { self.delivery.exchange }
    /// The routing key it was published with.
    public var routingKey: String { self.delivery.routingKey }
    /// The exchange and routing key it was published with, octet for octet, to publish it there again.
    public var destination: AMQPDestination { self.delivery.destination }

    /// The properties, decoded at each call.
    ///
    /// - Throws: ``AMQPError`` with code `.protocolViolation` if they cannot be decoded; the delivery can be settled.
    public func properties() throws(AMQPError) -> BasicProperties { try self.delivery.properties() }

    /// Says that the message was processed: `basic.ack` (60, 80).
    ///
    /// - Parameters:
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: `.stale`, as ``AMQPDelivery/ack(multiple:fileID:line:)``.
    /// - Throws: ``AMQPError``: other than with a client, `.channelClosed` or `.connectionClosed` when the channel it
    ///   came on is gone; nothing is sent then, and the message comes again.
    @discardableResult
    public consuming func ack(
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        let isAutomatic = self.isSettled
        self.isSettled = true
        return isAutomatic ? .settled : try self.delivery.ack(fileID: fileID, line: line)
    }

    /// Returns a message that was not processed: `basic.nack` (60, 120).
    ///
    /// For a message whose processing failed use ``reject(requeue:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - requeue: True puts it back into its queue; false drops or dead-letters it.
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

    /// Refuses a message whose processing failed: `basic.reject` (60, 90).
    ///
    /// With `requeue` it counts towards the delivery limit of a quorum queue on every version of RabbitMQ.
    ///
    /// - Parameters:
    ///   - requeue: True puts it back into its queue; false drops or dead-letters it.
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
    /// Gives each delivery to `body`, one after the other, as a value that is settled exactly once.
    ///
    /// - Parameter body: Settles the delivery by consuming it; one it drops goes back to its queue.
    /// - Throws: What `body` throws; or ``AMQPError``, the reason why no more deliveries come. Returns when the
    ///   application cancelled the consumer.
    public func forEach(_ body: (consuming AMQPOwnedDelivery) async throws -> Void) async throws {
        for try await delivery in self { try await body(AMQPOwnedDelivery(delivery)) }
    }
}
