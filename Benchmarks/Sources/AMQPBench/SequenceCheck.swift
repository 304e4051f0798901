// SPDX-License-Identifier: Apache-2.0

// SequenceCheck: which sequence numbers of one stream have arrived, and which arrived twice or late.
// Pure. Memory: one bit for each number between the lowest missing one and the highest seen.

/// The sequence numbers seen of one stream.
struct SequenceCheck: Sendable {
    /// The sequence numbers a check can be apart before it stops telling doubles from firsts: 64 MiB of bits.
    static let limit: UInt64 = 1 << 29

    /// Different numbers seen.
    private(set) var received: UInt64 = 0
    /// Arrivals of a number that was seen before, and that were not marked redelivered.
    private(set) var duplicated: UInt64 = 0

    /// All numbers below are seen; a multiple of 64.
    private var base: UInt64 = 0
    /// Bit n of word w: number base + 64 w + n was seen.
    ///
    /// Words before `start` are spent.
    private var words: [UInt64] = []
    private var start = 0

    /// Notes the arrival of numbers that follow each other.
    ///
    /// - Parameters:
    ///   - first: The first of them.
    ///   - count: How many.
    ///   - isRedelivered: Whether the broker said that they may have been delivered before.
    mutating func insert(_ first: UInt64, count: UInt64 = 1, isRedelivered: Bool = false) {
        var next = first
        let (end, overflow) = first.addingReportingOverflow(count)
        guard !overflow else { return }
        while next < end {
            let taken = min(end - next, 64 - next & 63)
            self.insert(taken == 64 ? .max : (1 << taken - 1) << (next & 63), at: next & ~63, isRedelivered)
            next += taken
        }
    }

    /// How many of some numbers were seen.
    func received(in numbers: Range<UInt64>) -> UInt64 {
        numbers.reduce(0) { sum, number in
            guard number >= self.base else { return sum + 1 }
            let index = self.start + Int((number - self.base) >> 6)
            return index < self.words.count && self.words[index] >> (number & 63) & 1 == 1 ? sum + 1 : sum
        }
    }

    /// Notes the numbers that are bits of a mask, counted from a multiple of 64.
    private mutating func insert(_ mask: UInt64, at first: UInt64, _ isRedelivered: Bool) {
        let count = UInt64(mask.nonzeroBitCount)
        guard first >= self.base else {
            if !isRedelivered { self.duplicated += count }
            return
        }
        guard first - self.base < Self.limit else {
            // Too far ahead to remember: counted as a first arrival.
            self.received += count
            return
        }
        let index = self.start + Int((first - self.base) >> 6)
        while self.words.count <= index { self.words.append(0) }
        let doubles = UInt64((self.words[index] & mask).nonzeroBitCount)
        self.words[index] |= mask
        if !isRedelivered { self.duplicated += doubles }
        self.received += count - doubles
        while self.start < self.words.count && self.words[self.start] == .max {
            self.start += 1
            self.base += 64
        }
        if self.start >= 1024 {
            self.words.removeFirst(self.start)
            self.start = 0
        }
    }
}

/// Whether the messages of each stream reach one consumer in the order they were published.
struct OrderCheck: Sendable {
    /// Ranges of a stream that are remembered as skipped.
    static let rememberedGaps = 1024

    /// Messages that came after one published later, not counting redelivered ones and second arrivals.
    private(set) var reordered: UInt64 = 0
    private var streams: [Stream] = []

    private struct Stream {
        /// The highest number seen, plus 1.
        var next: UInt64 = 0
        /// Numbers that were skipped, lowest first: they went to another consumer, are lost, or come late.
        var gaps: [Range<UInt64>] = []
        /// What was skipped below this is forgotten.
        var floor: UInt64 = 0
    }

    /// For so many streams.
    init(streams: Int) { self.streams = Array(repeating: Stream(), count: streams) }

    /// Notes one arrival.
    @inline(__always)
    mutating func insert(_ sequence: UInt64, stream: Int, isRedelivered: Bool) {
        if sequence == self.streams[stream].next {
            self.streams[stream].next = sequence &+ 1
        } else {
            self.insertOutOfLine(sequence, stream: stream, isRedelivered: isRedelivered)
        }
    }

    private mutating func insertOutOfLine(_ sequence: UInt64, stream index: Int, isRedelivered: Bool) {
        let next = self.streams[index].next
        guard sequence < next else {
            self.streams[index].gaps.append(next..<sequence)
            self.streams[index].next = sequence &+ 1
            if self.streams[index].gaps.count >= 2 * Self.rememberedGaps {
                self.streams[index].gaps.removeFirst(Self.rememberedGaps)
                self.streams[index].floor = self.streams[index].gaps[0].lowerBound
            }
            return
        }
        // One that was not skipped was here before: a second arrival, whose order says nothing.
        let isFirst = sequence < self.streams[index].floor || self.fill(sequence, stream: index)
        if isFirst, !isRedelivered { self.reordered += 1 }
    }

    /// Takes a number out of the gaps; false when it is in none.
    private mutating func fill(_ sequence: UInt64, stream: Int) -> Bool {
        guard let place = self.streams[stream].gaps.lastIndex(where: { $0.lowerBound <= sequence }) else {
            return false
        }
        let gap = self.streams[stream].gaps[place]
        guard gap.contains(sequence) else { return false }
        let parts = [gap.lowerBound..<sequence, sequence + 1..<gap.upperBound].filter { !$0.isEmpty }
        self.streams[stream].gaps.replaceSubrange(place...place, with: parts)
        return true
    }
}
