// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// AMQPPublishReceipt: identifies one publish, so that its outcome can be queried later, from any task, repeatedly.
// A reference and a number: creating one allocates nothing, and dropping one costs nothing. With an outbox it refers
// to the outbox's entry, because the publish may end on another channel.

/// A publish whose outcome can be queried later.
public struct AMQPPublishReceipt: Sendable {
    private enum Source: Sendable {
        case channel(ChannelSession)
        case outbox(OutboxEntry, RecoveringPublisher, Outbox)
    }

    private let source: Source

    /// The number of the publish on its channel, from 1: the delivery tag of its confirm.
    ///
    /// The first number of a message that was published again.
    public let sequenceNumber: UInt64

    init(core: ChannelSession, sequenceNumber: UInt64) {
        self.source = .channel(core)
        self.sequenceNumber = sequenceNumber
    }

    init(_ entry: OutboxEntry, of publisher: RecoveringPublisher, _ outbox: Outbox) {
        self.source = .outbox(entry, publisher, outbox)
        self.sequenceNumber = outbox.firstSequence(of: entry)
    }

    /// The outcome if it is known already; nil otherwise.
    public var knownOutcome: AMQPPublishOutcome? {
        switch self.source {
        case .channel(let core): return core.knownOutcome(of: self.sequenceNumber)
        case .outbox(let entry, _, let outbox):
            if case .ended(let outcome) = outbox.place(of: entry, isAsked: true) { return outcome }
            return nil
        }
    }

    /// Waits for the outcome.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The outcome; `.refused` if the broker closed the channel for this publish; `.notSent` if it closed the
    ///   channel for an earlier one; `.unknown` if the time expired, the task was cancelled or the channel ended before the
    ///   confirm. After a timeout or a cancellation the outcome can be queried again.
    public func outcome(timeout: Duration? = nil) async -> AMQPPublishOutcome {
        switch self.source {
        case .channel(let core):
            return await core.outcome(of: self.sequenceNumber, deadline: core.driver.deadline(timeout))
        case .outbox(let entry, let publisher, let outbox):
            do throws(AMQPError) {
                return try await publisher.outcome(of: entry, in: outbox, until: publisher.deadline(timeout))
            } catch {
                return .unknown(error)
            }
        }
    }

    /// Waits for the confirm of the message.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.nacked`, `.returned` and `.refused` with code and text, or `.unknownOutcome`; with
    ///   `isSafeToRetry` when the broker did not process it.
    public func confirmation(timeout: Duration? = nil) async throws(AMQPError) {
        if let error = await self.outcome(timeout: timeout).error { throw error }
    }
}
