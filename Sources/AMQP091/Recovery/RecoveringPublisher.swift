// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollNetworking

// RecoveringPublisher: what stands behind an AMQPPublisher of a client: a channel that is made again on each connection.
// What was certainly not written is published on the next channel. What was written and not confirmed is unknown, and
// its callers are told so; with an outbox it is published again instead. A task that waits for the outcome of a publish
// publishes it again itself; what nobody waits for is kept in the outbox.

final class RecoveringPublisher: Sendable {
    /// How publishes on channels that are gone have ended.
    fileprivate struct Past {
        var counts = AMQPConfirmCounts()
        var failure: AMQPError?
        var failedCount = 0
    }

    let link: ConnectionLink
    let outbox: Outbox?
    let maxInFlight: Int
    /// Nobody's scope closes it: the client's shutdown does.
    let closesWithClient: Bool
    private let onClose: @Sendable (RecoveringPublisher) -> Void
    private let channels: Renewable<ChannelSession>
    private let past: Watched<Past>

    init(
        _ link: ConnectionLink,
        maxInFlight: Int,
        maxInFlightOctets: Int,
        outbox: Outbox?,
        closesWithClient: Bool,
        onClose: @escaping @Sendable (RecoveringPublisher) -> Void
    ) {
        self.closesWithClient = closesWithClient
        self.onClose = onClose
        let past = Watched(Past())
        self.link = link
        self.outbox = outbox
        self.maxInFlight = maxInFlight
        self.past = past
        self.channels = Renewable(
            link,
            make: { connection, deadline throws(AMQPError) in
                let core = try await connection.openConfirmingChannel(
                    maxInFlight: maxInFlight,
                    maxInFlightOctets: maxInFlightOctets,
                    timeout: max(.zero, deadline - .now)
                )
                try await outbox?.replay(on: core, until: deadline)
                return core
            },
            isAlive: { $0.isUsable },
            retire: { core in past.withLock { $0.add(core, keepsUnknown: outbox == nil) } }
        )
    }

    /// How the publishes made so far have ended, over all channels.
    var counts: AMQPConfirmCounts {
        var counts = self.past.withLock { $0.counts }
        if let core = self.channels.present { counts.add(core.confirmCounts) }
        return counts
    }

    var isOpen: Bool { !self.channels.isClosed && self.link.ending == nil }

    func deadline(_ timeout: Duration?) -> MonotonicTime { self.link.deadline(timeout) }

    /// The present channel; waits for a connection where there is none.
    func core(until deadline: MonotonicTime) async throws(AMQPError) -> ChannelSession {
        try await self.channels.current(until: deadline)
    }

    // MARK: publishing

    func send(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: MonotonicTime
    ) async throws(AMQPError) {
        if self.outbox != nil {
            let entry = OutboxEntry(message.identified, to: destination, mandatory: mandatory, site: site, token: 0)
            return try await self.put(entry, until: deadline)
        }
        try await self.retrying(until: deadline) { core throws(AMQPError) in
            _ = try await core.enqueue(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: deadline.nanoseconds,
                token: 0
            )
        }
    }

    func publish(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: MonotonicTime
    ) async throws(AMQPError) {
        let message = self.outbox == nil ? message : message.identified
        while true {
            do throws(AMQPError) {
                return try await self.retrying(until: deadline) { core throws(AMQPError) in
                    try await core.publishAndConfirm(
                        message,
                        to: destination,
                        mandatory: mandatory,
                        site: site,
                        timeout: max(.zero, deadline - .now)
                    )
                }
            } catch {
                // Lost with its connection: this task still has the message.
                guard self.outbox != nil, error.code == .unknownOutcome, error.scope == .connection,
                    self.link.ending == nil, !Task.isCancelled, MonotonicTime.now < deadline
                else { throw error }
                if let core = self.channels.present, !core.isUsable { self.channels.drop(core) }
            }
        }
    }

    func enqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: MonotonicTime
    ) async throws(AMQPError) -> AMQPPublishReceipt {
        if self.outbox != nil {
            let token = ChannelSession.receiptToken
            let entry = OutboxEntry(message.identified, to: destination, mandatory: mandatory, site: site, token: token)
            try await self.put(entry, until: deadline)
            return AMQPPublishReceipt(entry, of: self)
        }
        return try await self.retrying(until: deadline) { core throws(AMQPError) in
            let sequence = try await core.enqueue(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: deadline.nanoseconds
            )
            return AMQPPublishReceipt(core: core, sequenceNumber: sequence)
        }
    }

    /// Nil when there is no room, or no channel at the moment.
    func tryEnqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite
    ) throws(AMQPError) -> AMQPPublishReceipt? {
        guard let core = self.channels.present, core.isUsable else {
            if let ending = self.link.ending { throw ending.withSafeRetry }
            // The channel alone may be gone: then no new connection comes that would have it made again.
            Task { await self.channels.renew() }
            return nil
        }
        guard self.outbox == nil else {
            let token = ChannelSession.receiptToken
            let entry = OutboxEntry(message.identified, to: destination, mandatory: mandatory, site: site, token: token)
            guard self.outbox?.add(entry) == true else { return nil }
            let attempt: ChannelSession.EnqueueAttempt
            do throws(AMQPError) {
                attempt = try core.tryEnqueue(entry.message, to: destination, mandatory: mandatory, site: site)
            } catch {
                self.outbox?.remove(entry)
                throw error
            }
            guard case .done(let sequence) = attempt else {
                self.outbox?.remove(entry)
                return nil
            }
            entry.state.change { $0 = .published(on: core, sequence) }
            return AMQPPublishReceipt(entry, of: self)
        }
        return switch try core.tryEnqueue(message, to: destination, mandatory: mandatory, site: site) {
        case .done(let sequence): AMQPPublishReceipt(core: core, sequenceNumber: sequence)
        case .noRoom: nil
        }
    }

    /// Runs `body` on the present channel, and on the next when it was gone before anything was written.
    private func retrying<Result>(
        until deadline: MonotonicTime,
        _ body: (ChannelSession) async throws(AMQPError) -> Result
    ) async throws(AMQPError) -> Result {
        while true {
            let core = try await self.channels.current(until: deadline)
            do throws(AMQPError) {
                return try await body(core)
            } catch {
                guard !core.isUsable else { throw error }
                self.channels.drop(core)
                guard error.isNotSentBecauseGone else { throw error }
            }
        }
    }

    /// Takes a message into the outbox and publishes it.
    private func put(_ entry: OutboxEntry, until deadline: MonotonicTime) async throws(AMQPError) {
        guard let outbox = self.outbox else { return }
        while !outbox.add(entry) { try await self.waitForOldest(of: outbox, until: deadline) }
        do throws(AMQPError) {
            try await self.retrying(until: deadline) { core throws(AMQPError) in
                try await entry.publish(on: core, until: deadline)
            }
        } catch {
            outbox.remove(entry)
            throw error
        }
        // The channel may have gone, and what was on it been published again, before the entry said where it is.
        while !entry.isInPlace, let present = try? await self.channels.current(until: deadline),
            entry.takeIfLost(except: present)
        {
            do throws(AMQPError) {
                try await self.retrying(until: deadline) { core throws(AMQPError) in
                    try await entry.publish(on: core, until: deadline)
                }
            } catch {
                // It was written once: the next connection's turn.
                return entry.giveBack()
            }
        }
    }

    private func waitForOldest(of outbox: Outbox, until deadline: MonotonicTime) async throws(AMQPError) {
        guard let oldest = outbox.oldest else { return }
        do throws(AMQPError) {
            _ = try await self.settledPlace(of: oldest, until: deadline)
        } catch {
            guard error.code == .timedOut else { throw error }
            throw AMQPError(.timedOut, "the outbox is full", isSafeToRetry: true)
        }
    }

    /// Waits until a message of the outbox has its outcome, over as many connections as it takes.
    ///
    /// - Returns: The channel and number of the publish that has it.
    func settledPlace(
        of entry: OutboxEntry,
        until deadline: MonotonicTime
    ) async throws(AMQPError) -> (core: ChannelSession, sequence: UInt64) {
        while true {
            let (core, sequence) = try await entry.state.wait(until: deadline) { state in
                if case .published(let core, let sequence) = state { (core, sequence) } else { nil }
            }
            do throws(AMQPError) {
                // Of publishes nobody asks for, the channel only knows when all before one are settled too.
                if entry.token == 0 {
                    try await core.waitUntilSettled(through: sequence, deadline: deadline.nanoseconds)
                } else {
                    try await core.waitUntilSettled(sequence, deadline: deadline.nanoseconds)
                }
                return (core, sequence)
            } catch {
                guard core.isUnsettled(sequence) else { return (core, sequence) }
                guard !core.isUsable, error.code != .cancelled else { throw error }
                guard !self.channels.isClosed else { throw error }
                self.channels.drop(core)
                let next = try await self.channels.current(until: deadline)
                // Moved by the replay; or nobody has, because the entry came too late for it.
                guard entry.takeIfLost(except: next) else { continue }
                do throws(AMQPError) {
                    try await entry.publish(on: next, until: deadline)
                } catch {
                    entry.giveBack()
                    throw error
                }
            }
        }
    }

    static let noOutcome = AMQPError(.unknownOutcome, "the publish is not settled")

    // MARK: waiting and closing

    func waitForConfirms(until deadline: MonotonicTime) async throws(AMQPError) {
        while let core = self.channels.present {
            do throws(AMQPError) {
                try await core.waitForConfirms(timeout: max(.zero, deadline - .now))
                break
            } catch {
                guard !core.isUsable else { throw error }
                self.channels.drop(core)
                guard self.outbox != nil, error.isLoss, self.link.ending == nil else { break }
                _ = try await self.channels.current(until: deadline)
            }
        }
        let (failure, count) = self.past.withLock { past in
            defer {
                past.failure = nil
                past.failedCount = 0
            }
            return (past.failure, past.failedCount)
        }
        if let failure { throw failure.firstOf(count) }
    }

    func close(until deadline: MonotonicTime) async throws(AMQPError) {
        do throws(AMQPError) {
            try await self.waitForConfirms(until: deadline)
        } catch {
            await self.closeShielded()
            throw error
        }
        defer { self.onClose(self) }
        try await self.channels.close()?.close(timeout: max(.zero, deadline - .now))
    }

    func closeShielded() async {
        await self.channels.close()?.closeShielded()
        self.onClose(self)
    }
}

extension RecoveringPublisher.Past {
    /// Takes over what a channel that is gone knew.
    mutating func add(_ core: ChannelSession, keepsUnknown: Bool) {
        self.counts.add(core.confirmCounts)
        let (failure, failedCount, unknown, reason) = core.driver.state.withLock { state in
            (
                core.confirms.endings.firstFailure.flatMap { AMQPError($0) }, core.confirms.endings.failedCount,
                core.confirms.unknownSendCount, core.failure ?? state.failure
            )
        }
        if let failure {
            self.failure = self.failure ?? failure
            self.failedCount += failedCount
        }
        guard keepsUnknown, unknown > 0, let reason else { return }
        self.failure = self.failure ?? AMQPPublishOutcome.unknown(reason).error
        self.failedCount += unknown
    }
}

extension AMQPConfirmCounts {
    mutating func add(_ other: AMQPConfirmCounts) {
        self.published += other.published
        self.confirmed += other.confirmed
        self.nacked += other.nacked
        self.returned += other.returned
        self.unknown += other.unknown
        self.unconfirmed += other.unconfirmed
    }
}

extension AMQPMessage {
    /// With a message id, so that a consumer can tell a second copy.
    fileprivate var identified: AMQPMessage {
        guard self.properties.messageID == nil else { return self }
        var message = self
        var random = SystemRandomNumberGenerator()
        message.properties.messageID = [random.next(), random.next()]
            .map { (number: UInt64) in
                let digits = String(number, radix: 16)
                return String(repeating: "0", count: 16 - digits.utf8.count) + digits
            }
            .joined()
        return message
    }
}
