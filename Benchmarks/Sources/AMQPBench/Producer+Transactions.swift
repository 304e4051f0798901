// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking

// Producer+Transactions: what --tx-size makes of a producer: so many messages, then a commit. The commit is the confirm of
// all of them, and each is timed from when it was due, so that the first waits longest.

extension Producer {
    /// Publishes in transactions until the budget is spent or the run over; the last of them may be smaller.
    ///
    /// - Parameters:
    ///   - pace: The schedule; nil without one.
    ///   - station: Where to.
    ///   - size: Messages of a transaction.
    /// - Throws: `AMQPError`; what the open transaction held may be there, or not.
    func publishInTransactions(_ pace: inout Pace?, _ station: Station, size: Int) async throws {
        var body = self.bodies.octets
        var header = self.header
        var dues: [UInt64] = []
        dues.reserveCapacity(size)
        var isOver = false
        while !isOver, pace.map({ self.mayPublish($0) }) ?? !self.stop.isSet {
            if pace == nil, let backlog, backlog.isFull {
                try await backlog.wait(unless: self.stop) { try await self.clock.sleep(for: .milliseconds(1)) }
            }
            do {
                try await station.channel.withTransaction { channel in
                    while dues.count < size {
                        let due =
                            pace == nil
                            ? try await self.publishNext(&header, &body, on: channel)
                            : try await self.publishScheduled(&pace, &body, station)
                        guard let due else {
                            isOver = true
                            return
                        }
                        dues.append(due)
                        self.lane.opened.add()
                    }
                }
            } catch {
                let end = self.published.current
                self.ledger.forget(self.number, end - min(end, UInt64(dues.count))..<end)
                self.lane.abandon(dues)
                throw error
            }
            self.lane.commit(dues)
            dues.removeAll(keepingCapacity: true)
        }
    }

    /// Publishes a message of a load without a schedule; nil when there is none any more.
    private func publishNext(
        _ header: inout MessageHeader,
        _ body: inout [UInt8],
        on channel: AMQPChannel
    ) async throws -> UInt64? {
        guard !self.stop.isSet, self.budget.take(upTo: 1) == 1 else { return nil }
        let now = MonotonicClock.now
        header.due = now
        let size = self.bodies.write(header, to: &body)
        try await channel.publish(
            body.span.bytes.extracting(first: size),
            to: self.destinations[header.sequence],
            properties: self.properties
        )
        header.sequence += 1
        self.published.add()
        return now
    }

    /// Publishes the next message of a schedule when it is due; nil when there is none any more.
    private func publishScheduled(
        _ pace: inout Pace?,
        _ body: inout [UInt8],
        _ station: Station
    ) async throws -> UInt64? {
        guard var next = pace else { return nil }
        defer { pace = next }
        while self.mayPublish(next) {
            var now = MonotonicClock.now
            if next.due > now {
                let pause = max(next.due - now, Self.shortestSleep)
                try await self.sleep(until: .now + .nanoseconds(Int64(pause)))
                now = MonotonicClock.now
                if self.stop.isSet { continue }
            }
            let due = next.due
            if case .spent = try await self.publishDue(&next, &body, station, now: now) { return nil }
            return due
        }
        return nil
    }
}
