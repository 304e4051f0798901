// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking

// StreamFlight: the messages of one stream whose outcomes were not told yet, in order, each told exactly once.
// Not sendable: used by one task, or by two that take turns (AMQPPublisher+Stream), so that every stretch between two
// suspension points runs alone. Whoever suspends looks again at what may have changed meanwhile.

final class StreamFlight {
    private enum Entry {
        case sent(AMQPPublishReceipt, until: MonotonicTime)
        /// It was not published.
        case ended(AMQPPublishOutcome)

        var known: AMQPPublishOutcome? {
            switch self {
            case .sent(let receipt, _): receipt.knownOutcome
            case .ended(let outcome): outcome
            }
        }
    }

    private let limit: Int
    private let onOutcome: ((AMQPPublishOutcome) -> Void)?
    private var entries = Deque<Entry>()
    /// Messages told of so far.
    private var told: UInt64 = 0
    private var hasEnded = false
    private var roomWaiter: Suspension<Void>?
    private var entryWaiter: Suspension<Void>?
    private(set) var summary = AMQPPublishSummary()
    /// Another task tells outcomes.
    var hasTeller = false
    /// Why no more messages are taken.
    var failure: (any Error)?
    /// Why the outcome of a message was not known in its time, after the last one was taken.
    private(set) var interruption: AMQPError?

    /// - Parameters:
    ///   - limit: Messages at which the stream pauses, 1 or more.
    ///   - onOutcome: Told of each message.
    init(limit: Int, onOutcome: ((AMQPPublishOutcome) -> Void)?) {
        self.limit = limit
        self.onOutcome = onOutcome
    }

    /// How many outcomes are still to be told.
    var count: Int { self.entries.count }

    // MARK: the task that publishes

    func add(_ receipt: AMQPPublishReceipt, until deadline: MonotonicTime) {
        self.add(.sent(receipt, until: deadline))
        // A sequence that never suspends leaves nobody else a turn.
        if self.count.isMultiple(of: 64) { self.collect() }
    }

    func add(_ outcome: AMQPPublishOutcome) { self.add(.ended(outcome)) }

    private func add(_ entry: Entry) {
        self.entries.append(entry)
        self.entryWaiter.take()?.resume()
    }

    /// No more messages come.
    func end() {
        self.hasEnded = true
        self.entryWaiter.take()?.resume()
    }

    /// Waits until the stream may have one more message in flight.
    func waitForRoom(until deadline: MonotonicTime, isolation: isolated (any Actor)?) async throws(AMQPError) {
        guard self.count >= self.limit else { return }
        self.collect()
        if !self.hasTeller, self.count >= self.limit,
            case .sent(let receipt, let end) = self.entries[(self.limit - 1) / 2]
        {
            // Half of them at a time: one wake-up for many.
            _ = await receipt.outcome(timeout: max(.zero, end - .now))
            self.collect()
        }
        while self.count >= self.limit {
            if self.hasTeller {
                await withSuspension { self.roomWaiter = $0 }
            } else {
                await self.tellOldest(isolation: isolation)
            }
        }
        guard MonotonicTime.now < deadline else {
            throw AMQPError(.timedOut, "the deadline passed before there was room", isSafeToRetry: true)
        }
    }

    // MARK: telling

    /// Tells those at the front whose outcome is known.
    private func collect() {
        while let outcome = self.entries.first?.known { self.tell(outcome) }
    }

    private func tell(_ outcome: AMQPPublishOutcome) {
        self.entries.removeFirst()
        self.told += 1
        self.summary.add(outcome)
        if self.hasEnded, self.interruption == nil, case .unknown(let reason) = outcome { self.interruption = reason }
        self.onOutcome?(outcome)
        if self.count < self.limit { self.roomWaiter.take()?.resume() }
    }

    /// Waits for the oldest outcome and tells it, and the known ones after it; one that does not come in time is unknown.
    func tellOldest(isolation: isolated (any Actor)?) async {
        guard let oldest = self.entries.first else { return }
        if case .sent(let receipt, let deadline) = oldest, receipt.knownOutcome == nil {
            let number = self.told
            let outcome = await receipt.outcome(timeout: max(.zero, deadline - .now))
            // The other task may have told it meanwhile.
            if self.told == number { self.tell(outcome) }
        }
        self.collect()
    }

    /// Tells all outcomes as they become known, until there are no more messages.
    func tellAll(isolation: isolated (any Actor)?) async {
        while true {
            if self.count > 0 {
                await self.tellOldest(isolation: isolation)
            } else if self.hasEnded {
                return
            } else {
                await withSuspension { self.entryWaiter = $0 }
            }
        }
    }
}
