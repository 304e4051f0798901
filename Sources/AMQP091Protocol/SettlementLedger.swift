// SPDX-License-Identifier: Apache-2.0

// SettlementLedger: the settlements of the deliveries of one channel, and the exact basic.ack,
// basic.nack and basic.reject frames for them (§1.8.3.13, §1.8.3.14, RabbitMQ's nack).
// Pure: no socket, clock, task or lock. The owner appends each frame it is given, in order.
// Not here: when acknowledgements are drained (the owner, just before it writes), publishes and confirms (ConfirmTracker).
//
// Three rules make the broker's account equal the application's:
//   1. Acknowledgements that wait to be merged are sent before any refusal: the order is the application's and a nack with
//      `multiple` finds nothing that was acknowledged.
//   2. A frame names a tag that the broker still holds: RabbitMQ answers 406 to any other, also with `multiple`.
//   3. While the broker cannot take settlements (a commit or a rollback is under way) the frames are kept, in order;
//      while it requeues everything (basic.recover) nothing can be settled.

/// The settlements of one channel and the frames that carry them.
@usableFromInline
package struct SettlementLedger: Sendable {
    /// The settlement of a delivery.
    @frozen
    @usableFromInline
    package enum Verdict: Hashable, Sendable {
        /// `basic.ack`: processed.
        case ack
        /// `basic.nack`: not processed.
        case nack(requeue: Bool)
        /// `basic.reject`: processing failed; counts towards the delivery limit of a quorum queue.
        case reject(requeue: Bool)
    }

    /// One `basic.ack`, `basic.nack` or `basic.reject`.
    @frozen
    @usableFromInline
    package struct Frame: Hashable, Sendable {
        /// The delivery tag, which the broker holds at this point of the stream.
        package let tag: UInt64
        /// True if it covers every lower tag that the broker holds.
        package let multiple: Bool
        /// The settlement.
        package let verdict: Verdict

        @usableFromInline
        package init(_ tag: UInt64, multiple: Bool = false, _ verdict: Verdict) {
            self.tag = tag
            self.multiple = multiple
            self.verdict = verdict
        }
    }

    /// The reason why frames are kept.
    @frozen
    @usableFromInline
    package enum Hold: Hashable, Sendable {
        case none
        /// `tx.commit` is under way: RabbitMQ's channel fails on a settlement before `commit-ok`.
        case committing
        /// `tx.rollback` is under way: what the transaction settled must be returned before anything else is settled.
        case rollingBack
        /// `basic.recover` is under way: the broker requeues all unacknowledged deliveries, so nothing can be settled.
        case recovering
    }

    /// The result of an acknowledgement.
    @frozen
    @usableFromInline
    package struct Acknowledged: Hashable, Sendable {
        /// Number of settled deliveries.
        @usableFromInline package let count: Int
        /// True if the owner must add the channel to those with acknowledgements to send.
        @usableFromInline package let isFirst: Bool

        @inlinable
        init(count: Int, isFirst: Bool) {
            self.count = count
            self.isFirst = isFirst
        }
    }

    @usableFromInline var runs = AckRuns()
    /// True if the channel is among those with acknowledgements to send.
    @usableFromInline package var isScheduled = false
    @usableFromInline var hold = Hold.none
    /// The highest tag that the client refused during a recover, for a delivery without a consumer.
    private var highestVoid: UInt64 = 0
    /// Kept frames, oldest first.
    private var kept: [Frame] = []
    /// The frames since `tx.select` or the last commit, which a rollback undoes; nil on a channel without transactions.
    private var transaction: [Frame]?

    package init() {}

    /// True if a rollback now would return deliveries.
    package var hasUncommitted: Bool { !(self.transaction ?? []).isEmpty }
    /// The lowest tag that is not settled and sent: the oldest delivery the broker waits for, if it was delivered.
    package var oldestOpen: UInt64 { self.runs.oldestOpen }

    // MARK: what the application says

    /// Acknowledges one delivery, or with `multiple` every unsettled one up to and including it.
    ///
    /// - Returns: Nil, and nothing changes, if they are settled already or are being recovered.
    @inlinable
    package mutating func acknowledge(_ tag: UInt64, multiple: Bool) -> Acknowledged? {
        guard self.hold != .recovering else { return nil }
        let unsent = self.runs.count
        guard multiple ? self.runs.settle(upTo: tag) : self.runs.settle(tag) else { return nil }
        let isFirst = !self.isScheduled
        self.isScheduled = true
        return Acknowledged(count: multiple ? self.runs.count - unsent : 1, isFirst: isFirst)
    }

    /// Refuses one delivery.
    ///
    /// - Parameters:
    ///   - tag: The delivery tag.
    ///   - verdict: `.nack` or `.reject`.
    ///   - send: Called for each frame to append now.
    /// - Returns: False, and nothing changes, if it is settled already or is being recovered.
    package mutating func refuse(_ tag: UInt64, _ verdict: Verdict, send: (Frame) -> Void) -> Bool {
        guard self.hold != .recovering else {
            self.highestVoid = max(self.highestVoid, tag)
            return false
        }
        guard self.runs.isOpen(tag) else { return false }
        self.sendAcknowledgements(send)
        _ = self.runs.reject(tag)
        self.send(Frame(tag, verdict), send)
        return true
    }

    /// Refuses every unsettled delivery up to and including this one.
    ///
    /// - Parameters:
    ///   - tag: The delivery tag.
    ///   - requeue: True to requeue them.
    ///   - send: Called for each frame to append now.
    /// - Returns: The number of deliveries.
    package mutating func refuse(upTo tag: UInt64, requeue: Bool, send: (Frame) -> Void) -> Int {
        guard self.hold != .recovering, let last = self.runs.lastOpen(upTo: tag) else { return 0 }
        self.sendAcknowledgements(send)
        let count = self.runs.reject(upTo: last)
        self.send(Frame(last, multiple: count > 1, .nack(requeue: requeue)), send)
        return count
    }

    /// Marks the tag of a delivery that needs no acknowledgement.
    @inlinable
    package mutating func markAutomatic(_ tag: UInt64) { _ = self.runs.markAutomatic(tag) }

    /// Sends pending acknowledgements in as few frames as the tags allow; nothing while frames are kept.
    @inlinable
    package mutating func drain(send: (Frame) -> Void) {
        self.isScheduled = false
        guard self.hold == .none else { return }
        self.sendAcknowledgements(send)
    }

    /// Records that the channel has ended: nothing more is sent.
    package mutating func unschedule() { self.isScheduled = false }

    // MARK: transactions

    /// Records `tx.select`: later settlements take effect with a commit.
    package mutating func selecting() {
        if self.transaction == nil { self.transaction = [] }
    }

    /// Records `tx.commit`, appended after pending acknowledgements.
    package mutating func committing() {
        self.transaction = []
        self.hold = .committing
    }

    /// Records `tx.rollback`, appended after pending acknowledgements.
    package mutating func rollingBack() { self.hold = .rollingBack }

    /// Handles `tx.commit-ok`.
    ///
    /// - Returns: True if the owner must add the channel to those with acknowledgements to send.
    package mutating func committed(send: (Frame) -> Void) -> Bool { self.release(send) }

    /// Handles `tx.rollback-ok`: deliveries settled in the transaction are unsettled at the broker again, and are requeued.
    ///
    /// The same frames in the same order cover the same deliveries: later ones have higher tags.
    ///
    /// - Returns: True if the owner must add the channel to those with acknowledgements to send.
    package mutating func rolledBack(send: (Frame) -> Void) -> Bool {
        let undone = self.transaction ?? []
        self.transaction = []
        self.hold = .none
        for frame in undone { self.send(Frame(frame.tag, multiple: frame.multiple, .nack(requeue: true)), send) }
        return self.release(send)
    }

    // MARK: basic.recover

    /// Records `basic.recover`, appended after pending acknowledgements.
    package mutating func recovering() { self.hold = .recovering }

    /// Handles `basic.recover-ok`.
    ///
    /// - Parameter last: The highest delivery tag so far; this and every lower one is void.
    package mutating func recovered(through last: UInt64) {
        _ = self.runs.reject(upTo: max(last, self.highestVoid))
        self.highestVoid = 0
        self.hold = .none
    }

    // MARK: frames

    private mutating func release(_ send: (Frame) -> Void) -> Bool {
        self.hold = .none
        let frames = self.kept
        self.kept = []
        for frame in frames { self.send(frame, send) }
        guard self.runs.hasUnsent, !self.isScheduled else { return false }
        self.isScheduled = true
        return true
    }

    @inlinable
    mutating func sendAcknowledgements(_ send: (Frame) -> Void) {
        guard self.runs.hasUnsent else { return }
        guard self.mustNote else {
            return self.runs.drain { tag, multiple in send(Frame(tag, multiple: multiple, .ack)) }
        }
        self.noteAcknowledgements(send)
    }

    /// True if frames are kept, or recorded for a rollback.
    @usableFromInline var mustNote: Bool { self.hold != .none || self.transaction != nil }

    @usableFromInline
    mutating func noteAcknowledgements(_ send: (Frame) -> Void) {
        var frames: [Frame] = []
        self.runs.drain { tag, multiple in frames.append(Frame(tag, multiple: multiple, .ack)) }
        for frame in frames { self.send(frame, send) }
    }

    private mutating func send(_ frame: Frame, _ send: (Frame) -> Void) {
        guard self.hold == .none else { return self.kept.append(frame) }
        self.transaction?.append(frame)
        send(frame)
    }
}
