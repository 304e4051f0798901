// SPDX-License-Identifier: Apache-2.0
internal import AMQP091Wire
private import DequeModule

// MandatoryPublishes: the outstanding mandatory publishes of one channel, oldest first, to match each basic.return.
// A return has no number, but it carries the whole message: exchange, routing key, body
// and properties. It belongs to a publish that is equal in all of them; if several are, any of them is right.
// The broker sends returns in the order of the publishes, each before the basic.ack of its publish, so the search starts
// after the publish that was returned last. Settled entries are removed from the front; others become blanks.
// Part of ConfirmRing, which decides when a sequence number is outstanding. Not here: comparison of properties
// (ReturnedProperties).

/// The outstanding mandatory publishes of one channel, oldest first.
@usableFromInline
package struct MandatoryPublishes: Sendable {
    /// A hash of the parts that the broker never changes: exchange, routing key and body.
    package struct Mark: Hashable, Sendable {
        let value: UInt64

        /// Creates the mark of a message from the hash of its body.
        package init(exchange: String, routingKey: String, bodyHash: UInt64) {
            let names = OctetHash.combine(OctetHash.of(exchange), OctetHash.of(routingKey))
            self.value = OctetHash.combine(names, bodyHash)
        }
    }

    private struct Entry: Sendable {
        let sequence: UInt64
        let mark: Mark
        /// A single pointer; released when the entry is settled.
        var properties: BasicProperties
        var isReturned = false
        var isSettled = false
    }

    private var entries = Deque<Entry>()
    /// Outcomes of returned publishes once they are confirmed.
    private var ends: [UInt64: ConfirmRing.Outcome] = [:]
    /// Sequence numbers of returned publishes, by mark.
    private var returned: [Mark: Deque<UInt64>] = [:]
    /// The publish that was returned last.
    private var lastReturned: UInt64 = 0

    @usableFromInline
    init() {}

    mutating func append(_ sequence: UInt64, _ mark: Mark, _ properties: BasicProperties) {
        self.entries.append(Entry(sequence: sequence, mark: mark, properties: properties))
    }

    /// Marks the entry that equals the returned message, or is most similar, and was not returned yet.
    ///
    /// - Returns: Its number; nil if the message matches no outstanding publish.
    mutating func receivedReturn(
        _ mark: Mark,
        _ properties: ReturnedProperties,
        end: ConfirmRing.Outcome
    ) -> UInt64? {
        guard let index = self.closest(mark, properties, after: self.lastReturned) else { return nil }
        self.markReturned(index, end)
        self.lastReturned = self.entries[index].sequence
        return self.lastReturned
    }

    /// Ends a publish: returns `.returned` for a returned and then confirmed publish, else the outcome itself.
    ///
    /// The broker confirms a returned publish at once and never nacks it. So of equal publishes the first to be
    /// confirmed is the returned one.
    @usableFromInline
    mutating func settle(_ sequence: UInt64, _ outcome: ConfirmRing.Outcome) -> ConfirmRing.Outcome {
        let index = self.firstIndex(from: sequence)
        guard index < self.entries.count, self.entries[index].sequence == sequence else { return outcome }
        let entry = self.entries[index]
        self.entries[index].isSettled = true
        self.entries[index].properties = BasicProperties()
        defer { while let first = self.entries.first, first.isSettled { self.entries.removeFirst() } }
        if entry.isReturned {
            let end = self.unmarkReturned(entry) ?? outcome
            guard outcome != .confirmed else { return end }
            if let twin = self.closest(entry.mark, ReturnedProperties(entry.properties), after: sequence) {
                self.markReturned(twin, end)
            }
        } else if outcome == .confirmed, !self.ends.isEmpty, let twin = self.returnedTwin(of: entry) {
            self.entries[twin].isReturned = false
            return self.unmarkReturned(self.entries[twin]) ?? outcome
        }
        return outcome
    }

    private mutating func markReturned(_ index: Int, _ end: ConfirmRing.Outcome) {
        let entry = self.entries[index]
        self.entries[index].isReturned = true
        self.ends[entry.sequence] = end
        self.returned[entry.mark, default: []].append(entry.sequence)
    }

    private mutating func unmarkReturned(_ entry: Entry) -> ConfirmRing.Outcome? {
        if var sequences = self.returned.removeValue(forKey: entry.mark) {
            if let index = sequences.firstIndex(of: entry.sequence) { sequences.remove(at: index) }
            if !sequences.isEmpty { self.returned[entry.mark] = sequences }
        }
        return self.ends.removeValue(forKey: entry.sequence)
    }

    /// Returns a returned publish that equals this one.
    ///
    /// Examines few entries: it matters only if one of them is nacked later.
    private func returnedTwin(of entry: Entry) -> Int? {
        guard let sequences = self.returned[entry.mark] else { return nil }
        for sequence in sequences.prefix(8) {
            let index = self.firstIndex(from: sequence)
            if index < self.entries.count, self.entries[index].sequence == sequence,
                self.entries[index].properties == entry.properties
            {
                return index
            }
        }
        return nil
    }

    mutating func removeAll() {
        self.entries.removeAll()
        self.ends.removeAll()
        self.returned.removeAll()
    }

    /// Returns the open entry with this mark whose properties are equal, else most similar; the first from `sequence` on.
    private func closest(_ mark: Mark, _ properties: ReturnedProperties, after sequence: UInt64) -> Int? {
        let start = self.firstIndex(from: sequence + 1)
        var best: (index: Int, likeness: Int)?
        for indices in [start..<self.entries.count, 0..<start] {
            for index in indices where self.entries[index].mark == mark {
                guard !self.entries[index].isSettled, !self.entries[index].isReturned,
                    let likeness = properties.likeness(to: self.entries[index].properties)
                else { continue }
                guard likeness < .max else { return index }
                if likeness > best?.likeness ?? -1 { best = (index, likeness) }
            }
        }
        return best?.index
    }

    /// Finds the first entry with this number or a higher one by binary search.
    private func firstIndex(from sequence: UInt64) -> Int {
        var low = 0
        var high = self.entries.count
        while low < high {
            let middle = low + (high - low) / 2
            if self.entries[middle].sequence < sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
