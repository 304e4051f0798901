// SPDX-License-Identifier: Apache-2.0
private import DequeModule

// ReceiptLedger: what a channel remembers for receipts: the refusals, and the waiters of each publish.
// A confirmed publish leaves nothing behind: settled and not refused means confirmed. The newest refusals are kept up to
// a limit; for older ones the ledger says that it has forgotten. Part of ConfirmTracker.
// Pure: no socket, clock, task or lock. Waiters are tokens of the owner's table.

/// The refused publishes of one channel, and the tasks that wait for an outcome.
@usableFromInline
package struct ReceiptLedger: Sendable {
    /// Refusals kept; each some 100 octets.
    package static let limit = 65_536

    private var refusals: [UInt64: ConfirmRing.Outcome] = [:]
    private var order = Deque<UInt64>()
    /// No refusal at or below this number is remembered for sure.
    package private(set) var forgottenThrough: UInt64 = 0
    /// Waiters of one publish, by its number.
    @usableFromInline var waiters: [UInt64: [Waiting]] = [:]
    /// Waiters for everything up to a number: that number by token.
    @usableFromInline var rangeWaiters: [UInt32: UInt64] = [:]
    /// Who waits for a reply to a publish, by its number; a refusal of the publish ends that wait too.
    private var calls: [UInt64: UInt32] = [:]

    @usableFromInline
    struct Waiting: Sendable {
        @usableFromInline let token: UInt32
        @usableFromInline let onlyRefusal: Bool
    }

    package init() {}

    /// How a publish was refused; nil when it was not, or that is forgotten.
    package func refusal(_ sequence: UInt64) -> ConfirmRing.Outcome? { self.refusals[sequence] }

    /// A task waits for one publish.
    ///
    /// - Parameters:
    ///   - sequence: The publish.
    ///   - token: The task.
    ///   - onlyRefusal: Whether it is not to be woken by a confirm.
    package mutating func wait(for sequence: UInt64, token: UInt32, onlyRefusal: Bool = false) {
        self.waiters[sequence, default: []].append(Waiting(token: token, onlyRefusal: onlyRefusal))
    }

    /// A task waits for every publish up to a number.
    package mutating func wait(through sequence: UInt64, token: UInt32) {
        self.rangeWaiters[token] = sequence
    }

    /// A task waits for the reply to a publish.
    package mutating func expectReply(to sequence: UInt64, token: UInt32) {
        self.calls[sequence] = token
        self.wait(for: sequence, token: token, onlyRefusal: true)
    }

    /// A reply came: who waits for it.
    package mutating func replied(to sequence: UInt64) -> UInt32? {
        guard let token = self.calls.removeValue(forKey: sequence) else { return nil }
        self.forget(token, of: sequence)
        return token
    }

    /// A task waits no longer.
    package mutating func forget(_ token: UInt32, of sequence: UInt64) {
        if !self.rangeWaiters.isEmpty { self.rangeWaiters[token] = nil }
        if self.calls[sequence] == token { self.calls[sequence] = nil }
        guard let index = self.waiters.index(forKey: sequence) else { return }
        self.waiters.values[index].removeAll { $0.token == token }
        if self.waiters.values[index].isEmpty { self.waiters.remove(at: index) }
    }

    /// A publish with a receipt ended.
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

    /// Everything below `lowest` has ended.
    @inlinable
    package mutating func settled(below lowest: UInt64, wake: (UInt32) -> Void) {
        guard !self.rangeWaiters.isEmpty else { return }
        for (token, through) in self.rangeWaiters where through < lowest {
            self.rangeWaiters[token] = nil
            wake(token)
        }
    }

    /// The channel is gone: every waiter.
    package mutating func takeWaiters() -> [UInt32] {
        defer {
            self.waiters = [:]
            self.rangeWaiters = [:]
            self.calls = [:]
        }
        // A call whose publish is unconfirmed stands in both places.
        return Array(self.rangeWaiters.keys)
            + Set(self.waiters.values.flatMap { $0.map(\.token) }).union(self.calls.values)
    }
}
