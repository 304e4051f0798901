// SPDX-License-Identifier: Apache-2.0

// ConfirmWatch: notices that a confirm does not come on a connection that looks healthy. A quorum queue whose leader was
// frozen or cut off can leave a publish without a word for good, while heartbeats go on.
// A broker that blocks publishers confirms nothing meanwhile, and that is no fault of its.
// Pure: "now" is an argument; the owner looks a few times within the limit.

/// The oldest unconfirmed publish of each channel of one connection, and since when it is the oldest.
package struct ConfirmWatch<Channel: Hashable & Sendable>: Sendable {
    private struct Oldest {
        var sequence: UInt64
        var since: MonotonicNanoseconds
    }

    private let limit: MonotonicNanoseconds
    private var channels: [Channel: Oldest] = [:]

    /// - Parameter limit: How long a publish may be the oldest unconfirmed one, nanoseconds.
    package init(limit: MonotonicNanoseconds) { self.limit = limit }

    /// Looks at every channel.
    ///
    /// - Parameters:
    ///   - oldest: The sequence number of the oldest unconfirmed publish of each channel that has one.
    ///   - isBlocked: Whether the broker blocks publishers; time does not count then.
    ///   - now: The time.
    /// - Returns: Whether a channel has waited for the limit or longer.
    package mutating func look(
        oldest: some Sequence<(Channel, UInt64)>,
        isBlocked: Bool,
        now: MonotonicNanoseconds
    ) -> Bool {
        guard !isBlocked else {
            self.channels = [:]
            return false
        }
        var present: [Channel: Oldest] = [:]
        var isOverdue = false
        for (channel, sequence) in oldest {
            if let known = self.channels[channel], known.sequence == sequence {
                present[channel] = known
                if now >= known.since, now - known.since >= self.limit { isOverdue = true }
            } else {
                present[channel] = Oldest(sequence: sequence, since: now)
            }
        }
        self.channels = present
        return isOverdue
    }
}
