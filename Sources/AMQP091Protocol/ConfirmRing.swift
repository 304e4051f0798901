// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// ConfirmRing: the publishes of one channel that the broker has not settled yet (publisher confirms, RabbitMQ's class 85).
// Pure: no socket, clock, task or lock. The owner numbers a publish here in the same step that appends its octets.
// Not here: who waits (the owner's table, by token), and what mandatory publishes were (MandatoryPublishes).
//
//   lowest ......................... next     the slot of a sequence number: number & mask
//     | outstanding, or settled early |       one slot: token in bits 0-31, octets in bits 32-61,
//                                             bit 62 "mandatory", bit 63 "outstanding"; all zero when settled

/// Publishes unconfirmed on one channel, numbered from 1 as the broker numbers them.
@frozen
@usableFromInline
package struct ConfirmRing: Sendable {
    /// How a publish ended.
    @frozen
    @usableFromInline
    package enum Outcome: Hashable, Sendable {
        /// The broker took it: `basic.ack`.
        case confirmed
        /// The broker refused it: `basic.nack`.
        case nacked
        /// No queue took it: `basic.return` came before its `basic.ack`.
        case returned(ReplyCode, String)
    }

    /// A confirm the broker had no right to send; the connection cannot go on.
    @usableFromInline
    package enum Violation: Error, Hashable, Sendable {
        /// The delivery tag belongs to no publish made so far.
        case unknownTag(UInt64)
    }

    // Computed, because a stored constant costs a call to reach from another module.
    @inlinable static var outstandingBit: UInt64 { 1 << 63 }
    @inlinable static var mandatoryBit: UInt64 { 1 << 62 }
    @inlinable static var octetsMask: UInt64 { (1 << 30) - 1 }

    @usableFromInline var slots: ContiguousArray<UInt64>
    @usableFromInline var mask: UInt64
    @usableFromInline let limit: Int
    @usableFromInline var mandatory = MandatoryPublishes()
    @usableFromInline var low: UInt64 = 1
    @usableFromInline var high: UInt64 = 1
    @usableFromInline var messages = 0
    @usableFromInline var octets = 0

    /// Makes an empty ring.
    ///
    /// - Parameters:
    ///   - capacity: Slots at the start, 8 octets each; rounded up to a power of two.
    ///   - limit: The slots it may grow to when the oldest publish stays unconfirmed; rounded up likewise.
    package init(capacity: Int, limit: Int = 1 << 22) {
        let slots = Self.powerOfTwo(capacity)
        self.slots = ContiguousArray(repeating: 0, count: slots)
        self.mask = UInt64(slots - 1)
        self.limit = max(slots, Self.powerOfTwo(limit))
    }

    /// The lowest sequence number that is still outstanding, or `next` when none is.
    @inlinable package var lowest: UInt64 { self.low }
    /// The sequence number the next publish gets.
    @inlinable package var next: UInt64 { self.high }
    /// Publishes without an outcome.
    @inlinable package var outstandingMessages: Int { self.messages }
    /// Octets of the publishes without an outcome; one publish counts for at most 1 GiB.
    @inlinable package var outstandingOctets: Int { self.octets }
    /// True when no publish can be appended: the span from the oldest outstanding one has reached the limit.
    @inlinable package var isFull: Bool { self.high - self.low >= UInt64(self.limit) }

    /// Numbers one publish.
    ///
    /// - Parameters:
    ///   - octets: What it counts for in `outstandingOctets`.
    ///   - token: Whom to tell of its end; 0 when nobody waits.
    /// - Precondition: `isFull` is false.
    /// - Returns: Its sequence number, the delivery tag its confirm will carry.
    @inlinable
    package mutating func append(octets: Int, token: UInt32) -> UInt64 {
        if self.high - self.low > self.mask { self.grow() }
        let sequence = self.high
        let counted = min(UInt64(max(octets, 0)), Self.octetsMask)
        self.slots[Int(sequence & self.mask)] = Self.outstandingBit | counted << 32 | UInt64(token)
        self.high = sequence + 1
        self.messages += 1
        self.octets += Int(counted)
        return sequence
    }

    /// The broker sent `basic.ack` or `basic.nack`.
    ///
    /// What was settled before is passed over; the work is in proportion to what is settled now.
    ///
    /// - Parameters:
    ///   - tag: The delivery tag; 0 with `multiple` means every outstanding publish.
    ///   - multiple: Whether all publishes up to the tag are meant.
    ///   - outcome: `.confirmed` or `.nacked`.
    ///   - each: Called for each publish that has a token or did not end as confirmed.
    /// - Throws: `Violation` for a tag that was never given out; nothing has changed then.
    @inlinable
    package mutating func settle(
        tag: UInt64,
        multiple: Bool,
        outcome: Outcome,
        each: (_ sequence: UInt64, _ token: UInt32, _ outcome: Outcome) -> Void
    ) throws(Violation) {
        var last = tag
        if tag == 0 && multiple { last = self.high - 1 }
        guard tag < self.high, tag > 0 || multiple else { throw .unknownTag(tag) }
        guard last >= self.low else { return }
        let first = multiple ? self.low : last
        self.settle(first...last, outcome, each)
        guard first == self.low else { return }
        self.low = last + 1
        self.advance()
    }

    /// The broker confirmed the oldest publish alone, as it does where one is made at a time: `settle` at less cost.
    ///
    /// - Parameter tag: The delivery tag.
    /// - Returns: The publish's token, 0 for none; nil, and nothing has changed, where the tag is not that of the oldest or
    ///   the publish was mandatory.
    @inlinable
    package mutating func confirmOldest(_ tag: UInt64) -> UInt32? {
        guard tag == self.low, tag < self.high else { return nil }
        let index = Int(tag & self.mask)
        let slot = self.slots[index]
        guard slot & (Self.outstandingBit | Self.mandatoryBit) == Self.outstandingBit else { return nil }
        self.slots[index] = 0
        self.messages -= 1
        self.octets -= Int(slot >> 32 & Self.octetsMask)
        self.low = tag + 1
        self.advance()
        return UInt32(truncatingIfNeeded: slot)
    }

    /// Empties the slots of a range and tells of those that were outstanding.
    @inlinable
    mutating func settle(_ range: ClosedRange<UInt64>, _ outcome: Outcome, _ each: (UInt64, UInt32, Outcome) -> Void) {
        let isConfirmed = if case .confirmed = outcome { true } else { false }
        var messages = 0
        var octets: UInt64 = 0
        let mask = self.mask
        for sequence in range {
            let index = Int(sequence & mask)
            let slot = self.slots[index]
            guard slot & Self.outstandingBit != 0 else { continue }
            self.slots[index] = 0
            messages += 1
            octets += slot >> 32 & Self.octetsMask
            let token = UInt32(truncatingIfNeeded: slot)
            if slot & Self.mandatoryBit != 0 {
                let end = self.mandatory.settle(sequence, outcome)
                if token != 0 || end != .confirmed { each(sequence, token, end) }
            } else if token != 0 || !isConfirmed {
                each(sequence, token, outcome)
            }
        }
        self.messages -= messages
        self.octets -= Int(octets)
    }

    /// Moves the low end past what was settled early.
    @inlinable
    mutating func advance() {
        while self.low < self.high && self.slots[Int(self.low & self.mask)] & Self.outstandingBit == 0 { self.low += 1 }
    }

    /// Gives the publish another token, or takes it away with 0 (a waiter that was cancelled or timed out).
    ///
    /// - Returns: False when the publish has ended already or was never made.
    @inlinable
    package mutating func setToken(_ token: UInt32, of sequence: UInt64) -> Bool {
        guard self.isOutstanding(sequence) else { return false }
        let index = Int(sequence & self.mask)
        self.slots[index] = self.slots[index] & ~UInt64(UInt32.max) | UInt64(token)
        return true
    }

    /// Whether the publish was made and has no outcome yet.
    @inlinable
    package func isOutstanding(_ sequence: UInt64) -> Bool {
        guard sequence >= self.low && sequence < self.high else { return false }
        return self.slots[Int(sequence & self.mask)] & Self.outstandingBit != 0
    }

    /// What an outstanding publish counts for in `outstandingOctets`; nil for any other.
    package func octets(of sequence: UInt64) -> Int? {
        guard self.isOutstanding(sequence) else { return nil }
        return Int(self.slots[Int(sequence & self.mask)] >> 32 & Self.octetsMask)
    }

    /// Remembers a publish made with `mandatory`, so that its `basic.return` can be told from others.
    ///
    /// To be called right after its `append`; ignored for a publish that is not the newest.
    package mutating func markMandatory(
        _ sequence: UInt64,
        _ mark: MandatoryPublishes.Mark,
        _ properties: BasicProperties
    ) {
        guard sequence + 1 == self.high, self.isOutstanding(sequence) else { return }
        let index = Int(sequence & self.mask)
        guard self.slots[index] & Self.mandatoryBit == 0 else { return }
        self.slots[index] |= Self.mandatoryBit
        self.mandatory.append(sequence, mark, properties)
    }

    /// The broker sent `basic.return`: marks the outstanding mandatory publish that it carries.
    ///
    /// - Returns: Its sequence number; nil when it is none of those outstanding.
    package mutating func receivedReturn(
        _ mark: MandatoryPublishes.Mark,
        _ properties: ReturnedProperties,
        code: ReplyCode,
        text: String
    ) -> UInt64? {
        self.mandatory.receivedReturn(mark, properties, end: .returned(code, text))
    }

    /// Ends every outstanding publish without an outcome (the channel is gone), and leaves the ring empty.
    ///
    /// - Parameter each: Called for each of them, with its token, 0 for none.
    package mutating func failAll(each: (_ sequence: UInt64, _ token: UInt32) -> Void) {
        var sequence = self.low
        while sequence < self.high {
            let slot = self.slots[Int(sequence & self.mask)]
            self.slots[Int(sequence & self.mask)] = 0
            let token = UInt32(truncatingIfNeeded: slot)
            if slot & Self.outstandingBit != 0 { each(sequence, token) }
            sequence += 1
        }
        self.low = self.high
        self.messages = 0
        self.octets = 0
        self.mandatory.removeAll()
    }

    @usableFromInline
    @inline(never)
    mutating func grow() {
        precondition(self.slots.count < self.limit, "append to a full ConfirmRing")
        let count = self.slots.count * 2
        let newMask = UInt64(count - 1)
        var grown = ContiguousArray<UInt64>(repeating: 0, count: count)
        for sequence in self.low..<self.high {
            grown[Int(sequence & newMask)] = self.slots[Int(sequence & self.mask)]
        }
        self.slots = grown
        self.mask = newMask
    }

    static func powerOfTwo(_ count: Int) -> Int {
        var power = 16
        while power < count && power < 1 << 40 { power *= 2 }
        return power
    }
}
