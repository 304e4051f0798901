// SPDX-License-Identifier: Apache-2.0
private import DequeModule

// MandatoryPublishes: the keys of one channel's outstanding publishes with the mandatory flag, oldest first.
// basic.return names no delivery tag, so a return is matched by exchange, routing key and body length; the broker sends
// it before the basic.ack of the same publish. Settled entries leave from the front; those behind it become blanks.
// Part of ConfirmRing, which decides when a sequence number is outstanding.

/// The outstanding mandatory publishes of one channel, oldest first.
@usableFromInline
package struct MandatoryPublishes: Sendable {
    private struct Entry: Sendable {
        let sequence: UInt64
        var exchange: String
        var routingKey: String
        let bodyLength: Int
        var end: ConfirmRing.Outcome?
        var isSettled = false
    }

    private var entries = Deque<Entry>()

    @usableFromInline
    init() {}

    mutating func append(_ sequence: UInt64, exchange: String, routingKey: String, bodyLength: Int) {
        self.entries.append(
            Entry(sequence: sequence, exchange: exchange, routingKey: routingKey, bodyLength: bodyLength)
        )
    }

    /// Marks the oldest entry with this key that has not come back yet.
    mutating func receivedReturn(
        exchange: String,
        routingKey: String,
        bodyLength: Int,
        end: ConfirmRing.Outcome
    ) -> UInt64? {
        let index = self.entries.firstIndex { entry in
            !entry.isSettled && entry.end == nil && entry.bodyLength == bodyLength && entry.routingKey == routingKey
                && entry.exchange == exchange
        }
        guard let index else { return nil }
        self.entries[index].end = end
        return self.entries[index].sequence
    }

    /// The publish ended: answers `.returned` for one that came back and was then confirmed, else the outcome itself.
    @usableFromInline
    mutating func settle(_ sequence: UInt64, _ outcome: ConfirmRing.Outcome) -> ConfirmRing.Outcome {
        guard let index = self.index(of: sequence) else { return outcome }
        let end = outcome == .confirmed ? self.entries[index].end ?? outcome : outcome
        self.entries[index].isSettled = true
        self.entries[index].exchange = ""
        self.entries[index].routingKey = ""
        while let first = self.entries.first, first.isSettled { self.entries.removeFirst() }
        return end
    }

    mutating func removeAll() { self.entries.removeAll() }

    /// Binary search: entries are in the order of their numbers.
    private func index(of sequence: UInt64) -> Int? {
        var low = 0
        var high = self.entries.count
        while low < high {
            let middle = low + (high - low) / 2
            if self.entries[middle].sequence < sequence { low = middle + 1 } else { high = middle }
        }
        guard low < self.entries.count, self.entries[low].sequence == sequence else { return nil }
        return low
    }
}
