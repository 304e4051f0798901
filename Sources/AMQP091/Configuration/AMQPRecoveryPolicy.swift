// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// AMQPRecoveryPolicy: how AMQPClient makes its connections again, as options. What they do: RecoveryStateMachine.

/// How ``AMQPClient`` makes its connections, and makes them again when they are lost.
///
/// Attempts have no limit in number, unless there is only one (``isEnabled``): they end when the client is shut down, or
/// when the broker refuses the credentials (403), the virtual host (530) or, at the first connection, the topology.
public struct AMQPRecoveryPolicy: Hashable, Sendable {
    /// Whether a connection that is lost or cannot be made is tried again; true by default.
    ///
    /// False ends the client with the reason of its first failure, for those whose supervisor starts them again.
    public var isEnabled = true
    /// The longest delay before the first attempt after a loss; it doubles with each attempt that fails.
    ///
    /// The delay is a random time up to it (full jitter), so that many clients do not come back in waves. 200 ms by
    /// default.
    public var initialDelay: Duration = .milliseconds(200)
    /// The longest delay before any attempt; 30 s by default.
    public var maximumDelay: Duration = .seconds(30)
    /// Whether the addresses are tried in random order, so that clients spread over the nodes of a cluster.
    ///
    /// Those that failed last are tried last in any case. True by default.
    public var shufflesAddresses = true
    /// Time after which the next address is tried beside the one that has not answered yet; 1 s by default.
    ///
    /// The first to finish the login is used, the others are dropped.
    public var attemptDelay: Duration = .seconds(1)
    /// Time an orderly shutdown may take before sockets are closed without a word; 10 s by default.
    public var shutdownTimeout: Duration = .seconds(10)
    /// Time a publish may stay the oldest unconfirmed one before the connection is dropped and made again; 30 s by
    /// default, nil for no limit.
    ///
    /// A quorum queue whose leader was frozen can leave a publish without a word for good, on a connection that looks
    /// healthy. Time in which the broker blocks publishers does not count. A connection with a channel that has refused
    /// (nacked) every publish for so long is dropped too, and the next one given twice the time: a channel opened just
    /// after the leader went down can do so until that node is back.
    public var confirmTimeout: Duration? = .seconds(30)

    /// The defaults.
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
