// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// RecoveringPublisher: an AMQPPublisher of a client: a channel that is made again on each connection, and when the broker
// has closed it. What was certainly not written or not processed is published on the next channel. What was written and
// not confirmed is unknown, and its callers are told so; with an outbox all goes through that, and is published again.
// Not here: what is done with an outbox (RecoveringPublisher+Outbox), batches and streams (RecoveringPublisher+Many).

final class RecoveringPublisher: Sendable {
    /// How publishes on channels that are gone have ended.
    fileprivate struct Past {
        var counts = AMQPConfirmCounts()
        var failure: AMQPError?
        var failedCount = 0
        /// Channels that are not used any more and have not ended: their close is under way.
        var ending: [(core: ChannelSession, keepsUnknown: Bool)] = []
    }

    let link: ConnectionLink
    let outbox: Outbox?
    let maxInFlight: Int
    /// Nobody's scope closes it: the client's shutdown does.
    let closesWithClient: Bool
    let onClose: @Sendable (RecoveringPublisher) -> Void
    let channels: Renewable<ChannelSession>
    let missing: MissingExchanges
    /// A task publishes what waits in the outbox.
    let isDriven = ObservedValue(false)
    /// Nil where nobody takes metrics, and without an outbox.
    let metrics: OutboxMetrics?
    private let past: ObservedValue<Past>

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
        let past = ObservedValue(Past())
        let wasClosed = ChannelEndings()
        let missing = MissingExchanges(link)
        self.link = link
        self.missing = missing
        self.metrics = outbox.flatMap { OutboxMetrics($0) }
        self.outbox = outbox
        self.maxInFlight = maxInFlight
        self.past = past
        self.channels = Renewable(
            link,
            make: { connection, deadline throws(AMQPError) in
                func open() async throws(AMQPError) -> ChannelSession {
                    try await missing.declare(on: connection, until: deadline)
                    let core = try await connection.openConfirmingChannel(
                        maxInFlight: maxInFlight,
                        maxInFlightOctets: maxInFlightOctets,
                        timeout: max(.zero, deadline - .now)
                    )
                    core.isOfClient = true
                    return core
                }
                var core = try await open()
                while let outbox {
                    let isCleared: Bool
                    do throws(AMQPError) {
                        isCleared = try await outbox.clear(core, of: link, until: deadline)
                    } catch {
                        past.withLock { $0.add(core, keepsUnknown: false) }
                        throw error
                    }
                    if isCleared { break }
                    missing.note(core.ending)
                    past.withLock { $0.add(core, keepsUnknown: false) }
                    core = try await open()
                }
                core.withLock { channel, _ in channel.onEnd = wasClosed.closed }
                return core
            },
            isAlive: { $0.isUsable },
            retire: { core in
                missing.note(core.ending)
                past.withLock { $0.add(core, keepsUnknown: outbox == nil) }
            }
        )
        // The broker has closed the channel: what waits for the next one does not wait for a call.
        wasClosed.onEnd { [weak self] in self?.channelClosed() }
    }

    /// How the publishes made so far have ended, over all channels.
    var counts: AMQPConfirmCounts {
        var counts = self.past.withLock { past in
            past.takeEnded()
            return past.ending.reduce(into: past.counts) { $0.add($1.core.confirmCounts) }
        }
        if let core = self.channels.present { counts.add(core.confirmCounts) }
        return counts
    }

    var isOpen: Bool { !self.channels.isClosed && self.link.ending == nil }

    func deadline(_ timeout: Duration?) -> MonotonicTime { self.link.deadline(timeout) }

    /// The present channel; waits for a connection where there is none.
    func core(until deadline: MonotonicTime) async throws(AMQPError) -> ChannelSession {
        try await self.channels.current(until: deadline)
    }

    private func channelClosed() {
        // Has those who wait for its end look again.
        self.past.change { $0.takeEnded() }
        Task {
            await self.channels.renew()
            self.driveOutbox()
        }
    }

    // MARK: publishing

    func send(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: MonotonicTime
    ) async throws(AMQPError) {
        if let outbox {
            _ = try await self.put(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                in: outbox,
                until: deadline
            )
            return
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
        if let outbox {
            return try await self.publish(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                through: outbox,
                until: deadline
            )
        }
        try await self.retrying(until: deadline) { core throws(AMQPError) in
            try await core.publishAndConfirm(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                timeout: max(.zero, deadline - .now)
            )
        }
    }

    func enqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: MonotonicTime,
        isWatched: Bool = true
    ) async throws(AMQPError) -> AMQPPublishReceipt {
        if let outbox {
            let entry = try await self.put(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                in: outbox,
                until: deadline,
                isWatched: isWatched
            )
            return AMQPPublishReceipt(entry, of: self, outbox)
        }
        return try await self.retrying(until: deadline) { core throws(AMQPError) in
            let sequence =
                if isWatched {
                    try await core.enqueue(
                        message,
                        to: destination,
                        mandatory: mandatory,
                        site: site,
                        deadline: deadline.nanoseconds
                    )
                } else {
                    try await core.enqueueUntraced(
                        message,
                        to: destination,
                        mandatory: mandatory,
                        site: site,
                        deadline: deadline.nanoseconds
                    )
                }
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
            self.channelClosed()
            return nil
        }
        if let outbox {
            return try self.tryPut(message, to: destination, mandatory: mandatory, site: site, in: outbox, core)
                .map { AMQPPublishReceipt($0, of: self, outbox) }
        }
        return switch try core.tryEnqueue(message, to: destination, mandatory: mandatory, site: site) {
        case .done(let sequence): AMQPPublishReceipt(core: core, sequenceNumber: sequence)
        case .noRoom: nil
        }
    }

    /// Runs `body` on the present channel, and on the next when it was gone before anything was written or processed, or
    /// was closed because an exchange of the topology was missing.
    func retrying<Result>(
        until deadline: MonotonicTime,
        _ body: (ChannelSession) async throws(AMQPError) -> Result
    ) async throws(AMQPError) -> Result {
        var attempts = 0
        while true {
            let core = try await self.channels.current(until: deadline)
            do throws(AMQPError) {
                return try await body(core)
            } catch {
                guard !core.isUsable else { throw error }
                self.drop(core)
                guard error.isNotSentBecauseGone || self.missing.mayPublishAgain(after: error, &attempts) else {
                    throw error
                }
            }
        }
    }

    /// Says that a channel cannot be used any more, and sees to what was on it.
    func drop(_ core: ChannelSession) {
        self.channels.drop(core)
        if let outbox { outbox.sweep(self.link) }
        self.driveOutbox()
    }

    // MARK: waiting and closing

    func waitForConfirms(until deadline: MonotonicTime) async throws(AMQPError) {
        if let outbox { return try await self.waitForConfirms(of: outbox, until: deadline) }
        while let core = self.channels.present {
            do throws(AMQPError) {
                try await core.waitForConfirms(timeout: max(.zero, deadline - .now))
                break
            } catch {
                guard !core.isUsable else { throw error }
                self.channels.drop(core)
            }
        }
        // The broker's close of a channel may be under way: what it refused is known at the end of that.
        _ = try await self.past.wait(until: deadline) { past -> Bool? in
            past.takeEnded()
            return past.ending.isEmpty ? true : nil
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
        self.outbox?.close(Self.closed)
        do throws(AMQPError) {
            try await self.waitForConfirms(until: deadline)
        } catch {
            await self.closeShielded()
            throw error
        }
        defer { self.ended() }
        // Every publish has its outcome: a broker that does not answer the close is no failure of any of them.
        try? await self.channels.close()?.close(timeout: max(.zero, deadline - .now))
    }

    func closeShielded() async {
        self.outbox?.close(Self.closed)
        await self.channels.close()?.closeShielded()
        self.giveUp(Self.closed)
        self.ended()
    }

    private func ended() {
        self.metrics?.end()
        self.onClose(self)
    }

    static let closed = AMQPError(.channelClosed, "the publisher was closed", scope: .channel)
}

/// Where the ends of a publisher's channels are told; made before the publisher is.
private final class ChannelEndings: Sendable {
    private let body = ObservedValue<(@Sendable () -> Void)?>(nil)

    func onEnd(_ body: @escaping @Sendable () -> Void) { self.body.withLock { $0 = body } }

    /// Loop thread.
    @Sendable
    func closed() { self.body.withLock { $0 }?() }
}

extension RecoveringPublisher.Past {
    /// Takes over the counts of a channel that is used no more, once it has ended.
    mutating func add(_ core: ChannelSession, keepsUnknown: Bool) {
        self.ending.append((core, keepsUnknown))
        self.takeEnded()
    }

    /// Takes over the counts of the channels that have ended.
    mutating func takeEnded() {
        var left: [(core: ChannelSession, keepsUnknown: Bool)] = []
        for (core, keepsUnknown) in self.ending {
            if core.withLock({ channel, _ in channel.confirms.hasEnded }) {
                self.take(core, keepsUnknown: keepsUnknown)
            } else {
                left.append((core, keepsUnknown))
            }
        }
        self.ending = left
    }

    private mutating func take(_ core: ChannelSession, keepsUnknown: Bool) {
        self.counts.add(core.confirmCounts)
        let (endings, refused, unknown, notProcessed, reason) = core.withLock { channel, state in
            (
                channel.confirms.endings, channel.confirms.refusedSendCount, channel.confirms.unknownSendCount,
                channel.confirms.notProcessedSendCount, channel.failure ?? state.failure
            )
        }
        if let failure = endings.firstFailure.flatMap({ AMQPError($0) }) ?? (refused > 0 ? reason?.asRefusal : nil) {
            self.failure = self.failure ?? failure.ofOperation
            self.failedCount += endings.failedCount + refused
        }
        guard keepsUnknown, unknown + notProcessed > 0, let reason else { return }
        let outcome = unknown > 0 ? AMQPPublishOutcome.unknown(reason) : .notSent(reason)
        self.failure = self.failure ?? outcome.error?.ofOperation
        self.failedCount += unknown + notProcessed
    }
}

extension AMQPConfirmCounts {
    mutating func add(_ other: AMQPConfirmCounts) {
        self.published += other.published
        self.confirmed += other.confirmed
        self.nacked += other.nacked
        self.returned += other.returned
        self.refused += other.refused
        self.notProcessed += other.notProcessed
        self.unknown += other.unknown
        self.unconfirmed += other.unconfirmed
    }
}

extension AMQPMessage {
    /// With a message id, so that a consumer can tell a second copy.
    var identified: AMQPMessage {
        guard self.properties.messageID == nil else { return self }
        var message = self
        var random = RandomNumbers()
        message.properties.messageID = [random.next(), random.next()]
            .map { (number: UInt64) in
                let digits = String(number, radix: 16)
                return String(repeating: "0", count: 16 - digits.utf8.count) + digits
            }
            .joined()
        return message
    }
}
