// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// AMQPChannel: the public interface of a channel. Its facets are in AMQPChannel+Topology, +Publish and +Consume.
// A value that refers to one open channel; any task may use it at any time.

/// A channel of a connection.
public struct AMQPChannel: Sendable {
    @usableFromInline let core: ChannelSession

    /// The number of the channel, 1...65535.
    public var number: ChannelNumber { self.core.number }

    /// True until the channel or its connection is closed by either side.
    public var isOpen: Bool { self.core.isUsable }

    /// Closes the channel: `channel.close` (20, 40), and waits for `channel.close-ok`.
    ///
    /// Unsettled deliveries are requeued. Closing a closed channel does nothing.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.timedOut`, `.cancelled` or `.connectionClosed`; the channel is unusable in any case.
    public func close(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.close(timeout: timeout)
    }

    /// Limits the number of unacknowledged deliveries (prefetch).
    ///
    /// Sends `basic.qos` (60, 10) and waits for `basic.qos-ok`. AMQP 0-9-1 §3.1.7.
    ///
    /// - Parameters:
    ///   - count: Maximum number of unacknowledged deliveries, 0...65535; 0 removes the limit.
    ///   - scope: The scope of the limit, as RabbitMQ interprets it.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError`` of scope `.channel` if the broker refuses; the channel is then closed.
    ///   `.notSupportedByBroker` for `.wholeChannel` with RabbitMQ 4.3 or later; nothing was sent.
    public func setPrefetch(
        count: UInt16,
        for scope: AMQPPrefetchScope = .eachConsumer,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        // The deprecated case is not named, because that would be a warning.
        let isGlobal = scope != .eachConsumer
        if isGlobal, let version = self.core.driver.serverVersion, version >= .v4_3 {
            throw AMQPError(
                .notSupportedByBroker,
                "RabbitMQ \(version.major).\(version.minor) counts a prefetch of the whole channel for each consumer; "
                    + "use .eachConsumer, or one channel for each consumer",
                method: Basic.Qos.id,
                isSafeToRetry: true
            )
        }
        let qos = Basic.Qos(prefetchCount: count, global: isGlobal)
        try await self.core.call(qos, timeout: timeout)
    }
}

/// The scope of a prefetch limit.
public enum AMQPPrefetchScope: Hashable, Sendable {
    /// Each consumer that is started on the channel later.
    case eachConsumer
    /// All consumers of the channel together (`global` on the wire).
    ///
    /// RabbitMQ 3.x and 4.0 to 4.2 know it, and refuse (540) a consumer of a quorum queue on such a channel. Later versions
    /// count for each consumer instead, so ``AMQPChannel/setPrefetch(count:for:timeout:)`` refuses it there.
    @available(*, deprecated, message: "use .eachConsumer on a channel for each consumer; 4.3 has no other")
    case wholeChannel
}
