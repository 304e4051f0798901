// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Transactions and basic.recover on a channel: while the broker answers, publishes wait and settlements are held back.

extension ChannelSession {
    nonisolated(nonsending) func beginTransaction(timeout: Duration?) async throws(AMQPError) {
        let isSelected = try self.withLock { channel, _ throws(AMQPError) in
            guard !channel.confirms.isOn else { throw ChannelState.hasConfirms }
            guard !channel.isInTransaction else {
                throw AMQPError(
                    .invalidArgument,
                    "a transaction is under way on this channel; they do not nest",
                    isSafeToRetry: true
                )
            }
            channel.isInTransaction = true
            return channel.isTransactional
        }
        guard !isSelected else { return }
        do throws(AMQPError) {
            try await self.call(Tx.Select(), for: .beginTransaction, timeout: timeout)
        } catch {
            self.withLock { channel, _ in channel.isInTransaction = false }
            throw error
        }
    }

    /// Commits; of a commit that was not sent, the transaction is rolled back.
    nonisolated(nonsending) func commit(timeout: Duration?) async throws(AMQPError) {
        do throws(AMQPError) {
            try await self.call(Tx.Commit(), for: .commit, timeout: timeout)
        } catch {
            if error.isSafeToRetry, error.scope == .operation { try? await self.rollBackShielded(timeout: timeout) }
            throw error
        }
    }

    /// Rolls back also when the task is cancelled: the channel must not be left inside a transaction.
    nonisolated(nonsending) func rollBackShielded(timeout: Duration?) async throws(AMQPError) {
        let outcome = await Task { () async -> Result<Void, AMQPError> in
            do throws(AMQPError) { return .success(try await self.rollBack(timeout: timeout)) } catch {
                return .failure(error)
            }
        }.value
        try outcome.get()
    }

    private nonisolated(nonsending) func rollBack(timeout: Duration?) async throws(AMQPError) {
        do throws(AMQPError) {
            try await self.call(Tx.Rollback(), for: .rollBack, timeout: timeout)
            // What was settled inside was sent back to its queues with rollback-ok; that takes effect with a commit.
            guard self.withLock({ channel, _ in channel.isInTransaction }) else { return }
            try await self.call(Tx.Commit(), for: .commit, timeout: timeout)
        } catch {
            self.withLock { channel, _ in channel.isInTransaction = false }
            throw error
        }
    }

    // MARK: loop thread

    /// `tx.commit-ok`: publishers go on.
    func committed() {
        var resumptions: [Resumption] = []
        let next = self.withLock { channel, state in
            if channel.committed(&state, into: &resumptions) { state.unsentAcks.append(self.slot) }
            return state.outbound.scheduleFlush()
        }
        self.driver.perform(next)
        for resumption in resumptions { resumption.resume() }
    }

    /// `tx.rollback-ok`.
    func rolledBack() {
        let next = self.withLock { channel, state -> CallerStep in
            if channel.rolledBack(&state) { state.unsentAcks.append(self.slot) }
            return state.outbound.scheduleFlush()
        }
        self.driver.perform(next)
    }

    /// `basic.recover-ok`: every tag seen so far is void.
    func recovered() {
        for (_, inbox) in self.consumers.sorted(by: { $0.key < $1.key }) { _ = inbox.handOver() }
        self.withLock { channel, _ in channel.settlements.recovered(through: self.lastDeliveryTag) }
    }

    /// `channel.flow`.
    func receivedFlow(_ active: Bool) {
        var resumptions: [Resumption] = []
        let next = self.withLock { channel, state in channel.receivedFlow(active, &state, into: &resumptions) }
        self.driver.perform(next)
        for resumption in resumptions { resumption.resume() }
    }
}
