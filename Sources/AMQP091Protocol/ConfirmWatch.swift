// SPDX-License-Identifier: Apache-2.0

// ConfirmWatch: notices that a connection that looks healthy is no good for publishing. A quorum queue whose leader was
// frozen or cut off can leave a publish without a word for good, while heartbeats go on; and a channel that was opened
// just after its leader went down can refuse every publish until that node is back.
// A broker that blocks publishers confirms nothing meanwhile, and that is no fault of its.
// Pure: "now" is an argument; the owner looks a few times within the limit.

/// The oldest unconfirmed publish of each channel of one connection, and what became of the others.
package struct ConfirmWatch<Channel: Hashable & Sendable>: Sendable {
    /// What a look sees of one channel.
    package struct Sight: Sendable {
        /// The sequence number of the oldest unconfirmed publish; nil when there is none.
        package var oldest: UInt64?
        package var hasConfirmed: Bool
        package var nacked: UInt64

        package init(oldest: UInt64?, hasConfirmed: Bool, nacked: UInt64) {
            self.oldest = oldest
            self.hasConfirmed = hasConfirmed
            self.nacked = nacked
        }
    }

    /// Why a connection is to be dropped.
    package enum Finding: Sendable {
        /// A publish was the oldest unconfirmed one for the limit.
        case silent
        /// For the limit of refusals a channel has refused one publish after the other, and never confirmed any.
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
    ///   - limit: How long a publish may be the oldest unconfirmed one, nanoseconds.
    ///   - refusalLimit: How long a channel may refuse everything, nanoseconds; a queue that is full does so too.
    package init(limit: MonotonicNanoseconds, refusalLimit: MonotonicNanoseconds) {
        self.limit = limit
        self.refusalLimit = refusalLimit
    }

    /// Looks at every channel.
    ///
    /// - Parameters:
    ///   - sights: Every channel with confirms.
    ///   - isBlocked: Whether the broker blocks publishers; time does not count then.
    ///   - now: The time.
    /// - Returns: Why the connection is to be dropped; nil when it is not.
    package mutating func look(
        at sights: some Sequence<(Channel, Sight)>,
        isBlocked: Bool,
        now: MonotonicNanoseconds
    ) -> Finding? {
        let (known, knownRefusals) = (self.channels, self.refusals)
        self.channels = [:]
        self.refusals = [:]
        guard !isBlocked else { return nil }
        var finding: Finding?
        for (channel, sight) in sights {
            if let sequence = sight.oldest {
                let since = known[channel].flatMap { $0.sequence == sequence ? $0.since : nil } ?? now
                self.channels[channel] = Oldest(sequence: sequence, since: since)
                if now - min(now, since) >= self.limit { finding = .silent }
            }
            if !sight.hasConfirmed, sight.nacked > 0 {
                let refusals = knownRefusals[channel] ?? Refusals(first: sight.nacked, since: now)
                self.refusals[channel] = refusals
                let goesOn = sight.nacked > refusals.first
                if goesOn, now - min(now, refusals.since) >= self.refusalLimit { finding = finding ?? .refusing }
            }
        }
        return finding
    }
}
