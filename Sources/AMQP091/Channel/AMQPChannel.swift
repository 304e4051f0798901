// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// AMQPChannel: a channel as applications use it. Its facets are in AMQPChannel+Topology, +Publish, +Consume and +Get.
// A value that points to one opening of the channel; any task may use it at any time.

/// A channel of a connection.
public struct AMQPChannel: Sendable {
    @usableFromInline let core: ChannelSession

    /// The number of the channel, 1...65535.
    public var number: ChannelNumber { self.core.number }

    /// True until the channel or its connection is closed by either side.
    public var isOpen: Bool { self.core.isUsable }

    /// Closes the channel: `channel.close` (20, 40), and waits for `channel.close-ok`.
    ///
    /// Deliveries that were not settled go back to their queues. Closing a closed channel does nothing.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.timedOut`, `.cancelled` or `.connectionClosed`; the channel is unusable in any case.
    public func close(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.close(timeout: timeout)
    }

    /// Limits how many deliveries the broker may send ahead of acknowledgement.
    ///
    /// Sends `basic.qos` (60, 10) and waits for `basic.qos-ok`. AMQP 0-9-1 §3.1.7.
    ///
    /// - Parameters:
    ///   - count: Deliveries, 0...65535; 0 removes the limit.
    ///   - scope: What the limit counts for, in RabbitMQ's reading.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError`` of scope `.channel` if the broker refuses; the channel is then closed.
    ///   `.notSupportedByBroker` for `.wholeChannel` with RabbitMQ 4.3 or later; nothing was sent.
    public func setPrefetch(
        count: UInt16,
        for scope: AMQPPrefetchScope = .eachConsumer,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        // The deprecated case is not named: it would be warned of.
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

/// What a prefetch counts for.
public enum AMQPPrefetchScope: Hashable, Sendable {
    /// Each consumer started on the channel afterwards.
    case eachConsumer
    /// All consumers of the channel together (`global` on the wire).
    ///
    /// RabbitMQ 3.x and 4.0 to 4.2 know it, and refuse (540) a consumer of a quorum queue on such a channel. Later versions
    /// count for each consumer instead, so ``AMQPChannel/setPrefetch(count:for:timeout:)`` refuses it there.
    @available(*, deprecated, message: "use .eachConsumer on a channel for each consumer; 4.3 has no other")
    case wholeChannel
}
