// SPDX-License-Identifier: Apache-2.0

// SettlementWatch: how long the oldest delivery of a channel has not been settled, seen by looking from time to time.
// Nothing is noted per delivery: the oldest open tag is compared with that of the last look. So the age is that since
// the first look that found the tag the oldest, at most one interval too low.
// Pure: no clock, timer or lock; `now` is an argument.

/// Watches for a delivery that is about to exceed the broker's time for settling it.
package struct SettlementWatch: Sendable {
    /// The broker's limit, nanoseconds.
    package let limit: UInt64
    private var tag: UInt64 = 0
    private var since: UInt64 = 0
    private var hasWarned = false

    package init(limit: UInt64) { self.limit = limit }

    /// How often to look, nanoseconds: a twentieth of the limit, at most a minute.
    package static func interval(limit: UInt64) -> UInt64 { max(1, min(limit / 20, 60_000_000_000)) }

    /// Looks.
    ///
    /// - Parameters:
    ///   - oldest: The oldest tag that is not settled; nil when every delivery is.
    ///   - now: Monotonic nanoseconds.
    /// - Returns: Its age in nanoseconds, once, when four fifths of the limit have passed.
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
