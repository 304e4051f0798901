// SPDX-License-Identifier: Apache-2.0
// ConfirmTracker: the publisher confirms of one channel: the window, the outstanding publishes, the outcomes of the
// others, and the waiters for them.
// Pure: no socket, clock, task or lock. Waiters are tokens of the owner's table; each event reports the tokens to wake.
// Not here: the octets of a publish, and the reason why a channel ended (the owner).
//
//   enable() -> hasRoom? -> append() -> settle()* -> end()      after end() outcomes can still be queried
// @inlinable on the hot path, which is called from another module.

/// The confirms of one channel.
@usableFromInline
package struct ConfirmTracker: Sendable {
    /// The reason to wake a task.
    @frozen
    @usableFromInline
    package enum Wake: Sendable {
        /// The condition may hold now: room in the window, or everything settled.
        case progress
        /// Its publish has an outcome.
        case outcome(ConfirmRing.Outcome)
    }

    /// Number of publishes that one confirm has settled.
    @frozen
    @usableFromInline
    package struct Settled: Hashable, Sendable {
        @usableFromInline package let count: Int
        /// Number of nacked publishes among them.
        @usableFromInline package let nacked: Int

        @inlinable
        init(count: Int, nacked: Int) {
            self.count = count
            self.nacked = nacked
        }
    }

    /// The outstanding publishes; empty while confirms are off.
    @usableFromInline package var ring = ConfirmRing(capacity: 16)
    /// True once `confirm.select` was sent: the broker numbers every later publish.
    @usableFromInline package var isOn = false
    @usableFromInline var windowMessages = 0
    @usableFromInline var windowOctets = 0
    /// Publishers that wait for room in the window.
    private var windowWaiters = WaitingLine<UInt32>()
    @usableFromInline var hasWindowWaiters = false
    /// Tasks that wait until no publish is unconfirmed.
    private var drainWaiters = WaitingLine<UInt32>()
    @usableFromInline var hasDrainWaiters = false
    /// Outcomes of the publishes that have ended.
    @usableFromInline package var endings = PublishEndings()
    /// Number of publishes that were unconfirmed when the channel ended.
    package private(set) var unknownCount: UInt64 = 0
    package private(set) var refusedCount: UInt64 = 0
    package private(set) var notProcessedCount: UInt64 = 0
    /// Number of these without a waiter.
    package private(set) var unknownSendCount = 0
    package private(set) var refusedSendCount = 0
    package private(set) var notProcessedSendCount = 0
    /// The publish for which the broker closed the channel, and the first one it did not process.
    private var culprit: UInt64?
    private var unprocessed = UInt64.max
    /// The publishes that were unconfirmed when the channel ended; nil before.
    private var ended: ConfirmRing?

    package init() {}

    /// Records that `confirm.select` was sent, first or again with another window.
    package mutating func enable(windowMessages: Int, windowOctets: Int) {
        self.windowMessages = windowMessages
        self.windowOctets = windowOctets
        if !self.isOn { self.ring = ConfirmRing(capacity: min(windowMessages, 4096)) }
        self.isOn = true
    }

    /// True if the window has room for a publish; a message larger than the window is accepted alone.
    @inlinable package var hasRoom: Bool {
        guard self.isOn else { return true }
        let outstanding = self.ring.outstandingMessages
        return outstanding < self.windowMessages && !self.ring.isFull
            && (self.ring.outstandingOctets < self.windowOctets || outstanding == 0)
    }

    // MARK: waiting

    /// Queues a publisher for room in the window.
    ///
    /// - Returns: The ticket for `stopWaitingForRoom`.
    package mutating func waitForRoom(_ token: UInt32) -> WaitingLine<UInt32>.Ticket {
        self.hasWindowWaiters = true
        return self.windowWaiters.append(token)
    }

    /// Removes a publisher that no longer waits for the window.
    package mutating func stopWaitingForRoom(_ ticket: WaitingLine<UInt32>.Ticket) {
        _ = self.windowWaiters.remove(ticket)
        self.hasWindowWaiters = !self.windowWaiters.isEmpty
    }

    /// Queues a task until no publish is unconfirmed.
    ///
    /// - Returns: The ticket for `stopWaitingUntilDrained`; nil if nothing is unconfirmed, and the token is not queued.
    package mutating func waitUntilDrained(_ token: UInt32) -> WaitingLine<UInt32>.Ticket? {
        guard self.ring.outstandingMessages > 0 else { return nil }
        self.hasDrainWaiters = true
        return self.drainWaiters.append(token)
    }

    /// Removes a task that no longer waits in `waitUntilDrained`.
    package mutating func stopWaitingUntilDrained(_ ticket: WaitingLine<UInt32>.Ticket) {
        _ = self.drainWaiters.remove(ticket)
        self.hasDrainWaiters = !self.drainWaiters.isEmpty
    }

    // MARK: events

    /// Handles `basic.ack` or `basic.nack`.
    ///
    /// - Parameters:
    ///   - tag: The delivery tag of the confirm.
    ///   - multiple: True for all publishes up to the tag.
    ///   - isAck: True for `basic.ack`.
    ///   - wake: Called for each waiter to wake.
    /// - Returns: The number of settled publishes.
    /// - Throws: A violation if the tag was never used; nothing has changed then.
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

    /// Takes the two parts and not the tracker: the ring calls back while it is being changed.
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

    /// Wakes only as many publishers as have room: others would queue again.
    ///
    /// If nothing is unconfirmed it wakes all of them: no later confirm would wake the rest if those woken now do
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

    /// True if the channel has ended: no publish gets another outcome.
    package var hasEnded: Bool { self.ended != nil }

    /// Number of publishes without an outcome, also after the channel has ended.
    package func isOutstanding(_ sequence: UInt64) -> Bool { (self.ended ?? self.ring).isOutstanding(sequence) }

    /// Records that the broker is closing the channel for one of its publishes.
    ///
    /// - Parameters:
    ///   - culprit: The refused publish; nil if unknown.
    ///   - unprocessed: The first publish it did not process.
    package mutating func closed(for culprit: UInt64?, unprocessed: UInt64) {
        self.culprit = culprit
        self.unprocessed = unprocessed
    }

    /// Ends the channel: unconfirmed publishes stay unconfirmed, and receipts can still report them.
    ///
    /// - Parameter each: Called with the token of each unconfirmed publish that has a token.
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

    /// Removes the tasks that wait for anything but the outcome of their own publish, after the channel has ended.
    package mutating func takeWaiters() -> [UInt32] {
        self.hasWindowWaiters = false
        self.hasDrainWaiters = false
        return self.drainWaiters.removeAll() + self.endings.receipts.takeWaiters() + self.windowWaiters.removeAll()
    }
}
