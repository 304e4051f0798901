// SPDX-License-Identifier: Apache-2.0

// PublishHold: the reasons why publishes of one channel must wait, besides the confirm window and the write buffer.
// Several may hold at once; publishes continue when none does.

/// Reasons why publishes of one channel wait; empty while they may be sent.
@frozen
@usableFromInline
package struct PublishHold: OptionSet, Hashable, Sendable {
    @usableFromInline package let rawValue: UInt8

    @inlinable
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The broker sent `channel.flow` with `active` false.
    @inlinable package static var brokerFlow: PublishHold { PublishHold(rawValue: 1) }
    /// `tx.commit` was sent: RabbitMQ's channel fails on a publish before `tx.commit-ok`.
    @inlinable package static var commit: PublishHold { PublishHold(rawValue: 2) }
}
