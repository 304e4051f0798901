// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollNetworking

// Consuming and getting. The consumer is registered when `consume-ok` is decoded on the loop, so a delivery in the
// same read is not missed. Leaving the closure of `consume` cancels the consumer.

/// How deliveries are acknowledged.
public enum AMQPAcknowledgement: Hashable, Sendable {
    /// By the application, which settles each delivery.
    case manual
    /// By the broker when it sends a message (`no-ack`); prefetch does not apply.
    case automatic
}

extension AMQPChannel {
    /// Consumes a queue while `body` runs, and cancels the consumer when it returns or throws.
    ///
    /// Unread deliveries are then requeued. Deliveries that `body` has read can be settled later,
    /// while the channel is open. In a service of swift-service-lifecycle a graceful shutdown cancels the consumer,
    /// too: the sequence ends after the delivered messages, and `body` finishes (trait `ServiceLifecycleSupport`).
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - consumerTag: The consumer tag, 1...255 octets, unique on this channel; nil for a generated one.
    ///   - acknowledgement: How deliveries are acknowledged.
    ///   - exclusive: True to exclude other consumers of the queue.
    ///   - arguments: Arguments of the broker, such as `x-priority`.
    ///   - timeout: Time to wait for the broker's replies; the configuration's `operationTimeout` by default.
    ///   - body: Receives the deliveries.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
    @discardableResult
    public func consume<Result>(
        _ queue: String,
        consumerTag: String? = nil,
        acknowledgement: AMQPAcknowledgement = .manual,
        exclusive: Bool = false,
        arguments: FieldTable = [:],
        timeout: Duration? = nil,
        _ body: (AMQPDeliveries) async throws -> Result
    ) async throws -> Result {
        let deliveries = try await self.deliveries(
            from: queue,
            consumerTag: consumerTag,
            acknowledgement: acknowledgement,
            exclusive: exclusive,
            arguments: arguments,
            timeout: timeout
        )
        let result: Result
        do {
            result = try await whenGracefullyShutDown {
                try? await self.core.cancel(deliveries.inbox, timeout: nil)
            } during: {
                try await body(deliveries)
            }
        } catch {
            deliveries.inbox.abandon()
            try? await self.core.cancelShielded(deliveries.inbox, timeout: timeout)
            self.core.returnUnread(deliveries.inbox)
            throw error
        }
        deliveries.inbox.abandon()
        if self.isOpen { try await self.core.cancelShielded(deliveries.inbox, timeout: timeout) }
        self.core.returnUnread(deliveries.inbox)
        return result
    }

    /// Starts a consumer: `basic.consume` (60, 20).
    ///
    /// End it with ``cancel(_:timeout:)``.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - consumerTag: The consumer tag, 1...255 octets, unique on this channel; nil for a generated one.
    ///   - acknowledgement: How deliveries are acknowledged.
    ///   - exclusive: True to exclude other consumers of the queue.
    ///   - arguments: Arguments of the broker, such as `x-priority`.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The deliveries, buffered up to the configuration's `consumerBufferSize`.
    /// - Throws: ``AMQPError``: `.invalidArgument` for a consumer tag in use, and the channel stays open; after a refusal by
    ///   the broker the channel is closed.
    public func deliveries(
        from queue: String,
        consumerTag: String? = nil,
        acknowledgement: AMQPAcknowledgement = .manual,
        exclusive: Bool = false,
        arguments: FieldTable = [:],
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPDeliveries {
        let inbox = try await self.core.startConsumer(
            queue: queue,
            consumerTag: consumerTag,
            isAutomatic: acknowledgement == .automatic,
            exclusive: exclusive,
            arguments: arguments,
            timeout: timeout
        )
        return AMQPDeliveries(inbox: inbox)
    }

    /// Ends a consumer: `basic.cancel` (60, 30).
    ///
    /// Its sequence ends behind what was delivered before `cancel-ok`. Of deliveries that are acknowledged by the
    /// application, those that nobody reads and that exceed 16 times `consumerBufferSize` return to the queue instead.
    ///
    /// - Parameters:
    ///   - deliveries: The consumer's deliveries, of this channel.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.invalidArgument` for deliveries of another channel, and nothing is sent.
    public func cancel(_ deliveries: AMQPDeliveries, timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.cancel(deliveries.inbox, timeout: timeout)
    }

    /// Gets one message from a queue: `basic.get` (60, 70).
    ///
    /// To get many messages, consume instead.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - acknowledgement: How the message is acknowledged.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The message; nil if the queue has none ready.
    /// - Throws: ``AMQPError``: `.bodyTooLarge` for a message that was rejected, and the channel stays open; after a refusal
    ///   by the broker the channel is closed.
    public func get(
        _ queue: String,
        acknowledgement: AMQPAcknowledgement = .manual,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPDelivery? {
        try await self.core.tracedGet(queue: queue, isAutomatic: acknowledgement == .automatic, timeout: timeout)
    }
}
