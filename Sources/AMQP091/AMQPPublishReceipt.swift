// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// AMQPPublishReceipt: names one publish, so that its outcome can be asked for later, by anybody, as often as one likes.
// A reference and a number: making one allocates nothing, and dropping one costs nothing.

/// A publish whose outcome can be asked for later.
public struct AMQPPublishReceipt: Sendable {
    let core: ChannelCore

    /// The number of the publish on its channel, from 1: the delivery tag of its confirm.
    public let sequenceNumber: UInt64

    /// The outcome, if it is known already.
    public var knownOutcome: AMQPPublishOutcome? { self.core.knownOutcome(of: self.sequenceNumber) }

    /// Waits for the outcome.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The outcome; `.unknown` when the time is over, the task is cancelled or the channel is gone before the
    ///   broker's word came. After the first two it can be asked for again.
    public func outcome(timeout: Duration? = nil) async -> AMQPPublishOutcome {
        await self.core.outcome(of: self.sequenceNumber, deadline: self.core.driver.deadline(timeout))
    }

    /// Waits until the broker has taken the message.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.nacked`, `.returned` with code and text, or `.unknownOutcome`.
    public func confirmation(timeout: Duration? = nil) async throws(AMQPError) {
        if let error = await self.outcome(timeout: timeout).error { throw error }
    }
}
