// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Arrived: what had to arrive in a run, and what of it is nowhere. All but the question to the broker is pure.

/// The arrivals of a run that is over.
struct Arrived: Sendable {
    var counts: Report.Counts
    var options: RunOptions
    /// Different messages of the run that arrived intact, or all that arrived where they have no number.
    var arrived: UInt64
    var corrupted: UInt64 = 0
    /// Numbers of whose publish nobody knows how it ended, because the connection was lost.
    var forgotten: UInt64 = 0
    /// Those of them that arrived all the same.
    var forgottenArrived: UInt64 = 0
    /// Whether consumers left what they had been sent.
    var isLeft = false

    /// Messages that consumers must get: those the broker took, or all without confirms.
    static func expected(_ counts: Report.Counts, _ options: RunOptions) -> UInt64 {
        !options.isConfirmed ? counts.published - min(counts.published, counts.returned) : counts.confirmed
    }

    /// Messages that the broker took and that did not arrive.
    var lost: UInt64 {
        let there = self.arrived + self.corrupted
        guard self.forgotten > 0 else {
            let expected = Self.expected(self.counts, self.options)
            return expected - min(expected, there)
        }
        // Told number by number: a message of unknown fate that arrived must not stand in for a lost one.
        let known = self.counts.published - min(self.counts.published, self.forgotten)
        let refused = self.counts.nacked + self.counts.returned
        let found = there - min(there, self.forgottenArrived)
        return known - min(known, found + refused)
    }

    /// What became of the messages that did not arrive.
    struct Verdict: Hashable, Sendable {
        /// The broker took them and they are nowhere.
        var lost: UInt64 = 0
        /// They are still in the queues.
        var inQueue: UInt64 = 0
        /// They may be lost, or not: `reason` says why nobody can tell.
        var unaccounted: UInt64 = 0
        var reason: String?
    }

    /// Divides what is missing.
    ///
    /// - Parameters:
    ///   - missing: Messages that the broker took and that did not arrive.
    ///   - inQueue: Messages that the broker says are in the queues.
    ///   - doubt: Why what is in neither place need not be lost; nil when it is.
    /// - Returns: Each of them counted once.
    static func verdict(missing: UInt64, inQueue: UInt64, doubt: String?) -> Verdict {
        var verdict = Verdict(inQueue: min(missing, inQueue))
        let left = missing - verdict.inQueue
        guard left > 0 else { return verdict }
        if let doubt {
            (verdict.unaccounted, verdict.reason) = (left, doubt)
        } else {
            verdict.lost = left
        }
        return verdict
    }

    /// The same of any run, asking the broker what is still in the queues.
    ///
    /// - Parameters:
    ///   - queue: The queues of the run.
    ///   - interruption: Whether a signal ended it.
    ///   - connection: Where to ask.
    /// - Returns: Lost is only what is proven to be.
    /// - Throws: `AMQPError`.
    func verdict(
        _ queue: QueueUnderTest,
        interruption: Interruption,
        on connection: AMQPConnection
    ) async throws -> Verdict {
        let options = self.options
        if options.producers == 0 {
            guard queue.isGenerated, interruption.signal == nil, options.exitWhen == nil else { return Verdict() }
            let expected = UInt64(options.count ?? 0)
            let missing = expected - min(expected, self.arrived + self.corrupted)
            return try await self.divide(missing, queue, interruption, on: connection)
        }
        // Other instances get some of it.
        if options.instances != nil { return Verdict() }
        if options.consumers > 0 { return try await self.divide(self.lost, queue, interruption, on: connection) }
        // Without consumers, what the broker took must be in the queue.
        guard options.isConfirmed else { return Verdict() }
        guard queue.isGenerated else { return Verdict(inQueue: self.counts.confirmed) }
        if options.sink != nil { return Verdict(inQueue: try await queue.state(on: connection).messages) }
        return try await self.divide(self.counts.confirmed, queue, interruption, on: connection)
    }

    private func divide(
        _ missing: UInt64,
        _ queue: QueueUnderTest,
        _ interruption: Interruption,
        on connection: AMQPConnection
    ) async throws -> Verdict {
        guard missing > 0 else { return Verdict() }
        if self.options.predeclared == true, self.options.exchange != nil {
            return Self.verdict(missing: missing, inQueue: 0, doubt: "the bindings of the exchange are not known")
        }
        if self.options.queueType == .stream {
            // A stream keeps what was consumed, and counts its messages by segments.
            let isConsumed = self.options.consumers > 0
            return Self.verdict(
                missing: missing,
                inQueue: 0,
                doubt: isConsumed ? nil : "the broker does not count the messages of a stream exactly"
            )
        }
        if self.options.isAutoDelete == true {
            return Self.verdict(
                missing: missing,
                inQueue: 0,
                doubt: "the broker deleted the queue with its last consumer"
            )
        }
        var (inQueue, consumers) = try await queue.state(on: connection)
        if self.isLeft {
            // Messages that closed channels return may take a moment.
            let deadline = ContinuousClock.now + .seconds(1)
            while inQueue < missing, ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(50))
                (inQueue, consumers) = try await queue.state(on: connection)
            }
        }
        let doubt = self.doubt(
            isInterrupted: interruption.signal != nil,
            isGenerated: queue.isGenerated,
            consumers: consumers
        )
        return Self.verdict(missing: missing, inQueue: inQueue, doubt: doubt)
    }

    /// Why a message that is in no queue need not be lost; nil when it is.
    ///
    /// - Parameters:
    ///   - isInterrupted: Whether a signal ended the run.
    ///   - isGenerated: Whether the queues are the run's own.
    ///   - consumers: Those that the broker still counts, though the run's own have been cancelled.
    /// - Returns: The reason.
    func doubt(isInterrupted: Bool, isGenerated: Bool, consumers: Int) -> String? {
        if let arguments = self.options.queueArguments, !arguments.isEmpty {
            return "the arguments of the queue (\(arguments.keys.sorted().joined(separator: ", "))) may drop messages"
        }
        if isInterrupted { return "the run was interrupted" }
        if self.isLeft, self.options.autoAck {
            return "consumers with --auto-ack were stopped before they took what they had been sent"
        }
        guard consumers > 0 else { return nil }
        // A quorum queue of RabbitMQ 4.3 keeps what a consumer of a lost node had for a minute.
        if self.options.resumes { return "the broker still holds what it sent to consumers whose connection was lost" }
        return isGenerated ? nil : "the queue has other consumers"
    }
}

extension Report.Verification {
    /// Takes over what became of the messages that did not arrive.
    mutating func take(_ verdict: Arrived.Verdict) {
        self.lost = verdict.lost
        self.inQueue = verdict.inQueue > 0 ? verdict.inQueue : nil
        self.unaccounted = verdict.unaccounted > 0 ? verdict.unaccounted : nil
        self.unaccountedReason = verdict.reason
    }
}

extension Arrived {
    /// Those of a load.
    init(_ load: Load, _ counts: Report.Counts, _ options: RunOptions, _ verify: Report.Verification) {
        let forgotten = load.ledger.forgottenCounts
        self.init(
            counts: counts,
            options: options,
            arrived: options.isNumbered ? verify.arrived : counts.consumed,
            corrupted: verify.corrupted,
            forgotten: forgotten.all,
            forgottenArrived: forgotten.arrived
        )
    }
}
