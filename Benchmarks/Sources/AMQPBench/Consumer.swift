// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Consumer: takes what comes on one channel, checks it against the ledger and acknowledges in steps.

/// What one consumer found, when it has ended.
struct ConsumerFindings: Sendable {
    /// Messages that came behind one published after them.
    var reordered: UInt64 = 0
}

/// One consumer of a run.
struct Consumer: Sendable {
    let channel: AMQPChannel
    let options: RunOptions
    let ledger: Ledger
    let budget: Budget
    let consumed: Counter
    let redelivered: Counter
    /// Messages that another run left in the queue.
    let foreign: Counter
    let latency: LatencyMeter
    let sentLatency: LatencyMeter

    /// Consumes until the subscription is cancelled or the budget is spent.
    func consume(_ deliveries: AMQPDeliveries) async throws -> ConsumerFindings {
        var findings = ConsumerFindings()
        var entries = ConsumerLedger(self.ledger)
        // Bodies too short for a header are taken for the run's own.
        let isNumbered = self.options.size ?? MessageHeader.size >= MessageHeader.size
        let work = self.options.consumerWork.map { Duration.seconds($0) }
        let ackEvery = self.options.ackEvery ?? .max
        var unacked = 0
        // One at a time where there is an end: what a consumer took and does not get would be missing to the others.
        let share = self.options.count == nil ? 64 : 1
        var left = self.budget.take(upTo: share)
        var last: AMQPDelivery?
        guard left > 0 else { return findings }
        for try await delivery in deliveries {
            let isRedelivered = delivery.redelivered
            if isRedelivered { self.redelivered.add() }
            if let header = MessageHeader(delivery.body.bytes), entries.insert(header, isRedelivered: isRedelivered) {
                if header.due > 0 {
                    let now = MonotonicClock.now
                    self.latency.record(now - min(now, header.due))
                    if header.sent > 0 { self.sentLatency.record(now - min(now, header.sent)) }
                }
            } else if isNumbered {
                self.foreign.add()
            }
            if let work { try await Task.sleep(for: work, tolerance: .zero) }
            self.consumed.add()
            unacked += 1
            left -= 1
            if unacked >= ackEvery {
                try delivery.ack(multiple: true)
                unacked = 0
                last = nil
                entries.flush()
            } else {
                last = delivery
            }
            if left == 0 {
                left = self.budget.take(upTo: share)
                if left == 0 { break }
            }
        }
        entries.flush()
        if unacked > 0, self.options.ackEvery != nil, let last, self.channel.isOpen { try last.ack(multiple: true) }
        findings.reordered = entries.order.reordered
        return findings
    }
}
