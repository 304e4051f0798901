// SPDX-License-Identifier: Apache-2.0

// ConfirmWatch: detects a live connection on which publishes are never confirmed. A quorum queue whose leader was
// frozen or partitioned can leave a publish unconfirmed forever while heartbeats arrive; and a channel that was opened
// just after its leader crashed can nack every publish until that node is back.
// Time in which the broker blocks publishers does not count.
// Pure: "now" is an argument; the owner checks several times within the limit.

/// Detects channels of one connection without confirms.
package struct ConfirmWatch<Channel: Hashable & Sendable>: Sendable {
    /// A snapshot of one channel.
    package struct Progress: Sendable {
        /// The sequence number of the oldest unconfirmed publish; nil if there is none.
        package var oldest: UInt64?
        package var hasConfirmed: Bool
        package var nacked: UInt64

        package init(oldest: UInt64?, hasConfirmed: Bool, nacked: UInt64) {
            self.oldest = oldest
            self.hasConfirmed = hasConfirmed
            self.nacked = nacked
        }
    }

    /// The reason to drop a connection.
    package enum Finding: Sendable {
        /// A publish was the oldest unconfirmed one for longer than the limit.
        case silent
        /// A channel has nacked every publish for longer than the refusal limit, and never confirmed one.
        case refusing
    }

    private struct Oldest {
        var sequence: UInt64
        var since: MonotonicNanoseconds
    }

    private struct Refusals {
        var first: UInt64
        var since: MonotonicNanoseconds
    }

    private let limit: MonotonicNanoseconds
    private let refusalLimit: MonotonicNanoseconds
    private var channels: [Channel: Oldest] = [:]
    private var refusals: [Channel: Refusals] = [:]

    /// - Parameters:
    ///   - limit: Longest time in nanoseconds for which a publish may be the oldest unconfirmed one.
    ///   - refusalLimit: Longest time in nanoseconds for which a channel may nack everything; a full queue does so too.
    package init(limit: MonotonicNanoseconds, refusalLimit: MonotonicNanoseconds) {
        self.limit = limit
        self.refusalLimit = refusalLimit
    }

    /// Checks every channel.
    ///
    /// - Parameters:
    ///   - channels: Every channel with confirms.
    ///   - isBlocked: True while the broker blocks publishers; that time does not count.
    ///   - now: The time.
    /// - Returns: The reason to drop the connection; nil for none.
    package mutating func look(
        at channels: some Sequence<(Channel, Progress)>,
        isBlocked: Bool,
        now: MonotonicNanoseconds
    ) -> Finding? {
        let (known, knownRefusals) = (self.channels, self.refusals)
        self.channels = [:]
        self.refusals = [:]
        guard !isBlocked else { return nil }
        var finding: Finding?
        for (channel, progress) in channels {
            if let sequence = progress.oldest {
                let since = known[channel].flatMap { $0.sequence == sequence ? $0.since : nil } ?? now
                self.channels[channel] = Oldest(sequence: sequence, since: since)
                if now - min(now, since) >= self.limit { finding = .silent }
            }
            if !progress.hasConfirmed, progress.nacked > 0 {
                let refusals = knownRefusals[channel] ?? Refusals(first: progress.nacked, since: now)
                self.refusals[channel] = refusals
                let goesOn = progress.nacked > refusals.first
                if goesOn, now - min(now, refusals.since) >= self.refusalLimit { finding = finding ?? .refusing }
            }
        }
        return finding
    }
}
