// SPDX-License-Identifier: Apache-2.0
private import DequeModule

// ReceiptLedger: the state behind receipts of one channel: failures, and the waiters of each publish.
// A confirmed publish leaves no entry: settled and not failed means confirmed. The newest failures are kept up to
// a limit; older ones are reported as forgotten. Part of ConfirmTracker.
// Pure: no socket, clock, task or lock. Waiters are tokens of the owner's table.

/// The refused publishes of one channel, and the tasks that wait for an outcome.
@usableFromInline
package struct ReceiptLedger: Sendable {
    /// Maximum number of failures kept; about 100 octets each.
    package static let limit = 65_536

    private var refusals: [UInt64: ConfirmRing.Outcome] = [:]
    private var order = Deque<UInt64>()
    /// Failures at or below this number may be forgotten.
    package private(set) var forgottenThrough: UInt64 = 0
    /// Waiters for one publish, by its number.
    @usableFromInline var waiters: [UInt64: [Waiting]] = [:]
    /// Waiters for all publishes up to a number: that number by token.
    @usableFromInline var rangeWaiters: [UInt32: UInt64] = [:]
    /// Waiters for the reply to a publish, by its number; a failure of the publish ends the wait, too.
    private var calls: [UInt64: UInt32] = [:]

    @usableFromInline
    struct Waiting: Sendable {
        @usableFromInline let token: UInt32
        @usableFromInline let onlyRefusal: Bool
    }

    package init() {}

    /// Returns the failure of a publish; nil if there was none or it is forgotten.
    package func refusal(_ sequence: UInt64) -> ConfirmRing.Outcome? { self.refusals[sequence] }

    /// Registers a waiter for one publish.
    ///
    /// - Parameters:
    ///   - sequence: The publish.
    ///   - token: The task.
    ///   - onlyRefusal: True if a confirm does not wake it.
    package mutating func wait(for sequence: UInt64, token: UInt32, onlyRefusal: Bool = false) {
        self.waiters[sequence, default: []].append(Waiting(token: token, onlyRefusal: onlyRefusal))
    }

    /// Registers a waiter for every publish up to a number.
    package mutating func wait(through sequence: UInt64, token: UInt32) {
        self.rangeWaiters[token] = sequence
    }

    /// Registers a waiter for the reply to a publish.
    package mutating func expectReply(to sequence: UInt64, token: UInt32) {
        self.calls[sequence] = token
        self.wait(for: sequence, token: token, onlyRefusal: true)
    }

    /// Removes and returns the waiter for a reply.
    package mutating func replied(to sequence: UInt64) -> UInt32? {
        guard let token = self.calls.removeValue(forKey: sequence) else { return nil }
        self.forget(token, of: sequence)
        return token
    }

    /// Removes a waiter.
    package mutating func forget(_ token: UInt32, of sequence: UInt64) {
        if !self.rangeWaiters.isEmpty { self.rangeWaiters[token] = nil }
        if self.calls[sequence] == token { self.calls[sequence] = nil }
        guard let index = self.waiters.index(forKey: sequence) else { return }
        self.waiters.values[index].removeAll { $0.token == token }
        if self.waiters.values[index].isEmpty { self.waiters.remove(at: index) }
    }

    /// Records the end of a publish with a receipt.
    @inlinable
    package mutating func settled(_ sequence: UInt64, _ outcome: ConfirmRing.Outcome, wake: (UInt32) -> Void) {
        let isConfirmed = if case .confirmed = outcome { true } else { false }
        if !isConfirmed { self.remember(sequence, outcome) }
        guard !self.waiters.isEmpty, let waiting = self.waiters.removeValue(forKey: sequence) else { return }
        for waiting in waiting where !(isConfirmed && waiting.onlyRefusal) { wake(waiting.token) }
    }

    @usableFromInline
    @inline(never)
    mutating func remember(_ sequence: UInt64, _ refusal: ConfirmRing.Outcome) {
        self.refusals[sequence] = refusal
        if !self.calls.isEmpty { self.calls[sequence] = nil }
        self.order.append(sequence)
        if self.order.count > Self.limit, let oldest = self.order.popFirst() {
            self.refusals[oldest] = nil
            self.forgottenThrough = max(self.forgottenThrough, oldest)
        }
    }

    /// Records that every publish below `lowest` has ended.
    @inlinable
    package mutating func settled(below lowest: UInt64, wake: (UInt32) -> Void) {
        guard !self.rangeWaiters.isEmpty else { return }
        let due = self.rangeWaiters.compactMap { $0.value < lowest ? $0.key : nil }.sorted()
        for token in due {
            self.rangeWaiters[token] = nil
            wake(token)
        }
    }

    /// Removes and returns all waiters after the channel has ended.
    package mutating func takeWaiters() -> [UInt32] {
        defer {
            self.waiters = [:]
            self.rangeWaiters = [:]
            self.calls = [:]
        }
        // A call whose publish is unconfirmed is in both tables.
        return self.rangeWaiters.keys.sorted()
            + Set(self.waiters.values.flatMap { $0.map(\.token) }).union(self.calls.values).sorted()
    }
}
