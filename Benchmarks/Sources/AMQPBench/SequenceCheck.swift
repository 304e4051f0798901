// SPDX-License-Identifier: Apache-2.0

// SequenceCheck: which sequence numbers of one stream have arrived, and which arrived twice or late.
// Pure. Memory: one bit for each number between the lowest missing one and the highest seen.

/// The sequence numbers seen of one stream.
struct SequenceCheck: Sendable {
    /// The sequence numbers a check can be apart before it stops telling doubles from firsts: 64 MiB of bits.
    static let limit: UInt64 = 1 << 29

    /// Different numbers seen.
    private(set) var received: UInt64 = 0
    /// Arrivals of a number that was seen before.
    private(set) var duplicated: UInt64 = 0

    /// All numbers below are seen; a multiple of 64.
    private var base: UInt64 = 0
    /// Bit n of word w: number base + 64 w + n was seen.
    ///
    /// Words before `start` are spent.
    private var words: [UInt64] = []
    private var start = 0

    /// Notes the arrival of numbers that follow each other.
    mutating func insert(_ first: UInt64, count: UInt64 = 1) {
        var next = first
        let (end, overflow) = first.addingReportingOverflow(count)
        guard !overflow else { return }
        while next < end {
            let taken = min(end - next, 64 - next & 63)
            self.insert(taken == 64 ? .max : (1 << taken - 1) << (next & 63), at: next & ~63)
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
    private mutating func insert(_ mask: UInt64, at first: UInt64) {
        let count = UInt64(mask.nonzeroBitCount)
        guard first >= self.base else {
            self.duplicated += count
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
        self.duplicated += doubles
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
    /// Arrivals of a number no higher than one that came before, not counting redelivered messages.
    private(set) var reordered: UInt64 = 0
    /// By stream: the highest number seen, plus 1.
    private var next: [UInt64] = []

    /// For so many streams.
    init(streams: Int) { self.next = Array(repeating: 0, count: streams) }

    /// Notes one arrival.
    mutating func insert(_ sequence: UInt64, stream: Int, isRedelivered: Bool) {
        if sequence >= self.next[stream] {
            self.next[stream] = sequence &+ 1
        } else if !isRedelivered {
            self.reordered += 1
        }
    }
}
