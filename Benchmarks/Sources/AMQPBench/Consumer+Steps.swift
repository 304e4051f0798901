// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Consumer+Steps: a consumer that polls, or that acknowledges in transactions (--consumer-tx-size): its acknowledgements, one
// for --ack-every messages, are then kept until so many messages have come, and sent with a commit. It waits for the broker
// again and again, so its loop is not that of a usual consumer.

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
    /// Consumes until the messages end or nothing more is wanted.
    func consumeInSteps<Deliveries: AsyncSequence>(
        _ deliveries: Deliveries,
        on channel: AMQPChannel,
        _ progress: inout Progress
    ) async throws where Deliveries.Element == AMQPDelivery {
        let how = Checks(self.options)
        let work = self.options.consumerWork.flatMap { $0 > 0 ? $0 : nil }
        let ackEvery = self.options.ackEvery ?? .max
        var transaction = self.options.consumerTransactionSize.map { SettlingTransaction(size: $0) }
        var unacked = 0
        var last: AMQPDelivery?
        for try await delivery in deliveries {
            guard self.take(delivery, how, &progress) else { break }
            if let work { try await self.work(for: work) }
            self.consumed.add()
            unacked += 1
            last = delivery
            if unacked >= min(ackEvery, transaction?.left ?? .max) {
                try await self.settle(delivery, of: unacked, in: &transaction, on: channel)
                unacked = 0
                last = nil
                progress.entries.flush()
            }
        }
        if unacked > 0, self.options.ackEvery != nil, let last, channel.isOpen {
            try await self.settle(last, of: unacked, in: &transaction, on: channel)
        }
        try await self.commit(&transaction, on: channel)
    }

    /// Sends an acknowledgement or, in a transaction, keeps it, and commits when there are enough.
    private func settle(
        _ delivery: AMQPDelivery,
        of count: Int,
        in transaction: inout SettlingTransaction?,
        on channel: AMQPChannel
    ) async throws {
        guard transaction != nil else { return try self.settle(delivery) }
        transaction?.points.append(delivery)
        transaction?.count += count
        if let left = transaction?.left, left <= 0 { try await self.commit(&transaction, on: channel) }
    }

    /// Sends what is kept, and waits for the commit.
    private func commit(_ transaction: inout SettlingTransaction?, on channel: AMQPChannel) async throws {
        guard let points = transaction?.points, !points.isEmpty, channel.isOpen else { return }
        try await channel.withTransaction { _ in for point in points { try self.settle(point) } }
        transaction?.points = []
        transaction?.count = 0
    }
}
