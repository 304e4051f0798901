// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Transactions and basic.recover on a channel: while the broker answers, publishes wait and settlements are held back.

extension ChannelSession {
    nonisolated(nonsending) func beginTransaction(timeout: Duration?) async throws(AMQPError) {
        let isSelected = try self.driver.state.withLock { _ throws(AMQPError) in
            guard !self.confirms.isOn else {
                throw AMQPError(
                    .invalidArgument,
                    "the channel has confirms; a channel has confirms or transactions, not both",
                    isSafeToRetry: true
                )
            }
            guard self.settlements.transaction == nil else {
                throw AMQPError(
                    .invalidArgument,
                    "a transaction is under way on this channel; they do not nest",
                    isSafeToRetry: true
                )
            }
            self.settlements.transaction = []
            return self.isTransactional
        }
        guard !isSelected else { return }
        do throws(AMQPError) {
            _ = try await self.call(.txSelect(.init()), timeout: timeout, prepare: { $0.isTransactional = true })
        } catch {
            self.driver.state.withLock { _ in self.settlements.transaction = nil }
            throw error
        }
    }

    nonisolated(nonsending) func commit(timeout: Duration?) async throws(AMQPError) {
        _ = try await self.call(
            .txCommit(.init()),
            timeout: timeout,
            prepare: { core in
                core.settlements.transaction = nil
                core.settlements.beginHold(.committing)
                core.publishHold.insert(.commit)
            }
        )
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
        var settled: [Settlement] = []
        _ = try await self.call(
            .txRollback(.init()),
            timeout: timeout,
            prepare: { core in
                settled = core.settlements.transaction ?? []
                core.settlements.transaction = nil
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
        let end = self.settlements.endHold()
        for refusal in end.refusals { self.append(refusal, to: &state.fill) }
        if end.isFirst { state.unsentAcks.append(self) }
        return state.scheduleFlush()
    }
}

extension ConnectionDriver {
    /// `tx.commit-ok`: publishers go on.
    ///
    /// Loop thread.
    func committed(_ core: ChannelSession) {
        var resumptions: [Resumption] = []
        let kick = self.state.withLock { state in
            core.publishHold.remove(.commit)
            let kick = core.endHold(&state)
            if core.publishHold.isEmpty { state.takeRoomWaiters(into: &resumptions) }
            return kick
        }
        self.perform(kick)
        for resumption in resumptions { resumption.resume() }
    }

    /// `basic.recover-ok`: every tag seen so far is void.
    ///
    /// Loop thread.
    func recovered(_ core: ChannelSession) {
        for inbox in core.consumers.values { _ = inbox.handOver() }
        let kick = self.state.withLock { state in
            core.settlements.recovered(through: core.lastDeliveryTag)
            return core.endHold(&state)
        }
        self.perform(kick)
    }
}
