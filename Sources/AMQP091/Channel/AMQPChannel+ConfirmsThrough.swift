// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// AMQPChannel+ConfirmsThrough: waits for the confirms of the first publishes while later ones continue, for programs that
// time or log them. Receipts report the outcome of one publish (AMQPPublishReceipt), waitForConfirms() that of all.

extension AMQPChannel {
    /// Waits until every publish up to a number has ended: confirmed, nacked or returned (`basic.ack` (60, 80),
    /// `basic.nack` (60, 120)).
    ///
    /// Publishes of a channel are numbered from 1 in order of publishing. A future number can be waited for, too. Outcomes
    /// are in ``confirmCounts``.
    ///
    /// - Parameters:
    ///   - sequenceNumber: The number, which is the delivery tag of the confirm.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.timedOut` or `.cancelled`, and the channel stays open; the reason if it has closed;
    ///   `.invalidArgument` if confirms are not enabled.
    public func waitForConfirms(through sequenceNumber: UInt64, timeout: Duration? = nil) async throws(AMQPError) {
        let isOn = self.core.withLock { channel, _ in channel.confirms.isOn }
        guard isOn else { throw ChannelSession.confirmsAreOff }
        try await self.core.waitUntilSettled(
            through: sequenceNumber,
            deadline: self.core.driver.deadline(timeout)
        )
    }
}
