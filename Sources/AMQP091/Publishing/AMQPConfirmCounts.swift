// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollNetworking

// AMQPConfirmCounts: outcomes of the publishes of one channel so far, for dashboards and rate meters.

/// Outcomes of the publishes of a channel since its confirms were enabled.
public struct AMQPConfirmCounts: Hashable, Sendable {
    /// Number of publishes: the sum of all others.
    public var published: UInt64 = 0
    /// Number of confirmed publishes: `basic.ack`.
    public var confirmed: UInt64 = 0
    /// Number of nacked publishes: `basic.nack`.
    public var nacked: UInt64 = 0
    /// Number of returned mandatory publishes: `basic.return`, then `basic.ack`.
    public var returned: UInt64 = 0
    /// Number of publishes that the broker refused by closing the channel.
    public var refused: UInt64 = 0
    /// Number of publishes after a refused one on its channel, which the broker did not process.
    public var notProcessed: UInt64 = 0
    /// Number of publishes whose channel closed before their confirm.
    public var unknown: UInt64 = 0
    /// Number of unconfirmed publishes.
    public var unconfirmed: UInt64 = 0

    /// Creates counts of zero.
    public init() {}
}

extension AMQPChannel {
    /// Outcomes of the publishes of this channel, as a snapshot.
    ///
    /// Zero until ``enableConfirms(window:windowOctets:timeout:)``; available after the channel has closed, too.
    public var confirmCounts: AMQPConfirmCounts { self.core.confirmCounts }
}
