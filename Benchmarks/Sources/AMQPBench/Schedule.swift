// SPDX-License-Identifier: Apache-2.0

// Schedule: when a producer that keeps a rate publishes its messages. Pure; nanoseconds of the monotonic clock.
//
// Of all producers together, message n is due when the rate, or the profile of rates, says; they take turns. So it stays
// whatever happened to those before it. In an open loop a producer that was held up publishes all that has become due and
// counts latency from when it was due, so that a stall of the broker is seen in full. Elsewhere it leaves out what is more
// than 100 ms overdue, so that a stall is not followed by a burst, and tells when that was due: it belongs to the latencies.

/// The times at which one producer publishes.
struct Schedule: Sendable {
    /// What a producer outside an open loop may catch up with.
    static let credit: UInt64 = 100_000_000

    let profile: RateProfile
    let isOpenLoop: Bool
    private let share: UInt64
    private let shares: UInt64
    private let origin: UInt64
    private var count: UInt64 = 0

    /// A share of a profile of rates.
    ///
    /// - Parameters:
    ///   - profile: Messages per second of all producers together.
    ///   - share: Which of the producers this is, from 0.
    ///   - shares: How many producers there are.
    ///   - start: When the first producer publishes first.
    ///   - isOpenLoop: Whether to catch up without limit.
    init(profile: RateProfile, share: Int, of shares: Int, start: UInt64, isOpenLoop: Bool) {
        self.profile = profile
        self.isOpenLoop = isOpenLoop
        self.share = UInt64(share)
        self.shares = UInt64(shares)
        self.origin = start
    }

    /// A share of one rate.
    init(rate: Double, share: Int, of shares: Int, start: UInt64, isOpenLoop: Bool) {
        self.init(
            profile: RateProfile(parts: [.init(rate: rate, seconds: 1)]),
            share: share,
            of: shares,
            start: start,
            isOpenLoop: isOpenLoop
        )
    }

    /// When the next message is due.
    var due: UInt64 { self.origin + self.profile.due(self.count * self.shares + self.share) }

    /// Goes on to the message after the next, which is published now.
    ///
    /// - Returns: When the messages were due that are left out; nil for none.
    @discardableResult
    mutating func advance(now: UInt64) -> [UInt64]? {
        let due = self.due
        self.count += 1
        guard !self.isOpenLoop, now > due, now - due > Self.credit else { return nil }
        var omitted: [UInt64] = []
        while self.due < now - Self.credit {
            omitted.append(self.due)
            self.count += 1
        }
        return omitted
    }
}
