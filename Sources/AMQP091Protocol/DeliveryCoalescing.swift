// SPDX-License-Identifier: Apache-2.0

// DeliveryCoalescing: decides when to pause before a read. A broker that sends deliveries one by one, tens of
// thousands per second, wakes a thread and a task for each; after a pause several are read together, as network
// cards do with interrupts.
// A pause must not cost throughput: if the sender waits for this side (a small prefetch, replies to requests), fewer
// deliveries arrive during a pause than in that time before; then pauses stop for a while, longer each time.
//
//   events --a few quick small reads, nobody waits for an answer--> pauses
//   pauses --nothing came, somebody waits, too few came--> events
//
// Pure: "now" is an argument; the owner reads at events, or when a pause ends.

/// The pauses before the reads of one connection.
package struct DeliveryCoalescing: Hashable, Sendable {
    /// Consecutive reads at events in close succession.
    private struct Streak: Hashable {
        var start: MonotonicNanoseconds
        var reads = 0
        var deliveries = 0
        var octets = 0
    }

    /// Deliveries read after pauses, and the number expected from the rate before.
    private struct Check: Hashable {
        var reads = 0
        var deliveries = 0
        var expected = 0.0
    }

    /// Number of reads that make a streak.
    private static let readsPerStreak = 4
    /// Deliveries per read, on average, above which a pause is unnecessary.
    private static let deliveriesPerRead = 8
    /// Octets per pause, small enough to fit into the socket's buffer several times.
    private static let octetsPerRead = 8 << 10
    /// Number of reads after pauses before the rate is checked.
    private static let readsPerCheck = 32
    /// Smallest share of the expected deliveries with which pauses continue.
    private static let leastPart = 0.7
    /// Nanoseconds without pauses after a failed check.
    private static let retreats: ClosedRange<UInt64> = 50_000_000...3_200_000_000
    /// Gaps shorter than this, in nanoseconds, do not end a burst.
    private static let breath: UInt64 = 50_000_000

    private let pause: UInt64
    /// True if the next read waits for the end of a pause.
    package private(set) var isPausing = false
    private var lastRead: MonotonicNanoseconds
    private var streak: Streak
    private var check = Check()
    /// Deliveries per nanosecond without pauses.
    private var rate = 0.0
    /// Reads with deliveries since pauses last began.
    private var readsWithPauses = 0
    private var notBefore: MonotonicNanoseconds = 0
    private var retreat = Self.retreats.lowerBound

    /// - Parameters:
    ///   - pause: Nanoseconds between two reads.
    ///   - now: The time.
    package init(pause: UInt64, now: MonotonicNanoseconds) {
        self.pause = pause
        self.lastRead = now
        self.streak = Streak(start: now)
    }

    /// Records a read that emptied the socket.
    ///
    /// - Parameters:
    ///   - deliveries: Number of deliveries read.
    ///   - octets: Number of octets read.
    ///   - isAwaited: True if a caller waits for a reply from the peer.
    ///   - now: The time.
    package mutating func read(
        deliveries: Int,
        octets: Int,
        isAwaited: @autoclosure () -> Bool,
        now: MonotonicNanoseconds
    ) {
        let elapsed = now - min(now, self.lastRead)
        self.lastRead = now
        guard deliveries > 0 else { return self.readAtEvents(now: now) }
        if self.isPausing {
            self.readAfterPause(deliveries, elapsed: elapsed, now: now)
            if self.isPausing, isAwaited() { self.stop(now: now) }
        } else if self.readAtEvent(deliveries, octets, elapsed: elapsed, now: now), !isAwaited() {
            self.isPausing = true
            self.readsWithPauses = 0
        }
    }

    /// Returns to reads at events, until there is reason for pauses again.
    package mutating func stop(now: MonotonicNanoseconds) {
        self.readsWithPauses = 0
        self.readAtEvents(now: now)
    }

    private mutating func readAtEvents(now: MonotonicNanoseconds) {
        self.isPausing = false
        self.streak = Streak(start: now)
    }

    /// Returns true if pauses should begin.
    private mutating func readAtEvent(
        _ deliveries: Int,
        _ octets: Int,
        elapsed: UInt64,
        now: MonotonicNanoseconds
    ) -> Bool {
        guard now >= self.notBefore else {
            self.streak = Streak(start: now)
            return false
        }
        guard elapsed < self.pause / 3 else {
            self.streak = Streak(start: now)
            return self.readsWithPauses >= 2 && elapsed < Self.breath
        }
        self.streak.reads += 1
        self.streak.deliveries += deliveries
        self.streak.octets += octets
        let streak = self.streak
        guard streak.reads >= Self.readsPerStreak else { return false }
        self.streak = Streak(start: now)
        guard
            streak.deliveries < Self.deliveriesPerRead * streak.reads,
            streak.octets < Self.octetsPerRead * streak.reads
        else { return false }
        self.rate = Double(streak.deliveries) / Double(max(1, now - min(now, streak.start)))
        self.check = Check()
        return true
    }

    private mutating func readAfterPause(_ deliveries: Int, elapsed: UInt64, now: MonotonicNanoseconds) {
        self.readsWithPauses += 1
        self.check.reads += 1
        self.check.deliveries += deliveries
        self.check.expected += self.rate * Double(elapsed)
        guard self.check.reads >= Self.readsPerCheck else { return }
        let isAsFast = Double(self.check.deliveries) >= Self.leastPart * self.check.expected
        self.check = Check()
        if isAsFast {
            self.retreat = Self.retreats.lowerBound
        } else {
            self.notBefore = now + self.retreat
            self.retreat = min(self.retreat * 2, Self.retreats.upperBound)
            self.stop(now: now)
        }
    }
}
