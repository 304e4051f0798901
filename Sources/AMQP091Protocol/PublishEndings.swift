// SPDX-License-Identifier: Apache-2.0

// PublishEndings: the outcomes of the publishes of one channel: counts, the failures that no task
// waited for, and the receipts. Part of ConfirmTracker, which decides when a publish has ended.
// Pure: no socket, clock, task or lock. Waiters are tokens of the owner's table.

/// The outcomes of the publishes of one channel.
@usableFromInline
package struct PublishEndings: Sendable {
    /// The token of publishes whose outcome is queried later; never that of a waiter.
    @inlinable package static var receiptToken: UInt32 { .max }

    /// State of receipts.
    @usableFromInline package var receipts = ReceiptLedger()
    /// Number of publishes that were not confirmed.
    @usableFromInline package var nackedCount: UInt64 = 0
    @usableFromInline package var returnedCount: UInt64 = 0
    /// The first failure of a publish without a waiter, and their number, since the last `takeFailures`.
    package private(set) var firstFailure: ConfirmRing.Outcome?
    package private(set) var failedCount = 0

    package init() {}

    /// Records the outcome of a publish.
    ///
    /// - Parameters:
    ///   - sequence: Its number.
    ///   - token: Its waiter; 0 for none, or `receiptToken`.
    ///   - outcome: The outcome.
    ///   - wake: Called for each waiter to wake.
    @inlinable
    package mutating func publishEnded(
        _ sequence: UInt64,
        _ token: UInt32,
        _ outcome: ConfirmRing.Outcome,
        _ wake: (UInt32, ConfirmTracker.Wake) -> Void
    ) {
        switch outcome {
        case .confirmed: break
        case .nacked: self.nackedCount += 1
        case .returned: self.returnedCount += 1
        }
        if token == 0 {
            if outcome != .confirmed { self.failed(outcome) }
        } else if token == Self.receiptToken {
            self.receipts.settled(sequence, outcome) { wake($0, .outcome(outcome)) }
        } else {
            wake(token, .outcome(outcome))
        }
    }

    @usableFromInline
    mutating func failed(_ outcome: ConfirmRing.Outcome) {
        self.failedCount += 1
        if self.firstFailure == nil { self.firstFailure = outcome }
    }

    /// Returns the first failure of a publish without a waiter since the last call, and their number.
    package mutating func takeFailures() -> (first: ConfirmRing.Outcome, count: Int)? {
        defer {
            self.firstFailure = nil
            self.failedCount = 0
        }
        return self.firstFailure.map { ($0, self.failedCount) }
    }
}
