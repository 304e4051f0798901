// SPDX-License-Identifier: Apache-2.0

// AckRuns: delivery tags of one channel that the application has settled and that were not sent to the broker yet.
// Acknowledgements are merged into few basic.ack methods: the longest run from the low end is one with `multiple`
// (§1.8.3.13).
// Pure: no socket, clock, task or lock. Not here: basic.nack and basic.reject, which the owner writes itself at once.
//
//   base ............... base + span     two bits a tag, in rings of words; word of a tag: (tag >> 6) & wordMask
//     settled: the tag is decided (acked, rejected, automatic), so a run may pass over it
//     unsent:  the tag is acked and not sent; always settled too
//   Every tag below base is decided and sent. The words from base on never wrap onto each other.

/// Settled delivery tags of one channel, to be merged into few acknowledgements.
@frozen
@usableFromInline
package struct AckRuns: Sendable {
    @usableFromInline var settled: ContiguousArray<UInt64>
    @usableFromInline var unsent: ContiguousArray<UInt64>
    @usableFromInline var wordMask: UInt64
    @usableFromInline let wordLimit: Int
    /// The lowest tag that is not both decided and sent.
    @usableFromInline var base: UInt64 = 1
    /// Number of bits set in `unsent`, and the range of their tags.
    @usableFromInline var unsentCount = 0
    @usableFromInline var firstUnsent: UInt64 = .max
    @usableFromInline var lastUnsent: UInt64 = 0

    /// Creates the runs of a channel whose first delivery has tag 1.
    ///
    /// - Parameters:
    ///   - span: Initial capacity in tags, from the oldest undecided one; a quarter of an octet each.
    ///   - limit: Maximum span; a tag beyond it is refused.
    package init(span: Int = 1024, limit: Int = 1 << 26) {
        let words = max(ConfirmRing.powerOfTwo(span) / 64, 2)
        self.settled = ContiguousArray(repeating: 0, count: words)
        self.unsent = ContiguousArray(repeating: 0, count: words)
        self.wordMask = UInt64(words - 1)
        self.wordLimit = max(words, ConfirmRing.powerOfTwo(limit) / 64)
    }

    /// True if `drain` would produce an acknowledgement.
    @inlinable package var hasUnsent: Bool { self.unsentCount > 0 }
    /// Number of acknowledged tags that were not sent.
    @inlinable package var count: Int { self.unsentCount }

    /// Acknowledges one tag.
    ///
    /// - Returns: False, and nothing changes, if the tag is decided already, is 0, or is beyond the limit.
    @inlinable
    package mutating func settle(_ tag: UInt64) -> Bool {
        guard self.decide(tag) else { return false }
        self.unsent[Int(tag >> 6 & self.wordMask)] |= 1 << (tag & 63)
        self.unsentCount += 1
        if tag < self.firstUnsent { self.firstUnsent = tag }
        if tag > self.lastUnsent { self.lastUnsent = tag }
        return true
    }

    /// Marks a tag the owner settles with `basic.nack` or `basic.reject`, written at once.
    ///
    /// - Returns: False, and nothing changes, if the tag is decided already, is 0, or is beyond the limit.
    @inlinable
    package mutating func reject(_ tag: UInt64) -> Bool {
        if tag == self.base && self.unsentCount == 0 && tag & 63 != 63 {
            // The base is undecided if nothing is unsent; if its neighbour is too, only the base moves.
            let neighbour: UInt64 = 1 << (tag + 1 & 63)
            if self.settled[Int(tag >> 6 & self.wordMask)] & neighbour == 0 {
                self.base = tag + 1
                return true
            }
        }
        guard self.decide(tag) else { return false }
        if tag == self.base { self.advanceIfNothingUnsent() }
        return true
    }

    /// Marks the tag of a delivery that needs no acknowledgement.
    ///
    /// - Returns: False if the tag was used before, is 0, or is beyond the limit: a protocol violation.
    @inlinable
    package mutating func markAutomatic(_ tag: UInt64) -> Bool { self.reject(tag) }

    /// Acknowledges every undecided tag up to and including `tag`, for a caller that acknowledges with `multiple`.
    ///
    /// - Returns: False if there was none, or the tag is beyond the limit.
    @usableFromInline
    package mutating func settle(upTo tag: UInt64) -> Bool {
        self.decide(upTo: tag, isAcknowledged: true) > 0
    }

    /// Marks every undecided tag up to and including `tag`, which the owner settles with `basic.nack` and `multiple`.
    ///
    /// - Returns: The number of tags; 0 also if the tag is beyond the limit.
    package mutating func reject(upTo tag: UInt64) -> Int {
        let count = self.decide(upTo: tag, isAcknowledged: false)
        if count > 0 { self.advanceIfNothingUnsent() }
        return count
    }

    private mutating func decide(upTo tag: UInt64, isAcknowledged: Bool) -> Int {
        guard tag >= self.base, self.makeRoom(tag) else { return 0 }
        var count = 0
        let lastWord = tag >> 6
        for word in self.base >> 6...lastWord {
            let index = Int(word & self.wordMask)
            var wanted = ~self.settled[index]
            if word == self.base >> 6 { wanted &= ~Self.bits(below: self.base) }
            if word == lastWord { wanted &= Self.bits(below: tag) | 1 << (tag & 63) }
            guard wanted != 0 else { continue }
            count += wanted.nonzeroBitCount
            self.settled[index] |= wanted
            guard isAcknowledged else { continue }
            self.unsent[index] |= wanted
            self.unsentCount += wanted.nonzeroBitCount
            self.firstUnsent = min(self.firstUnsent, word << 6 | UInt64(wanted.trailingZeroBitCount))
            self.lastUnsent = max(self.lastUnsent, word << 6 | UInt64(63 - wanted.leadingZeroBitCount))
        }
        return count
    }

    /// Drains unsent tags into acknowledgements, lowest tags first.
    ///
    /// - Parameter each: Called for each `basic.ack`. With `multiple` the tag is acked and unsent, and every tag below it is
    ///   decided.
    @inlinable
    package mutating func drain(each: (_ tag: UInt64, _ multiple: Bool) -> Void) {
        guard self.unsentCount > 0 else { return }
        let end = self.endOfPrefix()
        var tag = self.lastUnsentTag(below: end)
        if let tag {
            let inPrefix = self.clearUnsent(through: tag)
            each(tag, inPrefix > 1)
        }
        self.advance(to: end)
        while self.unsentCount > 0 {
            tag = self.takeFirstUnsent()
            guard let tag else { break }
            each(tag, false)
        }
        self.firstUnsent = .max
        self.lastUnsent = 0
    }

    /// Sets the settled bit; returns false if it was set or the limit is reached.
    @inlinable
    mutating func decide(_ tag: UInt64) -> Bool {
        guard tag >= self.base else { return false }
        if tag >> 6 - self.base >> 6 > self.wordMask {
            guard self.makeRoom(tag) else { return false }
        }
        let index = Int(tag >> 6 & self.wordMask)
        let bit: UInt64 = 1 << (tag & 63)
        guard self.settled[index] & bit == 0 else { return false }
        self.settled[index] |= bit
        return true
    }

    /// Returns the first undecided tag from `base` on.
    @usableFromInline
    func endOfPrefix() -> UInt64 {
        var word = self.base >> 6
        var decided = self.settled[Int(word & self.wordMask)] | Self.bits(below: self.base)
        while decided == .max && word - self.base >> 6 < self.wordMask {
            word += 1
            decided = self.settled[Int(word & self.wordMask)]
        }
        return word << 6 + UInt64((~decided).trailingZeroBitCount)
    }

    /// Returns the highest unsent tag below `end`.
    @usableFromInline
    func lastUnsentTag(below end: UInt64) -> UInt64? {
        guard self.firstUnsent < end else { return nil }
        if self.lastUnsent < end { return self.lastUnsent }
        var word = end >> 6
        var bits = self.unsent[Int(word & self.wordMask)] & Self.bits(below: end)
        while bits == 0 && word > self.firstUnsent >> 6 {
            word -= 1
            bits = self.unsent[Int(word & self.wordMask)]
        }
        guard bits != 0 else { return nil }
        return word << 6 | UInt64(63 - bits.leadingZeroBitCount)
    }

    /// Clears the unsent bits up to and including `tag`, and returns their number.
    @usableFromInline
    mutating func clearUnsent(through tag: UInt64) -> Int {
        var cleared = 0
        for word in self.firstUnsent >> 6...tag >> 6 {
            let index = Int(word & self.wordMask)
            var bits = self.unsent[index]
            if word == tag >> 6 { bits &= Self.bits(below: tag) | 1 << (tag & 63) }
            self.unsent[index] &= ~bits
            cleared += bits.nonzeroBitCount
        }
        self.unsentCount -= cleared
        self.firstUnsent = tag + 1
        return cleared
    }

    @usableFromInline
    mutating func takeFirstUnsent() -> UInt64? {
        for word in self.firstUnsent >> 6...max(self.firstUnsent, self.lastUnsent) >> 6 {
            let index = Int(word & self.wordMask)
            let bits = self.unsent[index]
            guard bits != 0 else { continue }
            let bit = UInt64(bits.trailingZeroBitCount)
            self.unsent[index] = bits & (bits - 1)
            self.unsentCount -= 1
            self.firstUnsent = word << 6 | bit
            return self.firstUnsent
        }
        return nil
    }

    /// Moves the base to `end`, below which every tag is decided and sent, and clears the words it passes.
    @usableFromInline
    mutating func advance(to end: UInt64) {
        var word = self.base >> 6
        while word < end >> 6 {
            self.settled[Int(word & self.wordMask)] = 0
            word += 1
        }
        self.base = end
    }

    /// Used by channels without acknowledgements, which are never drained.
    @usableFromInline
    mutating func advanceIfNothingUnsent() {
        guard self.unsentCount == 0 else { return }
        self.advance(to: self.endOfPrefix())
    }

    /// Doubles the rings until the tag fits; returns false if the limit forbids it.
    @usableFromInline
    @inline(never)
    mutating func makeRoom(_ tag: UInt64) -> Bool {
        let distance = tag >> 6 - self.base >> 6
        guard distance > self.wordMask else { return true }
        guard distance < UInt64(self.wordLimit) else { return false }
        var words = self.settled.count
        while UInt64(words) <= distance { words *= 2 }
        let newMask = UInt64(words - 1)
        var settled = ContiguousArray<UInt64>(repeating: 0, count: words)
        var unsent = settled
        for word in self.base >> 6...self.base >> 6 + self.wordMask {
            settled[Int(word & newMask)] = self.settled[Int(word & self.wordMask)]
            unsent[Int(word & newMask)] = self.unsent[Int(word & self.wordMask)]
        }
        self.settled = settled
        self.unsent = unsent
        self.wordMask = newMask
        return true
    }

    /// Returns the bits of a word for the tags below this one.
    @inlinable
    static func bits(below tag: UInt64) -> UInt64 { (1 << (tag & 63)) - 1 }
}
