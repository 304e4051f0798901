// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// ConfirmRing: the outstanding publishes of one channel (publisher confirms, RabbitMQ's class 85).
// Pure: no socket, clock, task or lock. The owner numbers a publish in the same step that appends its octets.
// Not here: waiters (the owner's table, by token), and the contents of mandatory publishes (MandatoryPublishes).
//
//   lowest ......................... next     the slot of a sequence number: number & mask
//     | outstanding, or settled early |       one slot: token in bits 0-31, octets in bits 32-61,
//                                             bit 62 "mandatory", bit 63 "outstanding"; all zero when settled

/// Unconfirmed publishes of one channel, numbered from 1 as the broker numbers them.
@frozen
@usableFromInline
package struct ConfirmRing: Sendable {
    /// The outcome of a publish.
    @frozen
    @usableFromInline
    package enum Outcome: Hashable, Sendable {
        /// Confirmed: `basic.ack`.
        case confirmed
        /// Nacked: `basic.nack`.
        case nacked
        /// Returned: `basic.return` came before its `basic.ack`.
        case returned(ReplyCode, String)
    }

    /// An invalid confirm; the connection must be closed.
    @usableFromInline
    package enum Violation: Error, Hashable, Sendable {
        /// The delivery tag belongs to no publish so far.
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

    /// Creates an empty ring.
    ///
    /// - Parameters:
    ///   - capacity: Initial number of slots, 8 octets each; rounded up to a power of two.
    ///   - limit: Maximum number of slots while the oldest publish stays unconfirmed; rounded up likewise.
    package init(capacity: Int, limit: Int = 1 << 22) {
        let slots = Self.powerOfTwo(capacity)
        self.slots = ContiguousArray(repeating: 0, count: slots)
        self.mask = UInt64(slots - 1)
        self.limit = max(slots, Self.powerOfTwo(limit))
    }

    /// The lowest outstanding sequence number, or `next` if there is none.
    @inlinable package var lowest: UInt64 { self.low }
    /// The sequence number of the next publish.
    @inlinable package var next: UInt64 { self.high }
    /// Number of outstanding publishes.
    @inlinable package var outstandingMessages: Int { self.messages }
    /// Octets of the outstanding publishes; each counts for at most 1 GiB.
    @inlinable package var outstandingOctets: Int { self.octets }
    /// True if no publish can be appended: the span from the oldest outstanding one has reached the limit.
    @inlinable package var isFull: Bool { self.high - self.low >= UInt64(self.limit) }

    /// Numbers one publish.
    ///
    /// - Parameters:
    ///   - octets: Its share of `outstandingOctets`.
    ///   - token: The waiter to resume with the outcome; 0 for none.
    /// - Precondition: `isFull` is false.
    /// - Returns: Its sequence number, which is the delivery tag of its confirm.
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

    /// Handles `basic.ack` or `basic.nack`.
    ///
    /// Skips publishes that were settled before; the cost is proportional to the number settled now.
    ///
    /// - Parameters:
    ///   - tag: The delivery tag; 0 with `multiple` means every outstanding publish.
    ///   - multiple: True for all publishes up to the tag.
    ///   - outcome: `.confirmed` or `.nacked`.
    ///   - each: Called for each publish that has a token or was not confirmed.
    /// - Throws: `Violation` for a tag that was never used; nothing has changed then.
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

    /// Confirms the oldest publish alone, the usual case with one publish at a time: a cheaper `settle`.
    ///
    /// - Parameter tag: The delivery tag.
    /// - Returns: The publish's token, 0 for none; nil, and nothing has changed, if the tag is not that of the oldest or
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

    /// Clears the slots of a range and reports the outstanding ones.
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

    /// Moves the low end past publishes that were settled early.
    @inlinable
    mutating func advance() {
        while self.low < self.high && self.slots[Int(self.low & self.mask)] & Self.outstandingBit == 0 { self.low += 1 }
    }

    /// Replaces the token of a publish; 0 removes it (a waiter that was cancelled or timed out).
    ///
    /// - Returns: False if the publish has ended already or does not exist.
    @inlinable
    package mutating func setToken(_ token: UInt32, of sequence: UInt64) -> Bool {
        guard self.isOutstanding(sequence) else { return false }
        let index = Int(sequence & self.mask)
        self.slots[index] = self.slots[index] & ~UInt64(UInt32.max) | UInt64(token)
        return true
    }

    /// Returns true if the publish exists and has no outcome yet.
    @inlinable
    package func isOutstanding(_ sequence: UInt64) -> Bool {
        guard sequence >= self.low && sequence < self.high else { return false }
        return self.slots[Int(sequence & self.mask)] & Self.outstandingBit != 0
    }

    /// Returns the share of an outstanding publish in `outstandingOctets`; nil for any other.
    package func octets(of sequence: UInt64) -> Int? {
        guard self.isOutstanding(sequence) else { return nil }
        return Int(self.slots[Int(sequence & self.mask)] >> 32 & Self.octetsMask)
    }

    /// Records a mandatory publish, so that its `basic.return` can be matched.
    ///
    /// Must follow its `append` directly; ignored for a publish that is not the newest.
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

    /// Handles `basic.return`: marks the outstanding mandatory publish that it carries.
    ///
    /// - Returns: Its sequence number; nil if it matches no outstanding publish.
    package mutating func receivedReturn(
        _ mark: MandatoryPublishes.Mark,
        _ properties: ReturnedProperties,
        code: ReplyCode,
        text: String
    ) -> UInt64? {
        self.mandatory.receivedReturn(mark, properties, end: .returned(code, text))
    }

    /// Ends every outstanding publish without an outcome (the channel has ended), and empties the ring.
    ///
    /// - Parameter each: Called for each of them with its token, 0 for none.
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
