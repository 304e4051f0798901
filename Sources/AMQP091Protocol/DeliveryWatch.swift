// SPDX-License-Identifier: Apache-2.0

// DeliveryWatch: decides whether a consuming connection leaves a node at which publishes are not confirmed. A node that is
// cut off from its cluster keeps its clients since RabbitMQ 4 and answers their heartbeats, but its quorum queues deliver
// nothing, and a consumer cannot tell that from empty queues. What the publishing connection found out is the hint.
// Only a connection that loses nothing by it leaves: nothing was delivered for the limit, and nothing is unsettled.
// Pure: "now" is an argument; the owner checks several times within the limit.

/// Detects a connection without deliveries to a node that is suspected.
package struct DeliveryWatch: Sendable {
    private let limit: MonotonicNanoseconds
    private var delivered: UInt64 = 0
    private var lastDelivery: MonotonicNanoseconds
    private var idleSince: MonotonicNanoseconds

    /// - Parameters:
    ///   - limit: Shortest time in nanoseconds without a delivery.
    ///   - now: When the connection was made.
    package init(limit: MonotonicNanoseconds, now: MonotonicNanoseconds) {
        self.limit = limit
        self.lastDelivery = now
        self.idleSince = now
    }

    /// Checks the connection.
    ///
    /// - Parameters:
    ///   - delivered: Any number that is another one after each delivery.
    ///   - mayLeave: False while a reconnect would cost something, such as a delivery that is not settled.
    ///   - suspected: When a publish at the same address was last given up; nil for never.
    ///   - now: The time.
    /// - Returns: True to drop the connection.
    package mutating func look(
        delivered: UInt64,
        mayLeave: Bool,
        suspected: MonotonicNanoseconds?,
        now: MonotonicNanoseconds
    ) -> Bool {
        if delivered != self.delivered {
            self.delivered = delivered
            self.lastDelivery = now
            self.idleSince = now
        }
        if !mayLeave { self.idleSince = now }
        // A node that has delivered since is not cut off.
        guard let suspected, suspected >= self.lastDelivery else { return false }
        return now - min(now, self.idleSince) >= self.limit
    }
}
