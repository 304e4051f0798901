// SPDX-License-Identifier: Apache-2.0
// ConfirmTracker: the publisher confirms of one channel: the window, the publishes without an outcome, what became of the
// others, and the tasks that wait for any of it.
// Pure: no socket, clock, task or lock. Waiters are tokens of the owner's table; each event names the tokens to wake.
// Not here: the octets of a publish, and why a channel ended (the owner).
//
//   enable() -> hasRoom? -> append() -> settle()* -> end()      after end() outcomes can still be asked for
// @inlinable on what every message runs through: it is called from another module.

/// The confirms of one channel.
@usableFromInline
package struct ConfirmTracker: Sendable {
    /// Why a waiting task is woken.
    @frozen
    @usableFromInline
    package enum Wake: Sendable {
        /// What it waited for may be so now: room in the window, or everything settled.
        case progress
        /// The outcome of its publish.
        case outcome(ConfirmRing.Outcome)
    }

    /// Publishes that one confirm has settled.
    @frozen
    @usableFromInline
    package struct Settled: Hashable, Sendable {
        @usableFromInline package let count: Int
        /// Of these, refused by the broker.
        @usableFromInline package let nacked: Int

        @inlinable
        init(count: Int, nacked: Int) {
            self.count = count
            self.nacked = nacked
        }
    }

    /// Publishes without an outcome; empty while confirms are off.
    @usableFromInline package var ring = ConfirmRing(capacity: 16)
    /// Whether `confirm.select` was sent: the broker counts every publish behind it.
    @usableFromInline package var isOn = false
    @usableFromInline var windowMessages = 0
    @usableFromInline var windowOctets = 0
    /// Publishers that wait for the window.
    private var windowWaiters = WaitingLine<UInt32>()
    @usableFromInline var hasWindowWaiters = false
    /// Tasks that wait until nothing is unconfirmed.
    private var drainWaiters = WaitingLine<UInt32>()
    @usableFromInline var hasDrainWaiters = false
    /// What became of the publishes that have ended.
    @usableFromInline package var endings = PublishEndings()
    /// Publishes that were unconfirmed when the channel ended.
    package private(set) var unknownCount: UInt64 = 0
    package private(set) var refusedCount: UInt64 = 0
    package private(set) var notProcessedCount: UInt64 = 0
    /// Of each of these, how many had no waiter.
    package private(set) var unknownSendCount = 0
    package private(set) var refusedSendCount = 0
    package private(set) var notProcessedSendCount = 0
    /// The publish the broker refused by closing the channel, and the first one it did not process.
    private var culprit: UInt64?
    private var unprocessed = UInt64.max
    /// The publishes that were unconfirmed when the channel ended; nil before.
    private var ended: ConfirmRing?

    package init() {}

    /// `confirm.select` was sent, for the first time or again with another window.
    package mutating func enable(windowMessages: Int, windowOctets: Int) {
        self.windowMessages = windowMessages
        self.windowOctets = windowOctets
        if !self.isOn { self.ring = ConfirmRing(capacity: min(windowMessages, 4096)) }
        self.isOn = true
    }

    /// Whether the window takes another publish; a message larger than the window passes alone.
    @inlinable package var hasRoom: Bool {
        guard self.isOn else { return true }
        let outstanding = self.ring.outstandingMessages
        return outstanding < self.windowMessages && !self.ring.isFull
            && (self.ring.outstandingOctets < self.windowOctets || outstanding == 0)
    }

    // MARK: waiting

    /// A publisher waits for the window.
    ///
    /// - Returns: What `stopWaitingForRoom` takes.
    package mutating func waitForRoom(_ token: UInt32) -> WaitingLine<UInt32>.Ticket {
        self.hasWindowWaiters = true
        return self.windowWaiters.append(token)
    }

    /// A publisher gave up its wait for the window.
    package mutating func stopWaitingForRoom(_ ticket: WaitingLine<UInt32>.Ticket) {
        _ = self.windowWaiters.remove(ticket)
        self.hasWindowWaiters = !self.windowWaiters.isEmpty
    }

    /// A task waits until nothing is unconfirmed.
    ///
    /// - Returns: What `stopWaitingUntilDrained` takes; nil when nothing is unconfirmed, and the token was not taken.
    package mutating func waitUntilDrained(_ token: UInt32) -> WaitingLine<UInt32>.Ticket? {
        guard self.ring.outstandingMessages > 0 else { return nil }
        self.hasDrainWaiters = true
        return self.drainWaiters.append(token)
    }

    /// A task gave up its wait of `waitUntilDrained`.
    package mutating func stopWaitingUntilDrained(_ ticket: WaitingLine<UInt32>.Ticket) {
        _ = self.drainWaiters.remove(ticket)
        self.hasDrainWaiters = !self.drainWaiters.isEmpty
    }

    // MARK: events

    /// The broker sent `basic.ack` or `basic.nack`.
    ///
    /// - Parameters:
    ///   - tag: The delivery tag of the confirm.
    ///   - multiple: Whether all publishes up to the tag are meant.
    ///   - isAck: Whether it is an acknowledgement.
    ///   - wake: Called for each waiter to wake.
    /// - Returns: How many publishes it settled.
    /// - Throws: A confirm for a publish that was never made; nothing has changed then.
    @inlinable
    package mutating func settle(
        tag: UInt64,
        multiple: Bool,
        isAck: Bool,
        wake: (UInt32, Wake) -> Void
    ) throws(ConfirmRing.Violation) -> Settled {
        let settled: Settled
        if isAck, let token = self.ring.confirmOldest(tag) {
            if token != 0 { self.endings.publishEnded(tag, token, .confirmed, wake) }
            settled = Settled(count: 1, nacked: 0)
        } else {
            settled = try Self.settle(&self.ring, &self.endings, tag: tag, multiple: multiple, isAck: isAck, wake: wake)
        }
        self.endings.receipts.settled(below: self.ring.lowest) { wake($0, .progress) }
        let outstanding = self.ring.outstandingMessages
        if self.hasWindowWaiters, outstanding <= self.windowMessages / 2,
            self.ring.outstandingOctets <= self.windowOctets / 2
        {
            self.wakeWindowWaiters(outstanding, wake)
        }
        if outstanding == 0, self.hasDrainWaiters { self.wakeDrainWaiters(wake) }
        return settled
    }

    /// On the two parts and not on the tracker: the ring calls back while it is changed.
    @inlinable
    static func settle(
        _ ring: inout ConfirmRing,
        _ endings: inout PublishEndings,
        tag: UInt64,
        multiple: Bool,
        isAck: Bool,
        wake: (UInt32, Wake) -> Void
    ) throws(ConfirmRing.Violation) -> Settled {
        let before = (outstanding: ring.outstandingMessages, nacked: endings.nackedCount)
        try ring.settle(tag: tag, multiple: multiple, outcome: isAck ? .confirmed : .nacked) {
            endings.publishEnded($0, $1, $2, wake)
        }
        return Settled(
            count: before.outstanding - ring.outstandingMessages,
            nacked: Int(endings.nackedCount - before.nacked)
        )
    }

    /// Wakes no more than find room: the others would only queue again.
    ///
    /// With nothing unconfirmed it wakes all of them: no confirm will come to wake the rest if those who were woken do
    /// not publish.
    @usableFromInline
    mutating func wakeWindowWaiters(_ outstanding: Int, _ wake: (UInt32, Wake) -> Void) {
        let room = outstanding == 0 ? .max : self.windowMessages - outstanding
        for _ in 0..<min(room, self.windowWaiters.count) {
            if let token = self.windowWaiters.popFirst() { wake(token, .progress) }
        }
        self.hasWindowWaiters = !self.windowWaiters.isEmpty
    }

    @usableFromInline
    mutating func wakeDrainWaiters(_ wake: (UInt32, Wake) -> Void) {
        self.hasDrainWaiters = false
        while let token = self.drainWaiters.popFirst() { wake(token, .progress) }
    }

    // MARK: the end

    /// Whether the channel has ended: no publish of it gets another outcome.
    package var hasEnded: Bool { self.ended != nil }

    /// The publishes without an outcome, also after the channel has ended.
    package func isOutstanding(_ sequence: UInt64) -> Bool { (self.ended ?? self.ring).isOutstanding(sequence) }

    /// The broker is closing the channel for one of its publishes.
    ///
    /// - Parameters:
    ///   - culprit: The publish it refused; nil when that is not known.
    ///   - unprocessed: The first publish it did not process.
    package mutating func closed(for culprit: UInt64?, unprocessed: UInt64) {
        self.culprit = culprit
        self.unprocessed = unprocessed
    }

    /// The channel is gone: what is unconfirmed stays so, and receipts can still tell which publishes those are.
    ///
    /// - Parameter each: Called with the token of each unconfirmed publish that has one.
    package mutating func end(each: (UInt32) -> Void) {
        guard self.ended == nil else { return }
        self.ended = self.ring
        let (culprit, unprocessed) = (self.culprit, self.unprocessed)
        // By category: unknown, refused, not processed.
        var counts = (unknown: 0, refused: 0, notProcessed: 0)
        var sends = counts
        self.ring.failAll { sequence, token in
            if token != 0 { each(token) }
            let send = token == 0 ? 1 : 0
            if sequence == culprit {
                counts.refused += 1
                sends.refused += send
            } else if sequence >= unprocessed {
                counts.notProcessed += 1
                sends.notProcessed += send
            } else {
                counts.unknown += 1
                sends.unknown += send
            }
        }
        self.unknownCount += UInt64(counts.unknown)
        self.refusedCount += UInt64(counts.refused)
        self.notProcessedCount += UInt64(counts.notProcessed)
        self.unknownSendCount = sends.unknown
        self.refusedSendCount = sends.refused
        self.notProcessedSendCount = sends.notProcessed
    }

    /// The tasks that wait for something other than the outcome of their own publish, once the channel has ended.
    package mutating func takeWaiters() -> [UInt32] {
        self.hasWindowWaiters = false
        self.hasDrainWaiters = false
        return self.drainWaiters.removeAll() + self.endings.receipts.takeWaiters() + self.windowWaiters.removeAll()
    }
}
