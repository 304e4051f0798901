// SPDX-License-Identifier: Apache-2.0

// DeliveryCoalescing: when a socket is left alone for a moment. A broker that sends deliveries one by one, tens of
// thousands in a second, wakes a thread and a task for each; a pause before a read lets several come together, as network
// cards do with their interrupts.
// A pause must cost no throughput: where the sender turns out to wait for us (a small prefetch, answers to requests), fewer
// deliveries come in a pause than came in that time before, and there are no pauses for a while, longer each time.
//
//   events --a few quick small reads, nobody waits for an answer--> pauses
//   pauses --nothing came, somebody waits, too few came--> events
//
// Pure: "now" is an argument; the owner reads at events, or once a pause is over.

/// The pauses before the reads of one connection.
package struct DeliveryCoalescing: Hashable, Sendable {
    /// Reads at events in close succession.
    private struct Streak: Hashable {
        var start: MonotonicNanoseconds
        var reads = 0
        var deliveries = 0
        var octets = 0
    }

    /// What reads after pauses brought, and what the rate before would have brought in their time.
    private struct Check: Hashable {
        var reads = 0
        var deliveries = 0
        var expected = 0.0
    }

    /// Reads that make a streak.
    private static let readsPerStreak = 4
    /// Reads that bring more, on the average, need no pause.
    private static let deliveriesPerRead = 8
    /// What comes in a pause must fit the socket's buffer several times.
    private static let octetsPerRead = 8 << 10
    /// Reads after pauses, before the rate is looked at.
    private static let readsPerCheck = 32
    /// The least part of the expected that lets pauses go on.
    private static let leastPart = 0.7
    /// Nanoseconds without pauses after a check that failed.
    private static let retreats: ClosedRange<UInt64> = 50_000_000...3_200_000_000
    /// Nanoseconds within which an empty read is but a breath of the sender's.
    private static let breath: UInt64 = 50_000_000

    private let pause: UInt64
    /// Whether the next read waits for the end of a pause.
    package private(set) var isPausing = false
    private var lastRead: MonotonicNanoseconds
    private var streak: Streak
    private var check = Check()
    /// Deliveries in a nanosecond, without pauses.
    private var rate = 0.0
    /// Reads since the last begin of pauses that brought something.
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

    /// A read has emptied the socket.
    ///
    /// - Parameters:
    ///   - deliveries: What it brought.
    ///   - octets: What it brought.
    ///   - isAwaited: Whether somebody waits for anything else from the peer.
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

    /// Reads at events, until there is reason for pauses again.
    package mutating func stop(now: MonotonicNanoseconds) {
        self.readsWithPauses = 0
        self.readAtEvents(now: now)
    }

    private mutating func readAtEvents(now: MonotonicNanoseconds) {
        self.isPausing = false
        self.streak = Streak(start: now)
    }

    /// Whether pauses are to begin.
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
