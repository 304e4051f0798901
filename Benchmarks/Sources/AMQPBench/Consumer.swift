// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Consumer: takes what comes on one channel, checks it against the ledger and acknowledges in steps.

/// What one consumer found, when it has ended.
struct ConsumerFindings: Sendable {
    /// Messages that came behind one published after them.
    var reordered: UInt64 = 0
    /// Messages whose checksum is wrong.
    var corrupted: UInt64 = 0
}

/// One consumer of a run.
struct Consumer: Sendable {
    let subscription: Subscription
    /// Seconds until it subscribes; nil when it has.
    let startDelay: Double?
    let options: RunOptions
    let ledger: Ledger
    /// The streams whose times are those of this machine's clock.
    let ownStreams: Range<UInt32>
    let budget: Budget
    let consumed: Counter
    let redelivered: Counter
    /// Messages that another run left in the queue.
    let foreign: Counter
    /// Set by the first delivery after the connection was lost.
    let recovered: StopFlag
    /// Makes the consumer leave what it was sent and has not taken.
    let hurry: StopFlag
    /// Set when it did.
    let hasLeft: StopFlag
    let latency: LatencyMeter
    let sentLatency: LatencyMeter

    /// What goes on over a lost connection.
    struct Progress {
        var findings = ConsumerFindings()
        var entries: ConsumerLedger
        var hasLost = false
    }

    /// Consumes until the subscription is cancelled or the budget is spent.
    func consume() async throws -> ConsumerFindings {
        var progress = Progress(entries: ConsumerLedger(self.ledger))
        var isStarted = self.startDelay == nil
        while true {
            do {
                if !isStarted {
                    guard try await self.waitForStart() else { break }
                    try await self.subscription.start()
                    isStarted = true
                }
                let channel = self.subscription.channel
                let deliveries = self.subscription.deliveries
                if let deliveries, self.options.consumerTransactionSize == nil {
                    try await self.consume(deliveries, on: channel, &progress)
                } else if let deliveries {
                    try await self.consumeInSteps(deliveries, on: channel, &progress)
                } else {
                    let polled = PolledDeliveries(self.subscription, self.options)
                    try await self.consumeInSteps(polled, on: channel, &progress)
                }
                break
            } catch let error as AMQPError where self.subscription.resumes(after: error) {
                progress.hasLost = true
                progress.entries.flush()
                try await self.subscription.renew()
                isStarted = true
            }
        }
        progress.entries.flush()
        progress.findings.reordered = progress.entries.order.reordered
        return progress.findings
    }

    /// Waits until the consumer may subscribe; false when nothing is wanted any more.
    private func waitForStart() async throws -> Bool {
        let end = ContinuousClock.now + .seconds(self.startDelay ?? 0)
        while !self.subscription.isEnded, case let left = end - .now, left > .zero {
            try await Task.sleep(for: min(left, .milliseconds(100)), tolerance: .zero)
        }
        return !self.subscription.isEnded
    }

    /// Acknowledges, or rejects, all up to a delivery.
    func settle(_ delivery: AMQPDelivery) throws(AMQPError) {
        if let requeues = self.options.nackRequeues {
            try delivery.nack(requeue: requeues, multiple: true)
        } else {
            try delivery.ack(multiple: true)
        }
    }

    /// Works on a message; long work ends early when nobody waits for it any more.
    func work(for seconds: Double) async throws {
        guard seconds > Self.shortWork else { return try await Task.sleep(for: .seconds(seconds), tolerance: .zero) }
        await Fault.sleep(seconds, until: self.hurry)
        try Task.checkCancellation()
    }

    /// Seconds.
    private static let shortWork = 0.05

    private func consume(
        _ deliveries: AMQPDeliveries,
        on channel: AMQPChannel,
        _ progress: inout Progress
    ) async throws {
        let how = Checks(self.options)
        let work = self.options.consumerWork.flatMap { $0 > 0 ? $0 : nil }
        let ackEvery = self.options.ackEvery ?? .max
        var unacked = 0
        var last: AMQPDelivery?
        for try await delivery in deliveries {
            guard self.take(delivery, how, &progress) else { break }
            if let work { try await self.work(for: work) }
            self.consumed.add()
            unacked += 1
            if unacked >= ackEvery {
                try self.settle(delivery)
                unacked = 0
                last = nil
                progress.entries.flush()
            } else {
                last = delivery
            }
        }
        if unacked > 0, self.options.ackEvery != nil, let last, channel.isOpen { try self.settle(last) }
    }

    /// How each message is checked.
    struct Checks {
        let isNumbered: Bool
        let isVerified: Bool
        /// A consumer takes from the budget what it has received: what it took before would be missing to the others.
        let isLimited: Bool

        init(_ options: RunOptions) {
            self.isNumbered = options.isNumbered
            self.isVerified = options.verify
            self.isLimited = options.count != nil && options.producers == 0
        }
    }

    /// Takes a message into the ledger and the latencies; false when it is not wanted any more.
    @inline(__always)
    func take(_ delivery: AMQPDelivery, _ how: Checks, _ progress: inout Progress) -> Bool {
        if self.hurry.isSet {
            self.hasLeft.set()
            return false
        }
        if how.isLimited, self.budget.take(upTo: 1) == 0 { return false }
        let isRedelivered = delivery.redelivered
        if isRedelivered { self.redelivered.add() }
        if progress.hasLost {
            self.recovered.set()
            self.subscription.noteDelivery()
            progress.hasLost = false
        }
        guard how.isNumbered else { return true }
        let body = delivery.body.bytes
        if how.isVerified, let header = MessageHeader(body), header.run == self.ledger.run, !Checksum.isRight(body) {
            progress.findings.corrupted += 1
        } else if let header = MessageHeader(body),
            case let isAgain = isRedelivered && progress.entries.hasArrived(header),
            progress.entries.insert(header, isRedelivered: isRedelivered)
        {
            // Its first arrival was timed.
            if header.due > 0, !isAgain, self.ownStreams.contains(header.stream) {
                let now = MonotonicClock.now
                self.latency.record(now - min(now, header.due), due: header.due)
                if header.sent > 0 { self.sentLatency.record(now - min(now, header.sent), due: header.due) }
            }
        } else {
            self.foreign.add()
        }
        return true
    }
}
