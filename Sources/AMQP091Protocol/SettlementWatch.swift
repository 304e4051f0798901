// SPDX-License-Identifier: Apache-2.0

// SettlementWatch: measures, by sampling, for how long the oldest delivery of a channel has not been settled.
// Nothing is recorded per delivery: the oldest open tag is compared with that of the last sample. So the age counts from
// the first sample in which the tag was the oldest, and is at most one interval too low.
// Pure: no clock, timer or lock; `now` is an argument.

/// Detects a delivery that is about to exceed the broker's acknowledgement timeout.
package struct SettlementWatch: Sendable {
    /// The broker's limit in nanoseconds.
    package let limit: UInt64
    private var tag: UInt64 = 0
    private var since: UInt64 = 0
    private var hasWarned = false

    package init(limit: UInt64) { self.limit = limit }

    /// The sampling interval in nanoseconds: a twentieth of the limit, at most a minute.
    package static func interval(limit: UInt64) -> UInt64 { max(1, min(limit / 20, 60_000_000_000)) }

    /// Takes a sample.
    ///
    /// - Parameters:
    ///   - oldest: The oldest unsettled tag; nil if there is none.
    ///   - now: The time in monotonic nanoseconds.
    /// - Returns: Its age in nanoseconds, once, after four fifths of the limit.
    package mutating func look(oldest: UInt64?, now: MonotonicNanoseconds) -> UInt64? {
        guard let oldest else {
            self.tag = 0
            return nil
        }
        guard oldest == self.tag else {
            self.tag = oldest
            self.since = now
            self.hasWarned = false
            return nil
        }
        let age = now >= self.since ? now - self.since : 0
        guard !self.hasWarned, age >= self.limit / 5 * 4 else { return nil }
        self.hasWarned = true
        return age
    }
}
