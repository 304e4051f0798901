// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Transactions (AMQP 0-9-1 §1.9) as a scope, and basic.recover: both concern everything the channel has under way.
// RabbitMQ's channel fails on a publish or settlement while it commits, and after a recover every tag delivered so far
// is unknown to it. So publishes wait and settlements are kept back until its answer (SettlementHold).

extension AMQPChannel {
    /// Runs `body` as a transaction: what it publishes and settles on this channel takes effect together, or not at all.
    ///
    /// Sends `tx.select` (90, 10) the first time, then `tx.commit` (90, 20) when `body` returns and `tx.rollback`
    /// (90, 30) when it throws. After a rollback the deliveries settled inside go back to their queues. The channel stays
    /// transactional: what is published or settled on it outside of this scope takes effect with the next commit. Use a
    /// channel for one transaction at a time. Transactions are slow, and atomic for one queue only; confirms are not.
    ///
    /// - Parameters:
    ///   - timeout: Time for each of the broker's replies; the configuration's `operationTimeout` by default.
    ///   - body: Publishes and settles.
    /// - Returns: What `body` returns, once the broker has committed.
    /// - Throws: What `body` throws, after the rollback; ``AMQPError`` with code `.invalidArgument` when confirms are on
    ///   or a transaction is under way, and nothing was sent; or as the broker refuses, and the channel is closed.
    @discardableResult
    public func withTransaction<Result>(
        timeout: Duration? = nil,
        _ body: (AMQPChannel) async throws -> Result
    ) async throws -> Result {
        try await self.core.beginTransaction(timeout: timeout)
        let result: Result
        do {
            result = try await body(self)
        } catch {
            try? await self.core.rollBackShielded(timeout: timeout)
            throw error
        }
        try await self.core.commit(timeout: timeout)
        return result
    }

    /// Gives every delivery of this channel that is not settled back to its queue: `basic.recover` (60, 110).
    ///
    /// They are delivered again, marked redelivered; settling the ones held now throws `.alreadySettled`.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``.
    public func recover(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.call(Basic.Recover(requeue: true), for: .recover, timeout: timeout)
    }
}
