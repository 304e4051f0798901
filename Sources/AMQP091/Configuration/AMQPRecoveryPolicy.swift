// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// AMQPRecoveryPolicy: options of reconnecting. Their effect: RecoveryStateMachine.

/// How ``AMQPClient`` connects and reconnects.
///
/// The number of attempts is unlimited unless recovery is disabled (``isEnabled``): they end when the client is shut down,
/// or when the broker refuses the credentials (403), the virtual host (530) or, at the first connection, the topology.
public struct AMQPRecoveryPolicy: Hashable, Sendable {
    /// True to retry lost and failed connections; true by default.
    ///
    /// False ends the client with the reason of its first failure, for services that a supervisor restarts.
    public var isEnabled = true
    /// The longest delay before the first attempt after a loss; it doubles with each attempt that fails.
    ///
    /// The delay is a random time up to this (full jitter), so that clients do not reconnect in waves. 200 ms by
    /// default.
    public var initialDelay: Duration = .milliseconds(200)
    /// The longest delay before any attempt; 30 s by default.
    public var maximumDelay: Duration = .seconds(30)
    /// True to try addresses in random order, so that clients spread over the nodes of a cluster.
    ///
    /// Addresses that failed recently are tried last in any case. True by default.
    public var shufflesAddresses = true
    /// Time after which the next address is tried in parallel to one without a reply; 1 s by default.
    ///
    /// The first completed login is used, the others are dropped.
    public var attemptDelay: Duration = .seconds(1)
    /// Timeout of an orderly shutdown, after which sockets are closed without a handshake; 10 s by default.
    public var shutdownTimeout: Duration = .seconds(10)
    /// Time for which a publish may stay the oldest unconfirmed one before the client reconnects; 30 s by
    /// default, nil for no limit.
    ///
    /// A quorum queue whose leader was frozen can leave a publish unconfirmed forever on a live connection. Time in which
    /// the broker blocks publishers does not count. A connection with a channel that has nacked every publish for this
    /// time is dropped, too, and the next one after twice the time: a channel opened just
    /// after the leader crashed can nack until that node is back. The consuming connection to the same address follows when
    /// nothing was delivered on it for as long and nothing is lost with it.
    public var confirmTimeout: Duration? = .seconds(30)

    /// Creates the default options.
    public init() {}

    var backoff: RecoveryBackoff {
        func nanoseconds(_ duration: Duration) -> UInt64 {
            MonotonicTime(nanoseconds: 0).advanced(by: duration).nanoseconds
        }
        return RecoveryBackoff(
            initial: nanoseconds(self.initialDelay),
            maximum: nanoseconds(self.maximumDelay)
        )
    }
}
