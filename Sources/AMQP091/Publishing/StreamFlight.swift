// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking

// StreamFlight: the messages of one stream whose outcomes were not reported yet, in order; each is reported exactly once.
// Not Sendable: used by one task, or by two that alternate (AMQPPublisher+Stream), so that code between two
// suspension points runs alone. After a suspension the state must be checked again.

final class StreamFlight {
    private enum Entry {
        case sent(AMQPPublishReceipt, until: MonotonicTime)
        /// The message was not published.
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
    /// Number of reported messages.
    private var told: UInt64 = 0
    private var hasEnded = false
    private var roomWaiter: Suspension<Void>?
    private var entryWaiter: Suspension<Void>?
    private(set) var summary = AMQPPublishSummary()
    /// True if another task reports outcomes.
    var hasTeller = false
    /// The reason why no more messages are taken.
    var failure: (any Error)?
    /// The reason why the outcome of a message was not known in time, after the last one was taken.
    private(set) var interruption: AMQPError?

    /// - Parameters:
    ///   - limit: Maximum number of messages in flight, 1 or more.
    ///   - onOutcome: Called for each message.
    init(limit: Int, onOutcome: ((AMQPPublishOutcome) -> Void)?) {
        self.limit = limit
        self.onOutcome = onOutcome
    }

    /// Number of unreported outcomes.
    var count: Int { self.entries.count }

    // MARK: the task that publishes

    func add(_ receipt: AMQPPublishReceipt, until deadline: MonotonicTime) {
        self.add(.sent(receipt, until: deadline))
        // A sequence that never suspends lets no other task run.
        if self.count.isMultiple(of: 64) { self.collect() }
    }

    func add(_ outcome: AMQPPublishOutcome) { self.add(.ended(outcome)) }

    private func add(_ entry: Entry) {
        self.entries.append(entry)
        self.entryWaiter.take()?.resume()
    }

    /// Records the end of the sequence.
    func end() {
        self.hasEnded = true
        self.entryWaiter.take()?.resume()
    }

    /// Waits until another message may be in flight.
    func waitForRoom(until deadline: MonotonicTime, isolation: isolated (any Actor)?) async throws(AMQPError) {
        guard self.count >= self.limit else { return }
        self.collect()
        if !self.hasTeller, self.count >= self.limit,
            case .sent(let receipt, let end) = self.entries[(self.limit - 1) / 2]
        {
            // Half of them at a time: one wake-up for many messages.
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

    /// Reports the known outcomes at the front.
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

    /// Waits for the oldest outcome and reports it, and the known ones after it; a late one is unknown.
    func tellOldest(isolation: isolated (any Actor)?) async {
        guard let oldest = self.entries.first else { return }
        if case .sent(let receipt, let deadline) = oldest, receipt.knownOutcome == nil {
            let number = self.told
            let outcome = await receipt.outcome(timeout: max(.zero, deadline - .now))
            // The other task may have reported it meanwhile.
            if self.told == number { self.tell(outcome) }
        }
        self.collect()
    }

    /// Reports all outcomes as they become known, until there are no more messages.
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
