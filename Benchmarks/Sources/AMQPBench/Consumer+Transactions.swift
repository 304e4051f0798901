// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Consumer+Transactions: what --consumer-tx-size makes of a consumer: its acknowledgements, one for --ack-every messages, are
// kept until so many messages have come, and sent with a commit.

/// The acknowledgements of the next commit.
struct SettlingTransaction {
    /// Messages of a transaction.
    let size: Int
    /// The deliveries up to which each acknowledgement reaches.
    var points: [AMQPDelivery] = []
    /// Messages that they reach.
    var count = 0

    init(size: Int) { self.size = size }

    /// Messages that are still missing to a commit.
    var left: Int { self.size - self.count }
}

extension Consumer {
    /// Keeps an acknowledgement, and commits when there are enough.
    func settle(
        _ delivery: AMQPDelivery,
        of count: Int,
        in transaction: inout SettlingTransaction?,
        on channel: AMQPChannel
    ) async throws {
        transaction?.points.append(delivery)
        transaction?.count += count
        if let left = transaction?.left, left <= 0 { try await self.commit(&transaction, on: channel) }
    }

    /// Sends what is kept, and waits for the commit.
    func commit(_ transaction: inout SettlingTransaction?, on channel: AMQPChannel) async throws {
        guard let points = transaction?.points, !points.isEmpty, channel.isOpen else { return }
        try await channel.withTransaction { _ in for point in points { try self.settle(point) } }
        transaction?.points = []
        transaction?.count = 0
    }
}
