// SPDX-License-Identifier: Apache-2.0

// What is still open among the tags of a channel: asked for seldom, and so apart from what every settlement does.

extension AckRuns {
    /// The lowest tag that is not both decided and told to the broker: the oldest delivery it waits for, if it has come.
    package var oldestOpen: UInt64 { self.base }

    /// Whether the tag can be decided: it is not 0, not decided, and not beyond the limit.
    package func isOpen(_ tag: UInt64) -> Bool {
        guard tag >= self.base, tag >> 6 - self.base >> 6 < UInt64(self.wordLimit) else { return false }
        // Beyond the ring nothing is decided.
        guard tag >> 6 - self.base >> 6 <= self.wordMask else { return true }
        return self.settled[Int(tag >> 6 & self.wordMask)] & 1 << (tag & 63) == 0
    }

    /// The highest undecided tag up to and including this one; nil when there is none, or the tag lies beyond the limit.
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
