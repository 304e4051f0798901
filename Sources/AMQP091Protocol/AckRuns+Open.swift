// SPDX-License-Identifier: Apache-2.0

// Open tags of a channel: cold queries, apart from the hot path of settling.

extension AckRuns {
    /// The lowest tag that is not both decided and sent: the oldest delivery the broker waits for, if it was delivered.
    package var oldestOpen: UInt64 { self.base }

    /// Returns true if the tag can be decided: it is not 0, not decided, and not beyond the limit.
    package func isOpen(_ tag: UInt64) -> Bool {
        guard tag >= self.base, tag >> 6 - self.base >> 6 < UInt64(self.wordLimit) else { return false }
        // Tags beyond the ring are undecided.
        guard tag >> 6 - self.base >> 6 <= self.wordMask else { return true }
        return self.settled[Int(tag >> 6 & self.wordMask)] & 1 << (tag & 63) == 0
    }

    /// Returns the highest undecided tag up to and including this one; nil if there is none or it is beyond the limit.
    package func lastOpen(upTo tag: UInt64) -> UInt64? {
        guard tag >= self.base, tag >> 6 - self.base >> 6 < UInt64(self.wordLimit) else { return nil }
        guard tag >> 6 - self.base >> 6 <= self.wordMask else { return tag }
        var word = tag >> 6
        var open = ~self.settled[Int(word & self.wordMask)] & (Self.bits(below: tag) | 1 << (tag & 63))
        while true {
            if word == self.base >> 6 { open &= ~Self.bits(below: self.base) }
            if open != 0 { return word << 6 | UInt64(63 - open.leadingZeroBitCount) }
            guard word > self.base >> 6 else { return nil }
            word -= 1
            open = ~self.settled[Int(word & self.wordMask)]
        }
    }
}
