// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking
#if DELIBERATE_FAULTS
    import EpollConcurrency
#endif

// Transactions (AMQP 0-9-1 §1.9) as a scope, and basic.recover: both affect all pending work of the channel.
// RabbitMQ's channel fails on a publish or settlement during a commit, and after a recover it knows no earlier delivery
// tag. So publishes wait and settlements are held until its reply.

extension AMQPChannel {
    /// Runs `body` as a transaction: its publishes and settlements on this channel take effect together, or not at all.
    ///
    /// Sends `tx.select` (90, 10) the first time, then `tx.commit` (90, 20) when `body` returns and `tx.rollback`
    /// (90, 30) when it throws. After a rollback the deliveries settled inside are requeued. The channel stays
    /// transactional: publishes and settlements outside this scope take effect with the next commit. Use a
    /// channel for one transaction at a time. Transactions are slow and atomic for one queue only; prefer confirms.
    ///
    /// - Parameters:
    ///   - timeout: Time for each of the broker's replies; the configuration's `operationTimeout` by default.
    ///   - body: Publishes and settles messages.
    /// - Returns: The result of `body`, once the broker has committed.
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
            #if DELIBERATE_FAULTS
                if DeliberateFault.happens(.rollbackCommits) { try? await self.core.commit(timeout: timeout) }
            #endif
            try? await self.core.rollBackShielded(timeout: timeout)
            throw error
        }
        try await self.core.commit(timeout: timeout)
        return result
    }

    /// Requeues all unsettled deliveries of this channel: `basic.recover` (60, 110).
    ///
    /// They are delivered again, marked redelivered; settling the current ones throws `.alreadySettled`.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``.
    public func recover(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.call(Basic.Recover(requeue: true), for: .recover, timeout: timeout)
    }
}
