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
        _ = try await self.core.call(
            .basicRecover(.init(requeue: true)),
            timeout: timeout,
            prepare: { $0.hold = .recovering }
        )
    }
}

extension ChannelCore {
    nonisolated(nonsending) fileprivate func beginTransaction(timeout: Duration?) async throws(AMQPError) {
        let isSelected = try self.driver.state.withLock { _ throws(AMQPError) in
            guard !self.hasConfirms else {
                throw AMQPError(
                    .invalidArgument,
                    "the channel has confirms; a channel has confirms or transactions, not both",
                    isSafeToRetry: true
                )
            }
            guard self.transaction == nil else {
                throw AMQPError(
                    .invalidArgument,
                    "a transaction is under way on this channel; they do not nest",
                    isSafeToRetry: true
                )
            }
            self.transaction = []
            return self.isTransactional
        }
        guard !isSelected else { return }
        do throws(AMQPError) {
            _ = try await self.call(.txSelect(.init()), timeout: timeout, prepare: { $0.isTransactional = true })
        } catch {
            self.driver.state.withLock { _ in self.transaction = nil }
            throw error
        }
    }

    nonisolated(nonsending) fileprivate func commit(timeout: Duration?) async throws(AMQPError) {
        _ = try await self.call(
            .txCommit(.init()),
            timeout: timeout,
            prepare: { core in
                core.transaction = nil
                core.hold = .committing
                core.isFlowStopped = true
            }
        )
    }

    /// Rolls back also when the task is cancelled: the channel must not be left inside a transaction.
    nonisolated(nonsending) fileprivate func rollBackShielded(timeout: Duration?) async throws(AMQPError) {
        let outcome = await Task { () async -> Result<Void, AMQPError> in
            do throws(AMQPError) { return .success(try await self.rollBack(timeout: timeout)) } catch {
                return .failure(error)
            }
        }.value
        try outcome.get()
    }

    private nonisolated(nonsending) func rollBack(timeout: Duration?) async throws(AMQPError) {
        var settled: [Settlement] = []
        _ = try await self.call(
            .txRollback(.init()),
            timeout: timeout,
            prepare: { core in
                settled = core.transaction ?? []
                core.transaction = nil
            }
        )
        guard !settled.isEmpty else { return }
        // To the broker these are unsettled again, to us they are not: they go back to their queues.
        self.driver.state.withLock { state in
            for settlement in settled {
                self.append(
                    Settlement(tag: settlement.tag, multiple: settlement.multiple, requeue: true),
                    to: &state.fill
                )
            }
        }
        try await self.commit(timeout: timeout)
    }

    /// Sends what was kept back.
    ///
    /// Under the lock.
    func endHold(_ state: inout ConnectionState) -> Kick {
        self.hold = .none
        for refusal in self.heldRefusals { self.append(refusal, to: &state.fill) }
        self.heldRefusals = []
        guard self.acks.hasUnsent, !self.hasUnsentAcks else { return state.scheduleFlush() }
        self.hasUnsentAcks = true
        state.unsentAcks.append(self)
        return state.scheduleFlush()
    }
}

extension ConnectionDriver {
    /// `tx.commit-ok`: publishers go on.
    ///
    /// Loop thread.
    func committed(_ core: ChannelCore) {
        var resumptions: [Resumption] = []
        let kick = self.state.withLock { state in
            core.isFlowStopped = core.isStoppedByBroker
            let kick = core.endHold(&state)
            if !core.isFlowStopped { state.takeRoomWaiters(into: &resumptions) }
            return kick
        }
        self.perform(kick)
        for resumption in resumptions { resumption.resume() }
    }

    /// `basic.recover-ok`: every tag seen so far is void.
    ///
    /// Loop thread.
    func recovered(_ core: ChannelCore) {
        for inbox in core.consumers.values { _ = inbox.handOver() }
        let kick = self.state.withLock { state in
            _ = core.acks.reject(upTo: core.lastDeliveryTag)
            core.acks.drain { _, _ in }
            core.heldRefusals = []
            return core.endHold(&state)
        }
        self.perform(kick)
    }
}
