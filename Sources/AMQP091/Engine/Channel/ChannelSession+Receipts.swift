// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Publishes whose outcome is asked for later: numbered and appended like any other, marked with one token for all of
// them (`receiptToken`), so that their end is written to the channel's ReceiptLedger instead of waking a task.

extension ChannelSession {
    /// The token of publishes whose outcome is asked for later; no waiter ever has it.
    static let receiptToken = PublishEndings.receiptToken

    /// What one attempt to enqueue came to.
    enum EnqueueAttempt {
        case done(UInt64)
        case noRoom
    }

    /// Publishes now, if there is room; unwatched.
    func tryEnqueueUntraced(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        token: UInt32 = ChannelSession.receiptToken
    ) throws(AMQPError) -> EnqueueAttempt {
        let (attempt, sequence) = try message.body.bytes.withUnsafeBytes { octets throws(AMQPError) in
            try self.driver.state.withChannels { state, channels throws(AMQPError) in
                guard channels[self.slot].confirms.isOn else { throw Self.confirmsAreOff }
                let attempt = try self.publish(
                    &state,
                    &channels,
                    body: octets,
                    destination: destination,
                    mandatory: mandatory,
                    properties: message.properties,
                    site: site,
                    token: token
                )
                return (attempt, channels[self.slot].confirms.ring.next - 1)
            }
        }
        guard case .done(let next) = attempt else { return .noRoom }
        self.driver.perform(next)
        return .done(sequence)
    }

    /// Publishes as soon as there is room; unwatched.
    nonisolated(nonsending) func enqueueUntraced(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: UInt64,
        token: UInt32 = ChannelSession.receiptToken
    ) async throws(AMQPError) -> UInt64 {
        while true {
            let attempt = try self.tryEnqueueUntraced(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                token: token
            )
            if case .done(let sequence) = attempt { return sequence }
            try await self.waitForRoom(deadline: deadline)
        }
    }

    /// The outcome of a publish made with a receipt, if it is known.
    func knownOutcome(of sequence: UInt64) -> AMQPPublishOutcome? {
        self.withLock { channel, state in
            channel.knownOutcome(of: sequence, asOperation: self.isOfClient, state)
        }
    }

    /// Waits for the outcome of one publish.
    nonisolated(nonsending) func outcome(of sequence: UInt64, deadline: UInt64) async -> AMQPPublishOutcome {
        if let known = self.knownOutcome(of: sequence) { return known }
        do throws(AMQPError) {
            try await self.waitUntilSettled(sequence, deadline: deadline)
        } catch {
            return self.knownOutcome(of: sequence) ?? .unknown(error)
        }
        return self.knownOutcome(of: sequence) ?? .unknown(ConnectionSession.cancelled(safe: false))
    }

    /// Waits until one publish has ended.
    nonisolated(nonsending) func waitUntilSettled(_ sequence: UInt64, deadline: UInt64) async throws(AMQPError) {
        try await self.waitForSettlement(sequence, deadline: deadline) { channel, token in
            guard channel.confirms.ring.isOutstanding(sequence) else { return false }
            channel.confirms.endings.receipts.wait(for: sequence, token: token)
            return true
        }
    }

    /// Waits until every publish up to this one has ended.
    nonisolated(nonsending) func waitUntilSettled(
        through sequence: UInt64,
        deadline: UInt64
    ) async throws(AMQPError) {
        let isSettled = self.withLock { channel, _ in channel.confirms.ring.lowest > sequence }
        guard !isSettled else { return }
        try await self.waitForSettlement(sequence, deadline: deadline) { channel, token in
            guard channel.confirms.ring.lowest <= sequence else { return false }
            channel.confirms.endings.receipts.wait(through: sequence, token: token)
            return true
        }
    }

    /// Waits as `register`, called under the lock, has arranged; it answers false when there is nothing to wait for.
    private nonisolated(nonsending) func waitForSettlement(
        _ sequence: UInt64,
        deadline: UInt64,
        _ register: (inout ChannelState, UInt32) -> Bool
    ) async throws(AMQPError) {
        var ownToken: UInt32 = 0
        do throws(AMQPError) {
            _ = try await self.wait(deadline: deadline) { channel, state, token throws(AMQPError) in
                if let failure = channel.failure ?? state.failure { throw failure }
                ownToken = token
                if register(&channel, token) {
                    return state.outbound.fill.count > 0 ? state.outbound.scheduleFlush() : .none
                }
                return state.resumeSoon(token, .room)
            }
        } catch {
            let token = ownToken
            self.withLock { channel, state in
                guard state.waiters.isTombstone(token) else { return }
                channel.confirms.endings.receipts.forget(token, of: sequence)
                _ = state.waiters.finish(token)
            }
            throw error
        }
    }

    /// Whether a publish has no outcome, and, when the channel is gone, will never have one.
    func isUnsettled(_ sequence: UInt64) -> Bool {
        self.withLock { channel, _ in channel.confirms.isOutstanding(sequence) }
    }

    /// Publishes a batch and waits for the outcome of each.
    nonisolated(nonsending) func publish(
        contentsOf messages: some Sequence<AMQPMessage>,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: UInt64
    ) async -> [AMQPPublishOutcome] {
        var sent: [Result<UInt64, AMQPError>] = []
        sent.reserveCapacity(messages.underestimatedCount)
        var last: UInt64 = 0
        var end: AMQPError?
        let watch = self.watchBatch(of: messages.underestimatedCount, to: destination)
        for message in messages {
            if let end {
                sent.append(.failure(end))
                continue
            }
            do throws(AMQPError) {
                var message = message
                watch?.inject(into: &message.properties)
                last = try await self.enqueueUntraced(
                    message,
                    to: destination,
                    mandatory: mandatory,
                    site: site,
                    deadline: deadline
                )
                sent.append(.success(last))
            } catch {
                // A message that cannot be encoded is its own affair; all else concerns those behind it too.
                if error.code != .invalidArgument { end = error }
                sent.append(.failure(error))
            }
        }
        var interruption = AMQPError(.timedOut, "the deadline passed before the broker confirmed")
        do throws(AMQPError) {
            try await self.waitUntilSettled(through: last, deadline: deadline)
        } catch {
            interruption = error
        }
        let outcomes = sent.map { result -> AMQPPublishOutcome in
            switch result {
            case .success(let sequence): self.knownOutcome(of: sequence) ?? .unknown(interruption)
            case .failure(let error): .notSent(error)
            }
        }
        watch?.end(outcomes.lazy.compactMap(\.error).first)
        return outcomes
    }

    /// How the publishes of the channel have ended, all at one moment.
    var confirmCounts: AMQPConfirmCounts { self.withLock { channel, _ in channel.confirmCounts } }

    static let confirmsAreOff = AMQPError(
        .invalidArgument,
        "confirms are not enabled on the channel",
        isSafeToRetry: true
    )
}

extension ConnectionSession {
    typealias PublishWatch = ConfirmWatch<ObjectIdentifier>

    /// How the publishes of each channel with confirms stand, and whether the broker blocks publishers.
    var publishProgress: (channels: [(ObjectIdentifier, PublishWatch.Progress)], isBlocked: Bool) {
        self.state.withChannels { state, channels in
            let found = state.sessions.compactMap { session in
                session.flatMap { session in channels[session.slot].progress.map { (ObjectIdentifier(session), $0) } }
            }
            return (found, state.blockedReason != nil)
        }
    }
}
