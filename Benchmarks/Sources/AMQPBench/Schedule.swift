// SPDX-License-Identifier: Apache-2.0

// Schedule: when a producer that keeps a rate publishes its messages. Pure; nanoseconds of the monotonic clock.
//
// Message n is due at `origin + n × interval`, whatever happened to those before it. In an open loop a producer that was
// held up publishes all that has become due and counts latency from when it was due, so that a stall of the broker is
// seen in full. Elsewhere it forgets what is more than 100 ms overdue, so that a stall is not followed by a burst.

/// The times at which one producer publishes.
struct Schedule: Sendable {
    /// What a producer outside an open loop may catch up with.
    static let credit: UInt64 = 100_000_000

    /// Between two messages.
    let interval: Double
    let isOpenLoop: Bool
    private var origin: UInt64
    private var count: UInt64 = 0

    /// A share of a rate.
    ///
    /// - Parameters:
    ///   - rate: Messages per second of all producers together.
    ///   - share: Which of the producers this is, from 0; they take turns.
    ///   - shares: How many producers there are.
    ///   - start: When the first producer publishes first.
    ///   - isOpenLoop: Whether to catch up without limit.
    init(rate: Double, share: Int, of shares: Int, start: UInt64, isOpenLoop: Bool) {
        self.interval = 1e9 / rate * Double(shares)
        self.isOpenLoop = isOpenLoop
        self.origin = start + UInt64(1e9 / rate * Double(share))
    }

    /// When the next message is due.
    var due: UInt64 { self.origin + UInt64((Double(self.count) * self.interval).rounded()) }

    /// Goes on to the message after the next, which is published now.
    mutating func advance(now: UInt64) {
        let due = self.due
        if !self.isOpenLoop, now > due, now - due > Self.credit { self.origin += now - due - Self.credit }
        self.count += 1
    }
}
