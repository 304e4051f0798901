// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Transactions and basic.recover on a channel: while the broker answers, publishes wait and settlements are held back.

extension ChannelSession {
    nonisolated(nonsending) func beginTransaction(timeout: Duration?) async throws(AMQPError) {
        let isSelected = try self.driver.state.withLock { _ throws(AMQPError) in
            guard !self.confirms.isOn else { throw Self.hasConfirms }
            guard !self.isInTransaction else {
                throw AMQPError(
                    .invalidArgument,
                    "a transaction is under way on this channel; they do not nest",
                    isSafeToRetry: true
                )
            }
            self.isInTransaction = true
            return self.isTransactional
        }
        guard !isSelected else { return }
        do throws(AMQPError) {
            try await self.call(Tx.Select(), for: .beginTransaction, timeout: timeout)
        } catch {
            self.driver.state.withLock { _ in self.isInTransaction = false }
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
            guard self.driver.state.withLock({ _ in self.isInTransaction }) else { return }
            try await self.call(Tx.Commit(), for: .commit, timeout: timeout)
        } catch {
            self.driver.state.withLock { _ in self.isInTransaction = false }
            throw error
        }
    }

    // MARK: loop thread

    /// `tx.commit-ok`: publishers go on.
    func committed() {
        var resumptions: [Resumption] = []
        let kick = self.driver.state.withLock { state in
            self.publishHold.remove(.commit)
            for method in self.owedAnswers.takeAll() { self.append(method, &state) }
            if self.publishHold.isEmpty { self.wakeHeldPublishers(&state, into: &resumptions) }
            let isFirst = self.settlements.committed { self.append($0, to: &state.fill) }
            if isFirst { state.unsentAcks.append(self) }
            return state.scheduleFlush()
        }
        self.driver.perform(kick)
        for resumption in resumptions { resumption.resume() }
    }

    /// `tx.rollback-ok`: returns the deliveries that were settled to their queues, with the next commit.
    ///
    /// To the broker they are unsettled again, to the application they are not. What was settled meanwhile follows.
    func rolledBack() {
        let kick = self.driver.state.withLock { state -> Kick in
            let isFirst = self.settlements.rolledBack { self.append($0, to: &state.fill) }
            if isFirst { state.unsentAcks.append(self) }
            if !self.settlements.hasUncommitted { self.isInTransaction = false }
            return state.scheduleFlush()
        }
        self.driver.perform(kick)
    }

    /// `basic.recover-ok`: every tag seen so far is void.
    func recovered() {
        for inbox in self.consumers.values { _ = inbox.handOver() }
        self.driver.state.withLock { _ in self.settlements.recovered(through: self.lastDeliveryTag) }
    }

    /// `channel.flow`.
    func receivedFlow(_ active: Bool) {
        var resumptions: [Resumption] = []
        let kick = self.driver.state.withLock { state -> Kick in
            if active { self.publishHold.remove(.brokerFlow) } else { self.publishHold.insert(.brokerFlow) }
            if self.publishHold.isEmpty { self.wakeHeldPublishers(&state, into: &resumptions) }
            guard !self.machine.requests.isExclusive else {
                self.owedAnswers.receivedFlow(active: active)
                return .none
            }
            self.append(.channelFlowOk(.init(active: active)), &state)
            return state.scheduleFlush()
        }
        self.driver.perform(kick)
        for resumption in resumptions { resumption.resume() }
    }

    /// Answers the broker's `basic.cancel`; during a commit, after its end.
    ///
    /// Under the lock.
    func answerCancel(of tag: String, _ state: inout ConnectionState) -> Kick {
        guard !self.machine.requests.isExclusive else {
            // Only consumers that there are: their number is the bound.
            if self.consumerTags.contains(tag) { self.owedAnswers.cancelledByBroker(tag) }
            return .none
        }
        self.append(.basicCancel(.init(consumerTag: tag, noWait: true)), &state)
        return state.scheduleFlush()
    }

    private func append(_ method: Method, _ state: inout ConnectionState) {
        // A bit, or a tag that came in a short string: encoding it cannot fail.
        try? method.encodeFrame(channel: self.number, into: &state.fill)
    }

    private func wakeHeldPublishers(_ state: inout ConnectionState, into resumptions: inout [Resumption]) {
        while let token = self.heldPublishers.popFirst() { state.wake(token, .room, into: &resumptions) }
    }
}
