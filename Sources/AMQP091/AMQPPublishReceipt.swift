// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// AMQPPublishReceipt: names one publish, so that its outcome can be asked for later, by anybody, as often as one likes.
// A reference and a number: making one allocates nothing, and dropping one costs nothing. With an outbox the reference
// is to the outbox's entry, because the publish may end on another channel than it began on.

/// A publish whose outcome can be asked for later.
public struct AMQPPublishReceipt: Sendable {
    private enum Source: Sendable {
        case channel(ChannelSession)
        case outbox(OutboxEntry, RecoveringPublisher)
    }

    private let source: Source

    /// The number of the publish on its channel, from 1: the delivery tag of its confirm.
    ///
    /// Of a message that was published again, the first number.
    public let sequenceNumber: UInt64

    init(core: ChannelSession, sequenceNumber: UInt64) {
        self.source = .channel(core)
        self.sequenceNumber = sequenceNumber
    }

    init(_ entry: OutboxEntry, of publisher: RecoveringPublisher) {
        self.source = .outbox(entry, publisher)
        self.sequenceNumber = if case .published(_, let number) = entry.state.withLock({ $0 }) { number } else { 0 }
    }

    /// The outcome, if it is known already.
    public var knownOutcome: AMQPPublishOutcome? {
        switch self.source {
        case .channel(let core): return core.knownOutcome(of: self.sequenceNumber)
        case .outbox(let entry, _):
            guard case .published(let core, let number) = entry.state.withLock({ $0 }) else { return nil }
            return core.isUnsettled(number) ? nil : core.knownOutcome(of: number)
        }
    }

    /// Waits for the outcome.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The outcome; `.unknown` when the time is over, the task is cancelled or the channel is gone before the
    ///   broker's word came. After the first two it can be asked for again.
    public func outcome(timeout: Duration? = nil) async -> AMQPPublishOutcome {
        switch self.source {
        case .channel(let core):
            return await core.outcome(of: self.sequenceNumber, deadline: core.driver.deadline(timeout))
        case .outbox(let entry, let publisher):
            do throws(AMQPError) {
                let (core, number) = try await publisher.settledPlace(of: entry, until: publisher.deadline(timeout))
                return core.knownOutcome(of: number) ?? .unknown(RecoveringPublisher.noOutcome)
            } catch {
                return .unknown(error)
            }
        }
    }

    /// Waits until the broker has taken the message.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.nacked`, `.returned` with code and text, or `.unknownOutcome`.
    public func confirmation(timeout: Duration? = nil) async throws(AMQPError) {
        if let error = await self.outcome(timeout: timeout).error { throw error }
    }
}
