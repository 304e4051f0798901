// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollNetworking

// AMQPConfirmCounts: how the publishes of one channel have ended so far, for dashboards and rate meters.

/// How the publishes made on a channel since its confirms were turned on have ended.
public struct AMQPConfirmCounts: Hashable, Sendable {
    /// Publishes given to the connection: the sum of all the others.
    public var published: UInt64 = 0
    /// Publishes the broker took: `basic.ack`.
    public var confirmed: UInt64 = 0
    /// Publishes the broker refused: `basic.nack`.
    public var nacked: UInt64 = 0
    /// Mandatory publishes that no queue took: `basic.return`, then `basic.ack`.
    public var returned: UInt64 = 0
    /// Publishes the broker refused by closing the channel.
    public var refused: UInt64 = 0
    /// Publishes that followed a refused one on its channel: the broker did not process them.
    public var notProcessed: UInt64 = 0
    /// Publishes whose channel closed before the broker's word on them came.
    public var unknown: UInt64 = 0
    /// Publishes on which the broker's word is still to come.
    public var unconfirmed: UInt64 = 0

    /// No publishes.
    public init() {}
}

extension AMQPChannel {
    /// How the publishes made on this channel have ended, all at one moment.
    ///
    /// All zero until ``enableConfirms(window:windowOctets:timeout:)``; goes on to answer after the channel has closed.
    public var confirmCounts: AMQPConfirmCounts { self.core.confirmCounts }
}
