// SPDX-License-Identifier: Apache-2.0
import DequeModule

// ReadyEntries: the messages of one queue that nobody holds, highest priority first, oldest first within one. A message
// that comes back takes its old place, found by its sequence number.

/// One message in one queue.
struct QueueEntry {
    var message: Message
    /// Its place in the queue.
    let sequence: UInt64
    /// The moment it expires, monotonic nanoseconds; .max for never.
    var expires: UInt64
    /// How often it was delivered and came back.
    var returns: Int = 0
    var isRedelivered = false
}

struct ReadyEntries {
    /// One deque per priority; the last is the highest.
    private var levels: [Deque<QueueEntry>]
    private(set) var count = 0
    /// Octets of bodies.
    private(set) var octets = 0

    init(maximumPriority: UInt8?) {
        self.levels = Array(repeating: [], count: Int(maximumPriority ?? 0) + 1)
    }

    private func level(of message: Message) -> Int {
        self.levels.count == 1 ? 0 : min(Int(message.header.priority), self.levels.count - 1)
    }

    mutating func append(_ entry: QueueEntry) {
        self.levels[self.level(of: entry.message)].append(entry)
        self.counted(entry, 1)
    }

    /// Puts entries back where they were.
    mutating func restore(_ entries: some Sequence<QueueEntry>) {
        for entry in entries.sorted(by: { $0.sequence > $1.sequence }) {
            let level = self.level(of: entry.message)
            self.counted(entry, 1)
            guard let first = self.levels[level].first, first.sequence < entry.sequence else {
                self.levels[level].prepend(entry)
                continue
            }
            var low = 0
            var high = self.levels[level].count
            while low < high {
                let middle = (low + high) / 2
                if self.levels[level][middle].sequence < entry.sequence { low = middle + 1 } else { high = middle }
            }
            self.levels[level].insert(entry, at: low)
        }
    }

    var first: QueueEntry? {
        if self.levels.count == 1 { return self.levels[0].first }
        return self.levels.last { !$0.isEmpty }?.first
    }

    mutating func popFirst() -> QueueEntry? {
        guard let level = self.levels.lastIndex(where: { !$0.isEmpty }) else { return nil }
        let entry = self.levels[level].removeFirst()
        self.counted(entry, -1)
        return entry
    }

    mutating func removeAll() -> [QueueEntry] {
        defer {
            self.levels = Array(repeating: [], count: self.levels.count)
            self.count = 0
            self.octets = 0
        }
        return self.levels.reversed().flatMap { $0 }
    }

    private mutating func counted(_ entry: QueueEntry, _ sign: Int) {
        self.count += sign
        self.octets += sign * entry.message.header.bodyCount
    }

    /// The expiry of each level's head: the heads are what can expire.
    var nextExpiry: UInt64 { self.levels.reduce(.max) { min($0, $1.first?.expires ?? .max) } }

    /// Takes the heads that have expired.
    mutating func popExpired(now: UInt64) -> QueueEntry? {
        for level in self.levels.indices {
            if let first = self.levels[level].first, first.expires <= now {
                self.levels[level].removeFirst()
                self.counted(first, -1)
                return first
            }
        }
        return nil
    }
}
