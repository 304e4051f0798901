// SPDX-License-Identifier: Apache-2.0

// SettlementLedger: what the application has settled on one channel and what of it the broker is to be told now: the
// acknowledgement runs, the refusals that are held back, and the record of a transaction.
// Pure: no socket, clock, task or lock. The owner writes the methods that an action names.
//
//   acknowledge() ---.                        drain() --> basic.ack ...        by the writer, just before it writes
//   refuse() --------+--> hold? --no--> .send --> basic.nack or basic.reject at once
//                         yes: kept until endHold(), or dropped by recovered()

/// One call of `ack`, `nack` or `reject`.
@frozen
@usableFromInline
package struct Settlement: Hashable, Sendable {
    @usableFromInline package let tag: UInt64
    @usableFromInline package let multiple: Bool
    /// Whether a refused message returns to its queue; nil for an acknowledgement.
    @usableFromInline package let requeue: Bool?
    /// Sent as `basic.reject`, which counts towards the delivery limit, instead of `basic.nack`.
    @usableFromInline package let isRejection: Bool

    @inlinable
    package init(tag: UInt64, multiple: Bool, requeue: Bool?, isRejection: Bool = false) {
        self.tag = tag
        self.multiple = multiple
        self.requeue = requeue
        self.isRejection = isRejection
    }
}

/// Why settlements are held back.
@frozen
@usableFromInline
package enum SettlementHold: Hashable, Sendable {
    case none
    /// `tx.commit` is under way: RabbitMQ's channel fails on a settlement before `commit-ok`. Sent afterwards.
    case committing
    /// `basic.recover` is under way: what was delivered goes back to its queues. Never sent.
    case recovering
}

/// The settlements of one channel.
@usableFromInline
package struct SettlementLedger: Sendable {
    /// What an acknowledgement came to.
    @frozen
    @usableFromInline
    package struct Acknowledged: Hashable, Sendable {
        /// Deliveries it settled.
        @usableFromInline package let count: Int
        /// Whether the owner is to put the channel among those with acknowledgements to send.
        @usableFromInline package let isFirst: Bool

        @inlinable
        init(count: Int, isFirst: Bool) {
            self.count = count
            self.isFirst = isFirst
        }
    }

    /// What a refusal came to.
    package struct Refused: Hashable, Sendable {
        /// Deliveries it settled.
        package let count: Int
        /// Whether the owner is to write it now.
        package let isSent: Bool
    }

    @usableFromInline package var acks = AckRuns()
    /// Whether the channel stands among those with acknowledgements to send.
    @usableFromInline package var isScheduled = false
    @usableFromInline package private(set) var hold = SettlementHold.none
    private var heldRefusals: [Settlement] = []
    /// What was settled since the last commit; nil outside of a transaction.
    @usableFromInline package var transaction: [Settlement]?
    /// What was settled in a transaction that is being rolled back.
    private var rolledBack: [Settlement] = []
    /// Refusals were written after a rollback, which take effect with the next commit.
    private var hasReturned = false

    package init() {}

    /// The application acknowledged deliveries.
    ///
    /// - Returns: Nil, and nothing changes, when they are settled already.
    @inlinable
    package mutating func acknowledge(_ tag: UInt64, multiple: Bool) -> Acknowledged? {
        let unsent = self.acks.count
        let isNew = multiple ? self.acks.settle(upTo: tag) : self.acks.settle(tag)
        guard isNew else { return nil }
        self.transaction?.append(Settlement(tag: tag, multiple: multiple, requeue: nil))
        let isFirst = !self.isScheduled
        self.isScheduled = true
        return Acknowledged(count: multiple ? self.acks.count - unsent : 1, isFirst: isFirst)
    }

    /// The application refused deliveries.
    ///
    /// Acknowledgements given before a refusal with `multiple` are to be written before it: it must not take them along.
    ///
    /// - Returns: Nil, and nothing changes, when they are settled already.
    package mutating func refuse(_ settlement: Settlement) -> Refused? {
        let count =
            settlement.multiple
            ? self.acks.reject(upTo: settlement.tag) : self.acks.reject(settlement.tag) ? 1 : 0
        guard count > 0 else { return nil }
        self.transaction?.append(settlement)
        guard self.hold == .none else {
            self.heldRefusals.append(settlement)
            return Refused(count: count, isSent: false)
        }
        return Refused(count: count, isSent: true)
    }

    /// Merges what was acknowledged into as few `basic.ack` as the tags allow; nothing while it is held back.
    @inlinable
    package mutating func drain(each: (_ tag: UInt64, _ multiple: Bool) -> Void) {
        self.isScheduled = false
        guard self.hold == .none else { return }
        self.acks.drain(each: each)
    }

    /// The channel is gone: nothing more is written.
    @inlinable
    package mutating func unschedule() { self.isScheduled = false }

    /// A recover was sent.
    package mutating func beginHold(_ hold: SettlementHold) { self.hold = hold }

    /// A commit was sent: the transaction is over.
    package mutating func beginCommit() {
        self.transaction = nil
        self.hasReturned = false
        self.hold = .committing
    }

    /// A rollback was sent: the transaction is over.
    package mutating func rollBack() {
        self.rolledBack += self.transaction ?? []
        self.transaction = nil
    }

    /// The rollback was answered: the broker counts what was settled as unsettled, the application does not.
    ///
    /// - Returns: Refusals to write, which return the deliveries to their queues with the next commit.
    package mutating func returnRolledBack() -> [Settlement] {
        defer { self.rolledBack = [] }
        if !self.rolledBack.isEmpty { self.hasReturned = true }
        return self.rolledBack.map { Settlement(tag: $0.tag, multiple: $0.multiple, requeue: true) }
    }

    /// Whether a commit is due for what `returnRolledBack` returned; once.
    package mutating func takeReturned() -> Bool {
        defer { self.hasReturned = false }
        return self.hasReturned
    }

    /// The commit or recover was answered.
    ///
    /// - Returns: The refusals to write now, and whether the owner is to put the channel among those with
    ///   acknowledgements to send.
    package mutating func endHold() -> (refusals: [Settlement], isFirst: Bool) {
        self.hold = .none
        defer { self.heldRefusals = [] }
        guard self.acks.hasUnsent, !self.isScheduled else { return (self.heldRefusals, false) }
        self.isScheduled = true
        return (self.heldRefusals, true)
    }

    /// The broker took back every delivery up to this tag: no settlement of it is ever written.
    package mutating func recovered(through tag: UInt64) {
        _ = self.acks.reject(upTo: tag)
        self.acks.drain { _, _ in }
        self.heldRefusals = []
    }
}
