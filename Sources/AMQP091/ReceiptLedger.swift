// SPDX-License-Identifier: Apache-2.0
import DequeModule

// ReceiptLedger: what a channel remembers for receipts: the refusals, and who waits for which publish now.
// A confirmed publish leaves nothing behind: settled and not refused means confirmed. Of refusals the newest are kept up
// to a limit; for older ones the ledger says that it has forgotten. Guarded by the connection's lock; waiters are
// tokens of the WaiterTable.

struct ReceiptLedger {
    /// Refusals kept; each some 100 octets.
    static let limit = 65_536

    private var refusals: [UInt64: PublishOutcome] = [:]
    private var order = Deque<UInt64>()
    /// No refusal at or below this number is remembered for sure.
    private(set) var forgottenThrough: UInt64 = 0
    /// Waiters of one publish, by its number.
    private var waiters: [UInt64: [Waiting]] = [:]
    /// Waiters for everything up to a number.
    private var rangeWaiters: [(through: UInt64, token: UInt32)] = []
    /// Who waits for a reply to a publish, by its number; a refusal of the publish ends that wait too.
    private var calls: [UInt64: UInt32] = [:]

    private struct Waiting {
        let token: UInt32
        let onlyRefusal: Bool
    }

    /// How a publish was refused; nil when it was not, or that is forgotten.
    func refusal(_ sequence: UInt64) -> PublishOutcome? { self.refusals[sequence] }

    /// A task waits for one publish.
    ///
    /// - Parameters:
    ///   - sequence: The publish.
    ///   - token: The task.
    ///   - onlyRefusal: Whether it is not to be woken by a confirm.
    mutating func wait(for sequence: UInt64, token: UInt32, onlyRefusal: Bool = false) {
        self.waiters[sequence, default: []].append(Waiting(token: token, onlyRefusal: onlyRefusal))
    }

    /// A task waits for every publish up to a number.
    mutating func wait(through sequence: UInt64, token: UInt32) {
        self.rangeWaiters.append((sequence, token))
    }

    /// A task waits for the reply to a publish.
    mutating func expectReply(to sequence: UInt64, token: UInt32) {
        self.calls[sequence] = token
        self.wait(for: sequence, token: token, onlyRefusal: true)
    }

    /// A reply came: who waits for it.
    mutating func replied(to sequence: UInt64) -> UInt32? {
        guard let token = self.calls.removeValue(forKey: sequence) else { return nil }
        self.forget(token, of: sequence)
        return token
    }

    /// A task waits no longer.
    mutating func forget(_ token: UInt32, of sequence: UInt64) {
        self.rangeWaiters.removeAll { $0.token == token }
        if self.calls[sequence] == token { self.calls[sequence] = nil }
        guard let index = self.waiters.index(forKey: sequence) else { return }
        self.waiters.values[index].removeAll { $0.token == token }
        if self.waiters.values[index].isEmpty { self.waiters.remove(at: index) }
    }

    /// A publish with a receipt ended.
    mutating func settled(_ sequence: UInt64, _ outcome: PublishOutcome, wake: (UInt32) -> Void) {
        let isConfirmed = if case .confirmed = outcome { true } else { false }
        if !isConfirmed {
            self.refusals[sequence] = outcome
            if !self.calls.isEmpty { self.calls[sequence] = nil }
            self.order.append(sequence)
            if self.order.count > Self.limit, let oldest = self.order.popFirst() {
                self.refusals[oldest] = nil
                self.forgottenThrough = max(self.forgottenThrough, oldest)
            }
        }
        guard !self.waiters.isEmpty, let waiting = self.waiters.removeValue(forKey: sequence) else { return }
        for waiting in waiting where !(isConfirmed && waiting.onlyRefusal) { wake(waiting.token) }
    }

    /// Everything below `lowest` has ended.
    mutating func settled(below lowest: UInt64, wake: (UInt32) -> Void) {
        guard !self.rangeWaiters.isEmpty else { return }
        self.rangeWaiters.removeAll { waiting in
            guard waiting.through < lowest else { return false }
            wake(waiting.token)
            return true
        }
    }

    /// The channel is gone: every waiter.
    mutating func takeWaiters() -> [UInt32] {
        defer {
            self.waiters = [:]
            self.rangeWaiters = []
            self.calls = [:]
        }
        // A call whose publish is unconfirmed stands in both places.
        return self.rangeWaiters.map(\.token)
            + Set(self.waiters.values.flatMap { $0.map(\.token) }).union(self.calls.values)
    }
}
