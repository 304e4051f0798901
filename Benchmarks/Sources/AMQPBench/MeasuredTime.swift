// SPDX-License-Identifier: Apache-2.0
import Synchronization

// MeasuredTime: which messages a run measures: those that were due between the end of the warm-up and the end of its
// time, whenever they arrive. Nanoseconds of the monotonic clock; written by the pacer, read by whoever records.

/// The measured time of a run; everything until it is set.
final class MeasuredTime: Sendable {
    /// How long after the end an open loop may take to publish what was due before it, nanoseconds.
    static let longestCatchUp: UInt64 = 10_000_000_000

    private let begin = Atomic<UInt64>(0)
    private let end = Atomic<UInt64>(.max)

    /// Sets both ends.
    ///
    /// - Parameters:
    ///   - begin: The end of the warm-up.
    ///   - end: The end of the run; `.max` where a count ends it.
    func set(from begin: UInt64, to end: UInt64) {
        self.begin.store(begin, ordering: .relaxed)
        self.end.store(end, ordering: .relaxed)
    }

    /// Ends it before its time: a signal came, or the run failed.
    func close(at now: UInt64) {
        if now < self.end.load(ordering: .relaxed) { self.end.store(now, ordering: .relaxed) }
    }

    /// True for a message that was due in the measured time.
    func contains(_ due: UInt64) -> Bool {
        due >= self.begin.load(ordering: .relaxed) && due < self.end.load(ordering: .relaxed)
    }

    /// True when a message was due before the end, which has passed, and there is still time to publish it.
    func owes(_ due: UInt64, now: UInt64) -> Bool {
        let end = self.end.load(ordering: .relaxed)
        return end != .max && due < end && due <= now && now < end + Self.longestCatchUp
    }

    /// True when a message was due before the end.
    func isBeforeEnd(_ due: UInt64) -> Bool {
        let end = self.end.load(ordering: .relaxed)
        return end != .max && due < end
    }
}
